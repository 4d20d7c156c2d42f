"""docker-compose.yml as the engine would see it: anchors merged, variables replaced by what is given, or by default."""

import re
from functools import cache
from typing import Any

import yaml

from tests.architecture.tree import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(:-(?P<default>[^}]*))?\}")


@cache
def document(**given: str) -> dict[str, Any]:
    resolved = VARIABLE.sub(lambda match: given.get(match["name"], match["default"] or ""), TEXT)
    loaded: dict[str, Any] = yaml.safe_load(resolved.replace("$$", "$"))
    return loaded


def services(**given: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document(**given)["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    return {name: service for name, service in services().items() if service["image"].startswith("tidemill:")}


def once() -> set[str]:
    """The services that end by themselves: somebody waits for their completion."""
    waits = (service.get("depends_on", {}) for service in services().values())
    return {
        name
        for wait in waits
        for name, how in wait.items()
        if how["condition"] == "service_completed_successfully"
    }


def endless() -> set[str]:
    return services().keys() - once()
