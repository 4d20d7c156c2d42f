"""Rows of the database for operators: by name, in the order of their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from tidemill.domain.archive.slices import ArchiveState


class SliceCount(NamedTuple):
    """The slices of a table in one state. `rows`: as measured under their seals; `oldest_seal`: of those slices."""

    table: str
    state: ArchiveState
    held_from: ArchiveState | None
    slices: int
    rows: int
    oldest_seal: datetime | None
    lake_bytes: int

    @property
    def stage(self) -> ArchiveState:
        """Return the state, or for held slices the one they were held from."""
        return self.held_from or self.state


class TableRows(NamedTuple):
    """The rows of a table by where they are. `in_table`: all that the table has, `restored` ones among them.

    `archived`: those that left, whether or not they were `restored` since. `diverted`: late rows.
    """

    in_table: int
    archived: int = 0
    restored: int = 0
    diverted: int = 0

    @property
    def hot(self) -> int:
        """Return the rows that have not left."""
        return self.in_table - self.restored

    @property
    def total(self) -> int:
        """Return all rows, each once."""
        return self.hot + self.archived + self.diverted


class Holdings(NamedTuple):
    """Where a table's rows are. `oldest_end`: of the chunks that have not left. `mismatches`: quarantined copies."""

    table: str
    slices: Sequence[SliceCount]
    diverted_rows: int
    hot_bytes: int
    late_bytes: int
    lake_bytes: int
    oldest_end: datetime | None
    mismatches: int


class ProcessState(NamedTuple):
    """A process. Fields that only it knows are None if it does not report: `serve archiver`, or an earlier version.

    `connections`: to this database. `file_limit`: None also where there is none. `at`: the time of the report.
    """

    process: str
    connections: int
    version: str | None
    open_files: int | None
    file_limit: int | None
    started_at: datetime | None
    at: datetime | None


class LaneState(NamedTuple):
    """A lane as the database knows it. `next_offset`, `position`, `sequence`: the newest row of its ledger.

    `waits_...`: the command of a newer version that it waits for, if it does, as `commands.ports.Wait` has it.
    `served`: whether its owner is connected to the database; None without an owner, and where that cannot be seen.
    `compressed`: whether its topics were compressed from the beginning.
    """

    lane: int
    aggregate: str
    partition: int
    partitions: int
    command_topic: str
    event_topic: str
    outcome_topic: str
    dead_letter_topic: str
    epoch: int
    owner: str | None
    claimed_at: datetime | None
    gen: int
    batch: int
    timeline: int
    next_offset: int
    anchor_offset: int | None
    anchor_checksum: int | None
    position: int
    sequence: int
    chain: int
    at: datetime
    published_position: int | None
    published_sequence: int | None
    published_at: datetime | None
    halt_code: str | None
    halt_detail: str | None
    halted_since: datetime | None
    waits_before: int | None = None
    waits_schema: str | None = None
    waits_type: str | None = None
    waits_service: str | None = None
    waits_detail: str | None = None
    waits_since: datetime | None = None
    waits_until: datetime | None = None
    served: bool | None = None
    compressed: bool = False

    @property
    def owned(self) -> bool:
        """Return whether a process owns it, as far as that can be seen: one that was killed leaves its name."""
        return self.owner is not None and self.served is not False

    @property
    def name(self) -> str:
        """Return its name for operators: `market-data/3`."""
        return f"{self.aggregate}/{self.partition}"


class LedgerEntry(NamedTuple):
    """A row of a lane's ledger."""

    gen: int
    batch: int
    epoch: int
    timeline: int
    from_offset: int
    to_offset: int
    position: int
    sequence: int
    applied: int
    rejected: int
    duplicate: int
    parked: int
    events: int
    at: datetime
    reason: str | None


class CommandEntry(NamedTuple):
    """The outcome of a command: its row in the log. `rows`: how many the command appended or changed.

    `command_id`: None of a record that repeats an id, or could not be read.
    """

    lane: int
    aggregate: str
    partition: int
    gen: int
    position: int
    command_id: UUID | None
    outcome: bytes
    events: int
    sequence: int
    at: datetime
    type: str | None
    service: str | None
    code: str | None
    detail: str | None
    rows: int


class RepeatEntry(NamedTuple):
    """A record that repeated a command's id."""

    lane: int
    aggregate: str
    partition: int
    gen: int
    position: int
    outcome: bytes
    at: datetime
    type: str | None
    service: str | None
    code: str | None
    detail: str | None


class SentEntry(NamedTuple):
    """What the outbox holds of a position. `record_offset`: None if no record brought it."""

    item: int
    outcome: bytes | None
    original: bytes | None
    sequence: int
    at: datetime
    record_offset: int | None
    key: bytes | None
    event_type: str | None
    payload: bytes | None
    correlation: str | None
    client_id: str | None
    trace: str | None


class DeadLetterEntry(NamedTuple):
    """A parked record, without its content. `state`: parked, redriven or discarded."""

    lane: int
    aggregate: str
    position: int
    topic: str
    partition: int
    record_offset: int
    code: str
    detail: str
    at: datetime
    state: str
    bytes: int | None

    @property
    def name(self) -> str:
        """Return its lane's name for operators: `market-data/3`."""
        return f"{self.aggregate}/{self.partition}"


class DeadLetter(NamedTuple):
    """A parked record, unchanged."""

    entry: DeadLetterEntry
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class ProjectionHalt(NamedTuple):
    """A projection that is halted in a lane: it expects event `expected`, and got `got`."""

    projection: str
    partition: int
    code: str
    expected: int
    got: int
    detail: str
    since: datetime


class ProjectionState(NamedTuple):
    """A projection as the database knows it. `sequences`: partition -> last event folded; `halts`: the present ones."""

    name: str
    aggregate: str
    incarnation: int
    read_table: str
    rebuilt_at: datetime | None
    verified_at: datetime | None
    sequences: Mapping[int, int]
    halts: Sequence[ProjectionHalt]


class ForeignRecords(NamedTuple):
    """Records of another program in a topic of a lane: seen by read models, or accepted up to an offset."""

    lane: int
    aggregate: str
    partition: int
    topic: str
    records: int
    first_offset: int | None
    last_offset: int | None
    last_seen: datetime | None
    accepted_offset: int | None
    accepted_at: datetime | None
    reason: str | None


class GroupMember(NamedTuple):
    """A member of the consumer group that reads a command topic, with the partitions that it holds."""

    topic: str
    group: str
    client_id: str
    host: str
    partitions: Sequence[int]


class AuditRows(NamedTuple):
    """All counts of the audit, of one moment. Rows as the statements of the same name give them."""

    lanes: Sequence[LaneState]
    ledger_sums: Sequence[Mapping[str, Any]]
    ledger_by_generation: Sequence[Mapping[str, Any]]
    ledger_totals: Sequence[Mapping[str, Any]]
    log_by_generation: Sequence[Mapping[str, Any]]
    outbox_by_generation: Sequence[Mapping[str, Any]]
    parked_by_lane: Sequence[Mapping[str, Any]]
    generations_kept: Sequence[Mapping[str, Any]]
    rows: Mapping[str, TableRows]
    unread: Mapping[str, str] = MappingProxyType({})
    """Tables whose rows cannot be counted -> why."""
