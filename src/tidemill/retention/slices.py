"""A slice in the registry: its seal, its request, the answer, and the verification. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState, LakeColumn, LakeFile, Measured, SliceId, Source

OPEN: Final = frozenset({ArchiveState.LIVE, ArchiveState.ELIGIBLE, ArchiveState.ABORTED})
"""The states in which rows of the range go to the hypertable; in all others they are diverted."""

UNVERIFIED: Final = frozenset(
    {ArchiveState.SEALED, ArchiveState.REQUESTED, ArchiveState.COPYING, ArchiveState.CONFIRMED}
)
"""Sealed, and no verified copy yet: a slice may not stay there longer than `AnswerLimits.max_seal`."""

AWAITED: Final = UNVERIFIED | {ArchiveState.VERIFIED}
"""The states that wait for an answer."""


class Party(StrEnum):
    """The actors that may change a slice."""

    SERVICE = "service"
    ARCHIVER = "archiver"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class ReportedCopy:
    """An archiver's report about its copy. It decides nothing; it helps to find errors."""

    row_count: int | None = None
    digest: str | None = None
    min_time: datetime | None = None
    max_time: datetime | None = None


NOT_TOLD: Final = ReportedCopy()


@dataclass(frozen=True, slots=True)
class CopyLocation:
    """The stated location of a copy: the answer to `event_id`; `attempt` is the one under way when it came.

    Without `files`, `location` holds all rows of the event, to be split by the slices' bounds; with them, their paths
    are below it, or whole URLs. `location` is empty if only files were reported, or if there is no row to copy.
    """

    event_id: str
    attempt: int
    location: str
    files: tuple[LakeFile, ...] = ()
    lake_format: str = "parquet"
    snapshot_id: int | None = None
    claimed: ReportedCopy = NOT_TOLD

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the whole path of each reported file."""
        return tuple(_path(self.location, file.path) for file in self.files)

    @property
    def places(self) -> tuple[str, ...]:
        """Return its stated location: its files, or the folder that holds it."""
        return self.paths or ((self.location,) if self.location else ())


PROOF_LASTS: Final = timedelta(hours=1)
"""How long a read copy proves a drop: a drop that finds readers tries again for minutes."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What the service itself read back from `copy`, and when. Made by `transitions.verify`, stored in the registry."""

    copy: CopyLocation
    found: Measured
    at: datetime

    def is_old(self, now: datetime) -> bool:
        """Return whether the copy has to be read again before rows are dropped."""
        return now - self.at > PROOF_LASTS


@dataclass(frozen=True, slots=True)
class Hold:
    """Rows of `table` from `start` to `end` (None: without bound) must not leave, whatever the policy says."""

    table: str
    start: datetime | None
    end: datetime | None
    reason: str
    who: str
    since: datetime

    def covers(self, slice_id: SliceId) -> bool:
        """Return whether the hold and the slice overlap."""
        return (
            slice_id.table == self.table
            and (self.start is None or slice_id.end > self.start)
            and (self.end is None or slice_id.start < self.end)
        )


@dataclass(frozen=True, slots=True)
class Slice:
    """One row of the registry; `since` is when it came into `state`.

    `chunk`: its name in messages, unique within an event: the chunk's `schema.name`, or `late_name` for late rows.
    `seal`: counts the seals of this slice; results of work that began under another seal are void. `sealed_at`: since
    when its rows are protected for a copy. `sealed`: what was measured under this seal. `event_id`: the request of
    this seal. `attempt`: how often it was sent. `deadline`: when it is sent again, None: never. `superseded`: requests
    of earlier seals, whose copies the next one replaces; `left_at`: the stated locations of these copies. `held_from`:
    where a released hold returns to. `compressed`: when it was chosen, like `size_bytes`.
    """

    id: SliceId
    state: ArchiveState
    since: datetime
    source: Source
    chunk: str
    size_bytes: int = 0
    columns: tuple[LakeColumn, ...] = ()
    seal: int = 0
    sealed_at: datetime | None = None
    sealed: Measured | None = None
    event_id: str | None = None
    attempt: int = 0
    deadline: datetime | None = None
    copy: CopyLocation | None = None
    verified: Verification | None = None
    held_from: ArchiveState | None = None
    restore_until: datetime | None = None
    reason: str | None = None
    superseded: tuple[str, ...] = ()
    left_at: tuple[str, ...] = ()
    compressed: bool = False

    @property
    def is_closed(self) -> bool:
        """Return whether rows of its range are diverted."""
        return self.state not in OPEN

    @property
    def keeps_chunk(self) -> bool:
        """Return whether its rows are in a chunk that must not change."""
        return self.source is Source.CHUNK and self.is_closed and self.state is not ArchiveState.DROPPED

    @property
    def stage(self) -> ArchiveState:
        """Return the state, or for a held slice the one it was held from."""
        return self.held_from or self.state


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """Deadlines of answers. The same request is sent again with growing pauses, then given up."""

    first_answer: timedelta = timedelta(minutes=15)
    heartbeat: timedelta = timedelta(hours=1)
    first_backoff: timedelta = timedelta(minutes=1)
    max_wait: timedelta = timedelta(hours=6)
    max_seal: timedelta = timedelta(hours=24)
    max_attempts: int = 8
    bytes_per_s: int | None = None

    @classmethod
    def of(cls, policy: Retention) -> AnswerLimits:
        """Return the limits of a table's policy."""
        return cls(max_seal=policy.longest_seal, bytes_per_s=policy.bytes_per_s)

    def answer_within(self, attempt: int) -> timedelta:
        """Return how long the archiver has to start: doubled with every attempt."""
        return min(self.first_answer * (1 << attempt - 1), self.max_wait)

    def backoff(self, attempt: int) -> timedelta:
        """Return how long a failed request waits before it is sent again: doubled with every attempt."""
        return min(self.first_backoff * (1 << attempt - 1), self.max_wait)

    def silence(self, size_bytes: int) -> timedelta:
        """Return how long a copy may take without a message: ten times its time at the agreed rate."""
        if self.bytes_per_s is None:
            return self.heartbeat
        return max(self.heartbeat, timedelta(seconds=10 * size_bytes / self.bytes_per_s))


def _path(location: str, path: str) -> str:
    if path.startswith("/") or "://" in path or not location:
        return path
    return f"{location.rstrip('/')}/{path}"


def overlaps(slice_id: SliceId, start: datetime, end: datetime) -> bool:
    """Return whether a slice's range overlaps a span."""
    return slice_id.end > start and slice_id.start < end


def late_name(slice_id: SliceId) -> str:
    """Return the name of the late rows of a range in messages (`public.ticks late 2010-01-01T00:00:00+00:00`)."""
    return f"{slice_id.table} late {slice_id.start.isoformat()}"


def held(slice_id: SliceId, holds: Iterable[Hold]) -> Hold | None:
    """Return a hold that covers the slice, if there is one."""
    return next((hold for hold in holds if hold.covers(slice_id)), None)


def together(parts: Iterable[Measured]) -> Measured:
    """Return the measurement of the union of disjoint sets of rows, such as all restored slices of one range."""
    measured = list(parts)
    sums, xors = 0, 0
    for part in measured:
        _, digest_sum, digest_xor = part.digest.split(":")
        sums = (sums + int(digest_sum, 16)) % 2**64
        xors ^= int(digest_xor, 16)
    return Measured(
        row_count=sum(part.row_count for part in measured),
        digest=f"v1:{sums:016x}:{xors:016x}",
        min_time=min((part.min_time for part in measured if part.min_time is not None), default=None),
        max_time=max((part.max_time for part in measured if part.max_time is not None), default=None),
    )
