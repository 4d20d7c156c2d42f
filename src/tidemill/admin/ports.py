"""The ports of an operator's questions and decisions. Every call may raise `Unavailable`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from tidemill.admin.rows import (
    AuditRows,
    CommandEntry,
    DeadLetter,
    DeadLetterEntry,
    ForeignRecords,
    GroupMember,
    Holdings,
    LaneState,
    LedgerEntry,
    ProcessState,
    ProjectionState,
    RepeatEntry,
    SentEntry,
)
from tidemill.domain.community import EditionFeatures
from tidemill.domain.lane import Lane
from tidemill.domain.table_shape import TableShape
from tidemill.outbox.pack import Pack
from tidemill.outbox.ports import Tails

# --- the database ----------------------------------------------------------------------------------------------------


class LaneReader(Protocol):
    """Lanes and their ledgers."""

    async def lanes(self, aggregate: str | None = None, lane_id: int | None = None) -> list[LaneState]:
        """Return lanes by aggregate and partition; all of them, those of an aggregate, or one."""
        ...

    async def lane_of(self, aggregate: str, partition: int) -> int | None:
        """Return the id of a lane that is named by its partition."""
        ...

    async def unpublished_since(self, positions: Mapping[int, int]) -> dict[int, datetime]:
        """Return lane -> the time of its first position after the given one, for lanes whose outbox has one."""
        ...

    async def unfolded_since(self, sequences: Mapping[int, int]) -> dict[int, datetime]:
        """Return lane -> the time of the first event after the given sequence, for lanes that have one.

        Far behind it is a later one: no more than the newest batches are looked at.
        """
        ...

    async def ledger(self, lane_id: int, limit: int) -> list[LedgerEntry]:
        """Return the newest entries of a lane's ledger, newest first."""
        ...


class ReadModelStates(Protocol):
    """The progress of read models."""

    async def projections(self) -> list[ProjectionState]:
        """Return every projection that was ever started, with its live checkpoints and its halts."""
        ...

    async def foreign_records(self) -> list[ForeignRecords]:
        """Return what other programs wrote into the lanes' topics, as far as it was found."""
        ...


PackEntries = Callable[[Pack, int], list[SentEntry]]
"""Returns what a pack holds of a position: of its outcome, what its headers say."""


class CommandLog(Protocol):
    """The results of commands."""

    async def command(self, command_id: UUID) -> list[CommandEntry]:
        """Return the log's rows of a command: none or one, unless a restored database holds two histories."""
        ...

    async def logged_at(self, lane_id: int, position: int) -> CommandEntry | None:
        """Return the log's row of a position; None if it is not there, or not any more."""
        ...

    async def repeats(self, command_id: UUID, limit: int) -> list[RepeatEntry]:
        """Return the records that repeated a command's id. Reads the whole log."""
        ...

    async def sent(self, lane_id: int, position: int) -> list[SentEntry] | Pack:
        """Return what the outbox holds of a position, or the pack with it; nothing once its generation has left."""
        ...


class DeadLetterReader(Protocol):
    """Records that were parked."""

    async def dead_letters(
        self, *, aggregate: str | None, code: str | None, limit: int
    ) -> list[DeadLetterEntry]:
        """Return parked records, newest first."""
        ...

    async def dead_letter(self, lane_id: int, position: int) -> DeadLetter | None:
        """Return the record that a lane parked at a position, with its content."""
        ...

    async def dead_letter_of(self, topic: str, partition: int, offset: int) -> DeadLetter | None:
        """Return a parked record by where it came from; the newest, if a topic was created again and had two."""
        ...


class AuditReader(Protocol):
    """The counts of the audit."""

    async def audit_rows(self, tables: Sequence[TableShape]) -> AuditRows:
        """Return the counts as of one moment; `tables`: the declared ones whose rows are counted."""
        ...


class HoldingsReader(Protocol):
    """Where the rows of archived tables are."""

    async def holdings(self, tables: Sequence[str]) -> list[Holdings]:
        """Return where the rows of these tables (`schema.table`) are, as of one moment."""
        ...


class ProcessReader(Protocol):
    """The processes that serve."""

    async def processes(self) -> list[ProcessState]:
        """Return the processes that serve now, by name."""
        ...


class EditionReader(Protocol):
    """The edition of TimescaleDB."""

    async def features(self) -> EditionFeatures:
        """Return it, with the features of tables that the database has of it."""
        ...


class ProcessRegister(Protocol):
    """Where a process that serves tells of itself. Every call may raise `TransientError`."""

    async def note(
        self, process: str, names: Collection[str], open_files: int, file_limit: int | None
    ) -> None:
        """Tell of a process, which connects under `names`."""
        ...

    async def forget(self, process: str) -> None:
        """Take away what was told of a process that ends."""
        ...


# --- Kafka -----------------------------------------------------------------------------------------------------------


class TopicInspector(Protocol):
    """The ends of the topics of lanes. Connects at the first call, without a group and without a producer."""

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        ...

    async def absent(self, topics: Collection[str]) -> list[str]:
        """Return those of the topics that do not exist, sorted."""
        ...

    async def bounds(self, topics: Mapping[str, int]) -> dict[str, list[tuple[int, int]]]:
        """Return topic -> (first offset, last stable offset) of each partition; `topics`: name -> partitions."""
        ...

    async def ends(self, topics: Mapping[str, int]) -> dict[str, list[int]]:
        """Return topic -> the true end of each partition, behind open transactions; `topics`: as of `bounds`."""
        ...

    async def written_at(self, offsets: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], datetime]:
        """Return (topic, partition) -> when the first record at or after an offset was written, hidden or not.

        A partition without such a record is left out.
        """
        ...

    async def members(self, topics: Collection[str]) -> list[GroupMember]:
        """Return the members of the consumer groups that read these command topics."""
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
