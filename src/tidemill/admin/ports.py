"""What an operator's questions and decisions need from the outside. Every call may raise `Unavailable`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from uuid import UUID

from tidemill.admin.lane_results import Cleared, Parked, Reconciled, Seen, Skipped, TopicsEnd
from tidemill.admin.rows import (
    Books,
    CommandEntry,
    DeadLetter,
    DeadLetterEntry,
    ForeignRecords,
    Holdings,
    LaneState,
    LedgerEntry,
    ProcessState,
    ProjectionState,
    RepeatEntry,
    SentEntry,
)
from tidemill.catalog.streams import ContextStream
from tidemill.commands.ports import CommandSource
from tidemill.domain.lane import Lane, StreamTopics, TopicRole
from tidemill.outbox.common_history import Agreement, Point
from tidemill.outbox.ports import LaneEnd, Published, Tails

# --- the database ----------------------------------------------------------------------------------------------------


class LaneReader(Protocol):
    """Lanes and their ledgers."""

    async def lanes(self, aggregate: str | None = None, lane: int | None = None) -> list[LaneState]:
        """Return lanes by aggregate and partition; all of them, those of an aggregate, or one."""
        ...

    async def lane_of(self, aggregate: str, partition: int) -> int | None:
        """Return the id of a lane that is named by its partition."""
        ...

    async def ledger(self, lane: int, limit: int) -> list[LedgerEntry]:
        """Return the newest entries of a lane's ledger, newest first."""
        ...


class ReadModelStates(Protocol):
    """How far read models are."""

    async def projections(self) -> list[ProjectionState]:
        """Return every projection that was ever started, with its live checkpoints and its halts."""
        ...

    async def foreign_records(self) -> list[ForeignRecords]:
        """Return what others wrote into the lanes' topics, as far as it was met."""
        ...


class CommandLog(Protocol):
    """What became of commands."""

    async def command(self, command_id: UUID) -> list[CommandEntry]:
        """Return the log's rows of a command: none or one, unless a restored database holds two histories."""
        ...

    async def repeats(self, command_id: UUID, limit: int) -> list[RepeatEntry]:
        """Return the records that repeated a command's id. Reads the whole log."""
        ...

    async def sent(self, lane: int, position: int) -> list[SentEntry]:
        """Return what the outbox holds of a position; nothing once its generation has left."""
        ...


class DeadLetterReader(Protocol):
    """Records that were parked."""

    async def dead_letters(
        self, *, aggregate: str | None, code: str | None, limit: int
    ) -> list[DeadLetterEntry]:
        """Return parked records, newest first."""
        ...

    async def dead_letter(self, lane: int, position: int) -> DeadLetter | None:
        """Return the record that a lane parked at a position, with its content."""
        ...

    async def dead_letter_of(self, topic: str, partition: int, offset: int) -> DeadLetter | None:
        """Return a parked record by where it came from; the newest, if a topic that was made anew had two such."""
        ...


class BookReader(Protocol):
    """What the audit adds up."""

    async def books(self, tables: Sequence[Any]) -> Books:
        """Return the books as of one moment; `tables`: the declared ones whose rows are counted."""
        ...


class HoldingsReader(Protocol):
    """Where the rows of archived tables are."""

    async def holdings(self, tables: Sequence[str]) -> list[Holdings]:
        """Return what is where of these tables (`schema.table`), as of one moment."""
        ...


class ProcessReader(Protocol):
    """The processes that serve."""

    async def processes(self) -> list[ProcessState]:
        """Return the processes that serve now, by name."""
        ...


class LaneRegistry(Protocol):
    """The lanes of streams, as they are created."""

    async def create(self, aggregate: str, topics: StreamTopics, first_offsets: Mapping[int, int]) -> int:
        """Record the lanes of a stream, one per partition of its topics; return how many are new (all or none).

        `first_offsets`: partition -> first offset of its command topic, for every partition.

        Raises:
            ContractError: they were created with other topics or another number of partitions.
        """
        ...

    async def created(self, aggregate: str) -> int:
        """Return how many lanes a stream was created with, 0 if it was not."""
        ...


