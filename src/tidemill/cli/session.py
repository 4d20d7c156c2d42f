"""What a verb starts from: the settings of this call and the deployment they describe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tidemill.app.admin import Admin
    from tidemill.app.deployment import Deployment
    from tidemill.settings import Settings

T = TypeVar("T")

env_file: Path | None = None
"""The file given as `--env-file`; set before any verb runs."""

read_by_program: bool = False
"""Whether the verb was called with `--json`; its errors are then told as JSON, too."""

_settings: Settings | None = None


def settings() -> Settings:
    """Return the settings of this call. Raises `UsageError`."""
    from tidemill.app.settings_source import configuration

    global _settings  # noqa: PLW0603  read once, and kept so that an error can be printed without its secrets
    _settings = configuration(env_file)
    return _settings


def remember_reader(as_json: bool) -> bool:
    """Take note of the flag `--json` of this call."""
    global read_by_program  # noqa: PLW0603  it says how this call is answered, to its end
    read_by_program = as_json
    return as_json


def use(chosen: Settings) -> Deployment:
    """Take settings that the verb has made itself; return the deployment that they describe."""
    from tidemill.app.run import deployment_of

    global _settings  # noqa: PLW0603  as above
    _settings = chosen
    return deployment_of(chosen)


def deployment() -> Deployment:
    """Return the deployment that the settings describe. Raises `UsageError`, `ContractError`."""
    from tidemill.app.run import deployment_of

    return deployment_of(settings())


def ask(question: Callable[[Admin], Awaitable[T]]) -> T:
    """Return the answer to a question about the deployment that the settings describe. Raises what it raises."""
    from tidemill.app.actions import run_question

    return run_question(deployment(), question)


def act(action: str, work: Callable[[Admin], Awaitable[T]], **concerns: str | int | bool | None) -> T:
    """Do what the operator decided, between two entries of the journal; `concerns`: what, by name, and the reason.

    Raises what `work` raises, and what the journal raises: then nothing was done.
    """
    from tidemill.app.actions import run_action
    from tidemill.security.by_hand import HandAction

    return run_action(deployment(), HandAction(action, concerns), work)


def address_hint(server: str) -> str | None:
    """Return the next step for a server that is unavailable: its expected address, and the variable that sets it."""
    if _settings is None:
        return None
    url = _settings.database.url
    named = {
        "database": (
            "TIDEMILL_DATABASE_URL",
            url and urlsplit(url.get_secret_value()).netloc.rpartition("@")[2],
        ),
        "kafka": ("TIDEMILL_KAFKA_BOOTSTRAP", _settings.kafka.bootstrap),
        "registry": ("TIDEMILL_REGISTRY_URL", _settings.registry.url),
        "lake": ("TIDEMILL_LAKE_ROOT", _settings.lake.root),
    }
    variable, address = named.get(server, ("", None))
    if not address:
        return None
    own = "" if server == "lake" else "; servers of this checkout: `tidemill dev status`"
    return f"It is expected at {address}: check that it runs, or correct {variable}{own}"


def without_secrets(text: str) -> str:
    """Return `text` without the secrets of this call."""
    if _settings is None:
        return text
    from tidemill.app.run import redacted

    return redacted(_settings, text)
