"""Class archives: a JVM that maps its classes from a file starts with half the work.

Measured for the registry: 6.1 s of CPU time until it answers without, 1.5 s with archive and without
the optimising compiler; for Kafka 3.7 s and 2.2 s. The archive of a server is recorded by running it
once on empty data. It depends on the jars' paths and on the exact JVM, so it is a part of its own.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from tidemill_devkit.stack import java
from tidemill_devkit.stack.cache import Part
from tidemill_devkit.stack.plan import PORTS, ServerPlan
from tidemill_devkit.stack.ports import free_ports
from tidemill_devkit.stack.server import NativeServer

PlanMaker = Callable[[Path, Path, dict[str, int], Callable[[], list[str]]], ServerPlan]
_FILE = "classes.jsa"


def part(server_part: Part) -> Part:
    """The class archive of a server whose programs are `server_part`."""
    jvm = java.version_text(java.java_command() or "java")
    return Part(f"{server_part.name}-classes", server_part.version, f"{server_part.recipe}\n{jvm}")


def options(server_part: Part, cache: Path) -> list[str]:
    """JVM options that use the archive, none if there is no archive."""
    archive = part(server_part).folder(cache) / _FILE
    return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto"] if archive.is_file() else []


def record(name: str, plan: PlanMaker, programs: Path, folder: Path) -> None:
    """Run the server from `programs` once and write its archive into `folder`.

    A JVM that cannot record ignores the option: then the part is complete without an archive.
    """
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    recording = [f"-XX:ArchiveClassesAtExit={folder / _FILE}"]
    home = folder / "home"
    server = NativeServer(name, plan(programs, home, ports, lambda: recording), folder)
    try:
        server.start()
    finally:
        server.stop()
    shutil.rmtree(home)