class LaneStore(Protocol):
    """What an operator changes about a lane: each call is one transaction under the lane's lock.

    It keeps the reason in the ledger, and fences a process that still works with the old state.
    """

    async def resume(self, lane: int) -> Cleared | None:
        """Lift a lane's halt; None if there is none. Whoever owns the lane claims it again, and looks again."""
        ...

    async def park(self, lane: int, reason: str) -> Parked | None:
        """End a lane's wait for a newer version, and keep the reason; None if it does not wait.

        Whoever owns the lane parks what it stands before; the epoch stays, since nothing that he knows has changed.
        """
        ...

    async def skip(self, lane: int, to_offset: int, reason: str, *, seen: Seen) -> Skipped:
        """Let a halted lane read on at `to_offset`, whatever stands before it.

        `seen`: what `to_offset` was allowed by. `UsageError` if the lane is not halted, or was changed since.
        """
        ...

    async def accept(self, lane: int, offsets: Mapping[str, int], reason: str, *, seen: Seen) -> Cleared:
        """Lift a halt, and know from now on records of somebody else in the lane's topics: topic -> up to which offset.

        `seen`: when they were found. `UsageError` if the lane is not halted, or was changed since.
        """
        ...

    async def points(self, lane: int) -> list[Point]:
        """Return what the log remembers of a lane's history, ascending, its end last."""
        ...

    async def reconcile(
        self, lane: int, topics: TopicsEnd, agreed: Agreement, reason: str, *, seen: Seen
    ) -> Reconciled:
        """Let a halted lane's history go on behind what its topics hold, on a raised timeline.

        `agreed`: up to where topics and log tell the same. What the topics hold behind it is withdrawn; what the log
        has behind it is sent with numbers behind the topics', or with its own if nothing was withdrawn. That was found
        out before the lane was locked: `seen`. `UsageError` if the lane is not halted, or was changed since.
        """
        ...


class OutboxHistory(Protocol):
    """How far the outbox was published, and what it remembers."""

    async def published(self, lane: int) -> Published:
        """Return the stored hint of how far the lane was published."""
        ...

    async def events_at(self, lane: int, position: int) -> dict[int, str] | None:
        """Return sequence -> event id of the events at `position`; None if the outbox does not hold it (any more)."""
        ...

    async def end_with_history(self, lane: int, end: LaneEnd) -> LaneEnd:
        """Return `end` with the lane's forks, and what an operator has accepted."""
        ...


# --- Kafka -----------------------------------------------------------------------------------------------------------


class TopicInspector(Protocol):
    """How far the topics of lanes go. Connects when it is first asked, without a group and without a producer."""

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        ...

    async def bounds(self, topics: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        """Return topic -> (first offset, last stable offset) of each partition; `topics`: name -> partitions."""
        ...

    async def unread(self, spans: Mapping[tuple[str, int], tuple[int, int]]) -> dict[tuple[str, int], int]:
        """Return how many records are in each span; `spans`: (topic, partition) -> (first, end) offset.

        Reads them all: ask for short spans.
        """
        ...

    async def tails(self, lanes: Sequence[Lane]) -> dict[int, Tails]:
        """Return lane (id) -> where the relay's records in its three outbound partitions end."""
        ...

    async def close(self) -> None:
        """End within a deadline."""
        ...


class TopicHistory(Protocol):
    """What the topics of one lane tell of its history."""

    async def ends(self) -> TopicsEnd:
        """Return how the topics end. Raises `ForeignTail`."""
        ...

    async def foreign(self) -> dict[str, int]:
        """Return topic -> the offset of what is last in it, for those where that is not ours."""
        ...

    async def chain_at(self, sequence: int) -> int | None:
        """Return what `tm_chain` says of the event with this number; None if there is none."""
        ...


class LaneTopics(Protocol):
    """Opens the topics of single lanes. May raise `UsageError`: Kafka's address is not set."""

    def commands(self, topic: str) -> CommandSource:
        """Return a source of a command topic, not started: to be asked, and closed."""
        ...

    def history(self, lane: Lane, accepted: Mapping[str, int]) -> AbstractAsyncContextManager[TopicHistory]:
        """Open what a lane's outbound topics tell.

        `accepted`: topic -> the offset up to which records of somebody else do not count.
        """
        ...


class TopicRecord(Protocol):
    """A record of a topic, by Kafka's own names. `timestamp`: in milliseconds since 1970."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class RecordReader(Protocol):
    """Reads committed records of a topic, in order within each partition."""

    async def open(self, *, last: int | None = None) -> None:
        """Fix where to begin: at the start, or at the `last` records of each partition (0: only new ones).

        Raises `UsageError` for a topic or a partition that there is not.
        """
        ...

    def records(self, *, follow: bool = False) -> AsyncIterator[TopicRecord]:
        """Yield the records there were when it was opened and, if `follow`, new ones, without end.

        Raises `UsageError` at a batch that cannot be unpacked.
        """
        ...

    async def close(self) -> None:
        """End within a deadline."""
        ...


class TopicReaders(Protocol):
    """Makes readers of topics."""

    def reader(self, topic: str, *, partition: int | None = None) -> RecordReader:
        """Return a reader, not open: of all partitions, or of one. Raises `UsageError`: Kafka's address is not set."""
        ...


# --- Avro ------------------------------------------------------------------------------------------------------------


class RecordDecoder(Protocol):
    """Reads the values of one topic."""

    async def fields_of(self, value: bytes) -> tuple[str, Mapping[str, Any]]:
        """Return the message's name and its fields. Raises `Unreadable`."""
        ...


class RecordDecoders(Protocol):
    """Makes decoders for the topics of streams."""

    async def decoder(self, part: ContextStream, role: TopicRole) -> RecordDecoder:
        """Return the decoder of a topic. Raises `ContractError`: a class has no schema, or differs from it."""
        ...
