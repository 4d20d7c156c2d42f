"""`up` and `down` of a named stack: PostgreSQL with TimescaleDB, Kafka, a schema registry."""

import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from tidemill_devkit.stack import docker, native, state
from tidemill_devkit.stack.cache import cache_folder, locked, remove_tree
from tidemill_devkit.stack.errors import NotOwnedError
from tidemill_devkit.stack.given import GivenServers, require_answers
from tidemill_devkit.stack.install import require_prerequisites
from tidemill_devkit.stack.locate import Location, locate
from tidemill_devkit.stack.plan import PORTS, Server
from tidemill_devkit.stack.ports import free_ports, is_free
from tidemill_devkit.stack.progress import SilentProgress, StackProgress
from tidemill_devkit.stack.state import Origin, StackState


@dataclass(frozen=True)
class Stack:
    """Three servers that answer. Those of an `owned` stack may be stopped, killed and frozen.

    `database_url` is a superuser's on the database `postgres`; `registry_url` is the root of the
    Confluent-compatible API, None if servers were given without one.
    """

    name: str
    origin: Origin
    reason: str
    database_url: str
    kafka_bootstrap: str
    registry_url: str | None
    servers: Mapping[str, Server] = field(default_factory=dict, repr=False)

    @property
    def owned(self) -> bool:
        return bool(self.servers)

    @property
    def postgres(self) -> Server:
        return self._server("postgres")

    @property
    def kafka(self) -> Server:
        return self._server("kafka")

    @property
    def registry(self) -> Server:
        return self._server("registry")

    def repair(self) -> None:
        """Start or thaw whatever was broken; returns when every server answers."""
        for server in self.servers.values():
            server.start()

    def _server(self, name: str) -> Server:
        if name not in self.servers:
            raise NotOwnedError(name)
        return self.servers[name]


@dataclass(frozen=True)
class TakenDown:
    """What `down` did: the names of the servers that ran, and the folder of the stack if its data were deleted."""

    stopped: list[str]
    deleted: Path | None = None


class Containers(Protocol):
    """How a stack is made of containers where a Docker daemon answers: the module `docker`, or a test's own way."""

    def servers(self, state: StackState, folder: Path) -> Mapping[str, Server]:
        """The handles of the stack's containers, which need not exist."""

    def up(self, state: StackState, folder: Path, says: StackProgress) -> None:
        """Start what is not running and wait until all answer; on failure stop them again."""

    def down(self, state: StackState, folder: Path, says: StackProgress, *, purge: bool) -> list[str]:
        """End them; the data stay unless `purge`. Returns the names of what ran."""


def up(
    name: str | None = None,
    *,
    progress: StackProgress | None = None,
    prefix: str | None = "TIDEMILL_",
    containers: Containers = docker,
    brief: bool = False,
) -> Stack:
    """Bring the stack up (or find it up); returns when all its servers answer.

    `prefix` begins the names of the variables that give servers, None to look at none; `containers`
    is used if a Docker daemon answers; `brief` makes native servers cheap to start, slow at their
    best and not durable, for a new stack that lives for minutes. Raises DevstackError; whatever the failed
    call had started has been stopped then.
    """
    says = progress or SilentProgress()
    cache = cache_folder()
    chosen = name or state.default_name()
    folder = state.stack_folder(chosen, cache)
    with _working_on(chosen, cache, says):
        known = state.load(folder)
        location = locate_stack(known, prefix, cache)
        if location.given is not None:
            require_answers(location.given, prefix or "")
            return given_stack(chosen, location, location.given)
        if location.origin == "native":
            require_prerequisites(cache)
        wanted = _with_ports(
            known or _new_state(chosen, location.origin, brief=brief), cache, says, containers
        )
        if location.origin == "docker":
            containers.up(wanted, folder, says)
        else:
            wanted = native.up(wanted, cache, says)
        return owned_stack(wanted, location.reason, cache, containers)


