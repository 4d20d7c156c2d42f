"""What the native way needs on this machine, and how it gets into the cache."""

import os
from collections.abc import Callable
from pathlib import Path

from tidemill_devkit.stack import classes, debian, java, kafka, postgres, registry
from tidemill_devkit.stack.cache import Part, ensure
from tidemill_devkit.stack.errors import MissingPrerequisiteError
from tidemill_devkit.stack.progress import StackProgress

Build = Callable[[Path], None]

CHOICES = (
    (
        "give servers: set TIDEMILL_DATABASE_URL and TIDEMILL_KAFKA_BOOTSTRAP "
        "(and TIDEMILL_REGISTRY_URL); for tests TIDEMILL_TEST_DATABASE_URL and so on"
    ),
    "start a Docker daemon: the servers then run in containers",
    "install what is missing and run the same command again (as root, where root is named)",
)


def missing(cache: Path) -> list[str]:
    """Everything that this machine lacks for the native way, in words."""
    lacking = java.missing_for_running()
    if not (kafka.PART.is_installed(cache) and registry.PART.is_installed(cache)):
        lacking += java.missing_for_installing()
    if postgres.from_host(cache) is None:
        if not debian.PART.is_installed(cache):
            lacking += debian.missing()
        elif os.geteuid() != 0:
            lacking.append("root: TimescaleDB runs in a private Debian root (chroot)")
    return lacking


def require_prerequisites(cache: Path) -> None:
    """Raise MissingPrerequisiteError, naming everything that is missing, unless all is there."""
    lacking = missing(cache)
    if lacking:
        raise MissingPrerequisiteError(lacking, CHOICES)


def install(server: str, cache: Path, says: StackProgress) -> None:
    """Put the programs of `server` into the cache unless they are there."""
    if server == "postgres":
        if postgres.from_host(cache) is None:
            text = "making a private Debian 13 root (800 MB, once)"
            _fetch(server, debian.PART, debian.build, text, cache, says)
    elif server == "kafka":
        _fetch(server, kafka.PART, kafka.build, "fetching Apache Kafka (54 MB, once)", cache, says)
        _record(server, kafka.PART, kafka.plan, cache, says)
    else:
        text = "fetching Apicurio Registry (142 MB, once)"
        _fetch(server, registry.PART, registry.build, text, cache, says)
        _record(server, registry.PART, registry.plan, cache, says)


def _fetch(
    server: str,
    part: Part,
    build: Callable[[Path, Path, Callable[[str], None]], None],
    text: str,
    cache: Path,
    says: StackProgress,
) -> None:
    log = cache / "logs" / f"install-{part.name}.log"

    def fetch(folder: Path) -> None:
        build(folder, log, lambda line: says.detail(server, line))

    _ensure(server, part, fetch, text, cache, says)


def _record(server: str, part: Part, plan: classes.PlanMaker, cache: Path, says: StackProgress) -> None:
    def record(folder: Path) -> None:
        classes.record(server, plan, part.folder(cache), folder)

    _ensure(server, classes.part(part), record, "recording a class archive (once)", cache, says)


def _ensure(server: str, part: Part, build: Build, text: str, cache: Path, says: StackProgress) -> None:
    def build_and_tell(folder: Path) -> None:
        says.step(server, text)
        build(folder)

    def on_wait() -> None:
        says.step(server, "waiting for another run that is installing it")

    ensure(part, build_and_tell, cache=cache, on_wait=on_wait)
