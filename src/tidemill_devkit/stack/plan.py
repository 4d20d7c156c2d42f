"""The common interface of the three servers, however they run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Protocol

from tidemill_devkit.stack.processes import Life

SERVERS = ("postgres", "kafka", "registry")
PORTS = (*SERVERS, "controller")


class Server(Protocol):
    """The handle of one server of an owned stack, by which a test may break and repair it."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def log(self) -> Path: ...

    def life(self) -> Life: ...

    def answers(self) -> bool:
        """Whether the server works as its clients need it."""

    def start(self) -> None:
        """Start it on its own data and port, or thaw it; return when it answers."""

    def stop(self) -> None:
        """End it in an orderly way; its data stay."""

    def kill(self) -> None:
        """End it at once, as a power failure would."""

    def freeze(self) -> None:
        """Freeze it: connections stay open, nothing answers."""

    def thaw(self) -> None:
        """Let a frozen server continue."""


@dataclass(frozen=True)
class ServerPlan:
    """How one server of one stack is made, started, asked and stopped.

    `initialise(log)` makes what is missing in `home` and writes the configuration again: it is called
    before every start, as is `command`. `answers(pid)` must be quick and must not raise.
    """

    home: Path
    initialise: Callable[[Path], None]
    command: Callable[[], list[str]]
    answers: Callable[[int], bool]
    stop_signal: Signals
    address: str
    environment: Mapping[str, str] = field(default_factory=dict)
