"""Where the servers come from: given by the environment, from Docker, or run natively; and why."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidemill.devstack.errors import DevstackError
from tidemill.devstack.shell import output
from tidemill.devstack.state import Origin


@dataclass(frozen=True)
class GivenServers:
    """Servers that somebody else runs."""

    database_url: str
    kafka_bootstrap: str
    registry_url: str | None


@dataclass(frozen=True)
class Location:
    """The way that was chosen, with the reason in words; `given` only for given servers."""

    origin: Origin
    reason: str
    given: GivenServers | None = None


def given_servers(environ: Mapping[str, str], prefix: str) -> GivenServers | None:
    """What the variables `<prefix>DATABASE_URL` and so on name; half of it is an error."""
    database, broker, registry = (
        environ.get(prefix + name) or None for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP", "REGISTRY_URL")
    )
    if database and broker:
        return GivenServers(database, broker, registry)
    if database or broker:
        there, absent = ("DATABASE_URL", "KAFKA_BOOTSTRAP")[:: 1 if database else -1]
        raise DevstackError(
            f"{prefix}{there} is set but {prefix}{absent} is not: set both to use given servers, "
            "or unset both to have them started for you"
        )
    return None


def docker_answers() -> bool:
    """Whether a Docker daemon answers (a client on the path alone says nothing)."""
    if shutil.which("docker") is None:
        return False
    version = output(["docker", "version", "--format", "{{.Server.Version}}"], timeout_s=5)
    compose = output(["docker", "compose", "version"], timeout_s=5)
    return bool(version and version.strip()) and compose is not None


def locate(
    *,
    prefix: str = "TIDEMILL_",
    made_with: Origin | None = None,
    environ: Mapping[str, str] | None = None,
    docker: Callable[[], bool] = docker_answers,
) -> Location:
    """Given servers, else what the stack was made with (its data are there), else Docker, else native."""
    given = given_servers(os.environ if environ is None else environ, prefix)
    if given is not None:
        return Location("given", f"{prefix}DATABASE_URL and {prefix}KAFKA_BOOTSTRAP are set", given)
    if made_with is not None:
        return Location(made_with, "this stack was made so, and its data are there")
    if docker():
        return Location("docker", "a Docker daemon answers")
    return Location("native", f"no {prefix}DATABASE_URL is set and no Docker daemon answers")