def down(
    name: str | None = None,
    *,
    purge: bool = False,
    progress: StackProgress | None = None,
    containers: Containers = docker,
) -> TakenDown:
    """Stop the stack's servers; their data stay unless `purge`."""
    says = progress or SilentProgress()
    cache = cache_folder()
    chosen = name or state.default_name()
    folder = state.stack_folder(chosen, cache)
    with _working_on(chosen, cache, says):
        known = state.load(folder)
        if known is None:
            remove_tree(folder)
            return TakenDown([])
        if known.origin == "docker":
            stopped = containers.down(known, folder, says, purge=purge)
        else:
            stopped = native.down(known, cache, says, purge=purge)
        if purge:
            remove_tree(folder)
        return TakenDown(stopped, folder if purge else None)


def locate_stack(known: StackState | None, prefix: str | None, cache: Path) -> Location:
    """Where the servers of this stack come from, as things are."""
    if known is None or not known.ports:
        return locate(prefix=prefix)
    ours = owned_stack(known, "", cache)
    own = GivenServers(ours.database_url, ours.kafka_bootstrap, ours.registry_url)
    return locate(prefix=prefix, made_with=known.origin, own=own)


def given_stack(name: str, location: Location, given: GivenServers) -> Stack:
    """Given servers, as a stack that must not be broken."""
    return Stack(
        name=name,
        origin="given",
        reason=location.reason,
        database_url=given.database_url,
        kafka_bootstrap=given.kafka_bootstrap,
        registry_url=given.registry_url,
    )


def owned_stack(known: StackState, reason: str, cache: Path, containers: Containers = docker) -> Stack:
    """The addresses and handles of an owned stack, whether it runs or not."""
    handles: Mapping[str, Server]
    if known.origin == "docker":
        handles = containers.servers(known, state.stack_folder(known.name, cache))
    else:
        handles = native.servers(known, cache)
    return Stack(
        name=known.name,
        origin=known.origin,
        reason=reason,
        database_url=f"postgresql://postgres:{known.password}@{handles['postgres'].address}/postgres",
        kafka_bootstrap=handles["kafka"].address,
        registry_url=handles["registry"].address,
        servers=handles,
    )


def _working_on(name: str, cache: Path, says: StackProgress) -> AbstractContextManager[None]:
    def on_wait() -> None:
        says.step("stack", f"waiting for another run that works on {name}")

    return locked(f"stack-{name}", cache=cache, on_wait=on_wait)


def _new_state(name: str, origin: Origin, *, brief: bool) -> StackState:
    return StackState(
        name=name,
        checkout=str(state.checkout_folder()),
        origin=origin,
        ports={},
        password=secrets.token_hex(16),
        generation=uuid4().hex,
        brief=brief,
    )


def _with_ports(known: StackState, cache: Path, says: StackProgress, containers: Containers) -> StackState:
    """The state with a port for every server: those it had, unless another process took one meanwhile."""
    folder = state.stack_folder(known.name, cache)
    # two stacks that choose at once must see each other's choice
    with locked("ports", cache=cache):
        kept = {name: port for name, port in known.ports.items() if _may_keep(known, port, cache, containers)}
        for name in known.ports.keys() - kept.keys():
            says.step("stack", f"port {known.ports[name]} of {name} is taken: choosing another")
        lacking = [name for name in PORTS if name not in kept]
        taken = state.ports_of_others(known.name, cache) | set(kept.values())
        ports = kept | dict(zip(lacking, free_ports(len(lacking), taken=taken), strict=True))
        wanted = known.with_ports(ports)
        state.save(wanted, folder)
    return wanted


def _may_keep(known: StackState, port: int, cache: Path, containers: Containers) -> bool:
    if is_free(port):
        return True
    handles = owned_stack(known, "", cache, containers).servers
    holders = {known.ports[name]: server for name, server in handles.items()}
    holders[known.ports["controller"]] = handles["kafka"]
    return holders[port].life() != "gone"
