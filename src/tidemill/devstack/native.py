"""The native way: install the three servers and run them as processes of this machine."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tidemill.devstack import debian, java, kafka, postgres, registry
from tidemill.devstack.cache import Part, ensure, remove_tree
from tidemill.devstack.errors import MissingPrerequisiteError
from tidemill.devstack.plan import Installation
from tidemill.devstack.progress import Progress
from tidemill.devstack.server import NativeServer
from tidemill.devstack.state import StackState, save, stack_folder

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


def install(server: str, cache: Path, progress: Progress) -> None:
    """Put the programs of `server` into the cache unless they are there."""
    recipes: dict[str, tuple[Part, Callable[..., None], str]] = {
        "kafka": (kafka.PART, kafka.build, "fetching Apache Kafka (54 MB, once)"),
        "registry": (registry.PART, registry.build, "fetching Apicurio Registry (142 MB, once)"),
        "postgres": (debian.PART, debian.build, "making a private Debian 13 root (800 MB, once)"),
    }
    part, build, text = recipes[server]
    if server == "postgres" and postgres.from_host(cache) is not None:
        return
    log = cache / "logs" / f"install-{part.name}.log"

    def build_with_progress(folder: Path) -> None:
        progress.step(server, text)
        build(folder, log, lambda line: progress.detail(server, line))

    def on_wait() -> None:
        progress.step(server, "waiting for another run that is installing it")

    ensure(part, build_with_progress, cache=cache, on_wait=on_wait)


def servers(state: StackState, cache: Path) -> dict[str, NativeServer]:
    """The handles of a stack's servers (their programs need not be installed yet)."""
    folder = stack_folder(state.name, cache)
    programs = postgres.from_host(cache) or postgres.from_debian(debian.PART.folder(cache))
    database_home = postgres.home_of(programs, folder)
    jars = Installation(kafka.PART.folder(cache))
    app = Installation(registry.PART.folder(cache))
    plans = {
        "postgres": postgres.plan(programs, database_home, state.ports, state.password),
        "kafka": kafka.plan(jars, folder / "kafka", state.ports),
        "registry": registry.plan(app, folder / "registry", state.ports),
    }
    return {name: NativeServer(name, plan, folder) for name, plan in plans.items()}


def _stamp(server: NativeServer) -> Path:
    return server.plan.home / "generation"


def has_data_of(server: NativeServer, generation: str) -> bool:
    """Whether the server's data are complete and of this generation."""
    try:
        return _stamp(server).read_text() == generation
    except OSError:
        return False


def up(state: StackState, cache: Path, says: Progress) -> StackState:
    """Install, initialise and start what is not running; on failure stop what this call started.

    Returns the state, of a new generation if the data had to be made anew: the data of the three
    servers refer to each other, so they are kept together or dropped together.
    """
    handles = servers(state, cache)
    if not all(has_data_of(server, state.generation) for server in handles.values()):
        state = _drop_all_data(state, handles, cache, says)
    running_before = {name for name, server in handles.items() if server.life() != "gone"}

    def bring_up(name: str) -> None:
        _bring_up(handles[name], state.generation, cache, says)

    try:
        with ThreadPoolExecutor(len(handles)) as pool:
            for finished in [pool.submit(bring_up, name) for name in handles]:
                finished.result()
    except BaseException:
        for name in handles.keys() - running_before:
            handles[name].stop()
        raise
    return state


def down(state: StackState, cache: Path, says: Progress, *, purge: bool) -> list[str]:
    """Stop what runs (at once if its data are dropped anyway); returns the names of what ran."""
    handles = servers(state, cache)
    running = [name for name, server in handles.items() if server.life() != "gone"]

    def take_down(name: str) -> None:
        says.step(name, "stopping")
        if purge:
            handles[name].kill()
        else:
            handles[name].stop()
        says.done(name, "stopped")

    with ThreadPoolExecutor(len(handles)) as pool:
        list(pool.map(take_down, running))
    if purge:
        for server in handles.values():
            remove_tree(server.plan.home)
    return running


def _drop_all_data(
    state: StackState, handles: dict[str, NativeServer], cache: Path, says: Progress
) -> StackState:
    if any(server.plan.home.exists() for server in handles.values()):
        says.step("stack", "the data of a server are missing or unfinished: all three start empty")
    for server in handles.values():
        server.stop()
        remove_tree(server.plan.home)
    renewed = state.next_generation()
    save(renewed, stack_folder(state.name, cache))
    return renewed


def _bring_up(server: NativeServer, generation: str, cache: Path, says: Progress) -> None:
    if server.life() == "running" and server.answers():
        says.done(server.name, f"is up on {server.address}")
        return
    install(server.name, cache, says)
    if not has_data_of(server, generation):
        says.step(server.name, "initialising its data")
        server.initialise()
        _stamp(server).write_text(generation)
    says.step(server.name, "starting")
    server.start()
    says.done(server.name, f"answers on {server.address}")
