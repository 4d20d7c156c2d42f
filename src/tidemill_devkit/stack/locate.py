"""Where the servers come from: given by the environment, from Docker, or run natively; and why."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidemill_devkit.stack.given import GivenServers, given_servers
from tidemill_devkit.stack.shell import output
from tidemill_devkit.stack.state import Origin


@dataclass(frozen=True)
class Location:
    """The way that was chosen, with the reason in words; `given` only for given servers."""

    origin: Origin
    reason: str
    given: GivenServers | None = None


def docker_answers() -> bool:
    """Whether a Docker daemon answers (a client on the path alone says nothing)."""
    if shutil.which("docker") is None:
        return False
    version = output(["docker", "version", "--format", "{{.Server.Version}}"], timeout_s=5)
    compose = output(["docker", "compose", "version"], timeout_s=5)
    return bool(version and version.strip()) and compose is not None


def locate(
    *,
    prefix: str | None = "TIDEMILL_",
    made_with: Origin | None = None,
    own: GivenServers | None = None,
    environ: Mapping[str, str] | None = None,
    docker: Callable[[], bool] = docker_answers,
) -> Location:
    """Given servers, else what the stack was made with (its data are there), else Docker, else native.

    `own` are the addresses of the stack itself: exporting what `up` printed selects that stack.
    """
    variables = os.environ if environ is None else environ
    given = given_servers(variables, prefix) if prefix is not None else None
    if given is not None and not _same(given, own):
        return Location("given", f"{prefix}DATABASE_URL and {prefix}KAFKA_BOOTSTRAP are set", given)
    if made_with is not None:
        return Location(made_with, "this stack was made so, and its data are there")
    if docker():
        return Location("docker", "a Docker daemon answers")
    return Location("native", "no servers are given and no Docker daemon answers")


def _same(given: GivenServers, own: GivenServers | None) -> bool:
    return own is not None and (given.database_url, given.kafka_bootstrap) == (
        own.database_url,
        own.kafka_bootstrap,
    )
