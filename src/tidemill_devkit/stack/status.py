"""The servers of a stack: their place, their condition and how to reach them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidemill_devkit.stack import state
from tidemill_devkit.stack.cache import cache_folder
from tidemill_devkit.stack.given import ServerProbe, probe, silence
from tidemill_devkit.stack.plan import SERVERS, Server
from tidemill_devkit.stack.stack import Stack, given_stack, locate_stack, owned_stack
from tidemill_devkit.stack.state import Origin

Condition = Literal["up", "frozen", "not answering", "down"]


@dataclass(frozen=True)
class ServerStatus:
    """One server; `address` is None when it never had one, `log` when it is not ours."""

    name: str
    condition: Condition
    address: str | None
    log: str | None = None


@dataclass(frozen=True)
class StackStatus:
    """A stack as it is now.

    `stack` tells how to reach it, None if it has never been up; `advice` what to do, None if nothing is to be done.
    """

    name: str
    origin: Origin
    reason: str
    servers: tuple[ServerStatus, ...]
    stack: Stack | None
    folder: Path | None
    advice: str | None = None

    @property
    def is_up(self) -> bool:
        return all(server.condition == "up" for server in self.servers)


def status(name: str | None = None, *, prefix: str | None = "TIDEMILL_") -> StackStatus:
    """Look at the stack without changing anything; raises DevstackError only for a bad name or setting."""
    cache = cache_folder()
    chosen = name or state.default_name()
    folder = state.stack_folder(chosen, cache)
    known = state.load(folder)
    location = locate_stack(known, prefix, cache)
    stack = None
    servers = tuple(ServerStatus(server, "down", None) for server in SERVERS)
    advice = "bring it up with: tidemill dev up" + (f" --name {name}" if name else "")
    if location.given is not None:
        probed = probe(location.given)
        stack = given_stack(chosen, location, location.given)
        servers = tuple(_given(each) for each in probed)
        advice = silence(probed, prefix or "") or ""
    elif known is not None and known.ports:
        stack = owned_stack(known, location.reason, cache)
        servers = tuple(_owned(server) for server in stack.servers.values())
    ours = folder if stack is not None and stack.owned else None
    is_up = all(server.condition == "up" for server in servers)
    shown_advice = None if is_up else advice
    return StackStatus(chosen, location.origin, location.reason, servers, stack, ours, shown_advice)


def _owned(server: Server) -> ServerStatus:
    conditions: dict[str, Condition] = {"gone": "down", "frozen": "frozen"}
    condition = conditions.get(server.life())
    if condition is None:
        condition = "up" if server.answers() else "not answering"
    return ServerStatus(server.name, condition, server.address, str(server.log))


def _given(probed: ServerProbe) -> ServerStatus:
    return ServerStatus(probed.server, "up" if probed.answers else "not answering", probed.address)
