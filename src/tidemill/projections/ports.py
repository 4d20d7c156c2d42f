"""What the projector needs from the outside: events in order, and rows with a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from tidemill.domain.messages import EventBase, ReadModelBase
from tidemill.domain.projection import Key, Projection, Recorded


class Checkpoint(NamedTuple):
    """How far a projection is in a lane: the last sequence folded."""

    lane: int
    sequence: int


class EventRecord(NamedTuple):
    """An event record's frame: what can be checked before its body is decoded."""

    partition: int
    offset: int
    sequence: int
    at: datetime
    event_type: str
    value: bytes


class EventCodec(Protocol):
    """Avro events of one stream."""

    async def prepare(self, values: Sequence[bytes]) -> None:
        """Fetch the writer schemas that `decode` will need. Raises `Unavailable`."""
        ...

    def decode(self, records: Sequence[EventRecord]) -> list[Recorded[EventBase]]:
        """Return the events, in order. Raises `ContractError` for a type or body that no class here reads."""
        ...


class EventSource(Protocol):
    """The event topic of one stream, read_committed, all partitions assigned by hand."""

    async def start(self, offsets: Mapping[int, int]) -> None:
        """Read every partition from its offset (0 where none is given). Raises `Unavailable`."""
        ...

    async def poll(self) -> Mapping[int, Sequence[EventRecord]]:
        """Return what arrived, by partition; waits a moment if nothing did."""
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Go to an offset."""
        ...

    def pause(self, partitions: frozenset[int]) -> None:
        """Hold partitions back."""
        ...

    def resume(self, partitions: frozenset[int]) -> None:
        """Let partitions flow again."""
        ...

    async def ends(self) -> Mapping[int, int]:
        """Return partition -> end offset (last stable). Raises `Unavailable`."""
        ...

    async def close(self) -> None:
        """End within a deadline."""
        ...


class ViewTransaction(Protocol):
    """One transaction over the rows of one projection and its checkpoints."""

    async def advance(self, steps: Mapping[int, tuple[int, int, int]]) -> None:
        """Move checkpoints: lane -> (from sequence, to sequence, next offset). Raises `TransientError` if one moved."""
        ...

    async def load(self, keys: Sequence[Key]) -> dict[Key, ReadModelBase]:
        """Return the rows of the keys that exist, locked."""
        ...

    async def write(self, new: Sequence[ReadModelBase], changed: Sequence[ReadModelBase], gone: Sequence[Key]) -> None:
        """Insert, update and delete rows set-wise. Raises `TransientError` if somebody else inserted a key."""
        ...


class ViewStore(Protocol):
    """Where read models live."""

    async def checkpoints(self, projection: Projection) -> dict[int, tuple[int, int]]:
        """Return lane (partition) -> (sequence, next offset) of the live incarnation."""
        ...

    def transaction(self, projection: Projection) -> AbstractAsyncContextManager[ViewTransaction]:
        """Open a transaction on the live incarnation; leaving the block commits."""
        ...

    async def halt(self, projection: Projection, partition: int, expected: int, got: int) -> None:
        """Record that a lane's gap holds the projection."""
        ...

    async def clear_halt(self, projection: Projection, partition: int) -> None:
        """Record that the gap is closed."""
        ...
