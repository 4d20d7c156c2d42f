"""The native way: install the three servers and run them as processes of this machine."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tidemill_devkit.stack import classes, debian, java, kafka, postgres, registry
from tidemill_devkit.stack.cache import remove_tree
from tidemill_devkit.stack.install import install
from tidemill_devkit.stack.progress import StackProgress
from tidemill_devkit.stack.server import NativeServer
from tidemill_devkit.stack.state import StackState, save, stack_folder


def servers(state: StackState, cache: Path) -> dict[str, NativeServer]:
    """The handles of a stack's servers (their programs need not be installed yet)."""
    folder = stack_folder(state.name, cache)
    programs = postgres.from_host(cache) or postgres.from_debian(debian.PART.folder(cache))
    database_home = postgres.home_of(programs, folder)
    jars = kafka.PART.folder(cache)
    app = registry.PART.folder(cache)
    quick = [java.NO_OPTIMISING] if state.brief else []
    plans = {
        "postgres": postgres.plan(programs, database_home, state.ports, state.password, brief=state.brief),
        "kafka": kafka.plan(
            jars, folder / "kafka", state.ports, lambda: [*quick, *classes.options(kafka.PART, cache)]
        ),
        "registry": registry.plan(
            app, folder / "registry", state.ports, lambda: classes.options(registry.PART, cache)
        ),
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


def up(state: StackState, cache: Path, says: StackProgress) -> StackState:
    """Install, initialise and start what is not running; on failure stop what this call started.

    Returns the state, of a new generation if the data had to be created again: the data of the three
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


def down(state: StackState, cache: Path, says: StackProgress, *, purge: bool) -> list[str]:
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
    state: StackState, handles: dict[str, NativeServer], cache: Path, says: StackProgress
) -> StackState:
    if any(server.plan.home.exists() for server in handles.values()):
        says.step("stack", "the data of a server are missing or unfinished: all three start empty")
    for server in handles.values():
        server.stop()
        remove_tree(server.plan.home)
    renewed = state.next_generation()
    save(renewed, stack_folder(state.name, cache))
    return renewed


def _bring_up(server: NativeServer, generation: str, cache: Path, says: StackProgress) -> None:
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
