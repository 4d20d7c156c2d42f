"""What leaves next, what waits, and why: from the catalog, the registry and the policy. Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple

from tidemill.domain.archive.policy import LateRule, Retention
from tidemill.domain.archive.ranges import Ranges
from tidemill.domain.archive.slices import ArchiveState, SliceId, Source
from tidemill.retention.explanations import lasted, moment, why_not_dropped
from tidemill.retention.slices import UNVERIFIED, Hold, Slice, held, late_name
from tidemill.retention.timescale_jobs import ContinuousAggregate, DropJob, still_refreshed, why_refreshed

FIRST_RATIO: Final = 0.25
"""Bytes in the lake per byte in the database, until an earlier slice of the table gives a better value."""

COMPRESSED_RATIO: Final = 1.0
"""The same for a compressed chunk: Parquet and the columnstore need about as much."""

UNSEEN: Final = "UNSEEN"
"""The code of chunks whose writes were not counted yet: the worker's next round does."""

_S = ArchiveState
_UNDER_WAY = UNVERIFIED | {_S.VERIFIED}
_Range = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """A chunk as the catalog has it. `chunk`: `schema.name`. `size_bytes`: of rows. `last_write`: None if unknown."""

    chunk: str
    start: datetime
    end: datetime
    size_bytes: int
    compressed: bool = False
    last_write: datetime | None = None


@dataclass(frozen=True, slots=True)
class LateFacts:
    """Diverted rows of one range that belong to no slice yet."""

    start: datetime
    end: datetime
    row_count: int
    size_bytes: int = 0
    last_write: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All facts of one table (`schema.table`). `registry`: the id of this database's registry.

    `late_unfit`: why late rows could not be stored unchanged, None if they can. `views`: continuous aggregates over the
    table. `drop_jobs`: TimescaleDB's own retention policies on it.
    """

    table: str
    chunks: tuple[ChunkFacts, ...] = ()
    late: tuple[LateFacts, ...] = ()
    slices: tuple[Slice, ...] = ()
    holds: tuple[Hold, ...] = ()
    registry: str = ""
    late_unfit: str | None = None
    views: tuple[ContinuousAggregate, ...] = ()
    drop_jobs: tuple[DropJob, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A slice that may be sealed now. `known`: its row in the registry, if it was given up before."""

    id: SliceId
    source: Source
    chunk: str
    size_bytes: int
    lake_bytes: int
    compressed: bool = False
    last_write: datetime | None = None
    known: Slice | None = None

    def slice(self, at: datetime) -> Slice:
        """Return the slice for `transitions.choose`: the registry's own, or a new one."""
        if self.known is None:
            fresh = Slice(self.id, ArchiveState.LIVE, at, self.source, self.chunk, self.size_bytes)
            return replace(fresh, compressed=self.compressed)
        return replace(self.known, size_bytes=self.size_bytes, compressed=self.compressed)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A slice, or a range that has none yet, that stays in the database for now. `until`: None if it is not known."""

    id: SliceId
    chunk: str
    code: str
    message: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """`seal`: to be sealed now, oldest first. `queued`: eligible, for later rounds. `waiting`: not eligible.

    `quiet_until`: the end of the quiet hours, if they are why nothing is sealed now. `ratio`: bytes in the lake per
    byte of an uncompressed chunk.
    """

    seal: tuple[Candidate, ...]
    queued: tuple[Candidate, ...]
    waiting: tuple[Waiting, ...]
    ratio: float
    quiet_until: datetime | None = None

    @property
    def lake_bytes(self) -> int:
        """Return about how many bytes the lake will need for all that is eligible."""
        return sum(each.lake_bytes for each in (*self.seal, *self.queued))

    def why(self, chunk: str) -> str | None:
        """Return why a chunk is still in the database, None if the plan does not know it."""
        for waiting in self.waiting:
            if waiting.chunk == chunk:
                return waiting.message
        for candidate in self.seal:
            if candidate.chunk == chunk:
                return "it may leave: the next round of `tidemill serve retention` seals it"
        for place, candidate in enumerate(self.queued):
            if candidate.chunk == chunk:
                quiet = f", after the quiet hours, {moment(self.quiet_until)}" if self.quiet_until else ""
                return f"it may leave: {place + len(self.seal)} go before it{quiet}"
        return None


def plan(policy: Retention, facts: Facts, *, as_of: datetime, now: datetime) -> RetentionPlan:
    """Return what leaves next. `as_of`: the time for ages; quiet periods and hours are of `now`."""
    ratio, index = lake_ratio(facts.slices), _Index.of(facts)
    judged = [_judged(policy, index, each, as_of, now) for each in _candidates(index, ratio)]
    eligible = list(_first_of_each_range(each for each in judged if isinstance(each, Candidate)))
    quiet_until = policy.quiet_hours.until(now) if policy.quiet_hours else None
    busy = sum(1 for each in facts.slices if each.state in _UNDER_WAY)
    room = 0 if quiet_until else max(policy.most_seals - busy, 0)
    return RetentionPlan(
        seal=tuple(eligible[:room]),
        queued=tuple(eligible[room:]),
        waiting=tuple(each for each in judged if isinstance(each, Waiting)),
        ratio=ratio,
        quiet_until=quiet_until,
    )


def _first_of_each_range(eligible: Iterable[Candidate]) -> Iterator[Candidate]:
    """Leave the later generations of a range for later rounds: one slice of a range at a time.

    The same holds for ranges that overlap. `eligible`: oldest range first.
    """
    taken_to: datetime | None = None
    for each in eligible:
        if taken_to is None or each.id.start >= taken_to:
            taken_to = each.id.end
            yield each


def lake_ratio(slices: Iterable[Slice]) -> float:
    """Return bytes in the lake per byte of rows that are not compressed, measured at copies with known files."""
    copied = [
        each
        for each in slices
        if each.verified and each.verified.copy.files and each.size_bytes > 0 and not each.compressed
    ]
    here = sum(each.size_bytes for each in copied)
    there = sum(file.size_bytes for each in copied if each.verified for file in each.verified.copy.files)
    return there / here if here and there else FIRST_RATIO


class _Index(NamedTuple):
    """Indexes of the facts. `around`: slices by the time that they share with others."""

    facts: Facts
    ranges: Mapping[_Range, Sequence[Slice]]
    around: Ranges[Slice]
    chunks: Mapping[str, ChunkFacts]
    late: Mapping[datetime, LateFacts]
    partitioned: str | None

    @classmethod
    def of(cls, facts: Facts) -> _Index:
        ranges: dict[_Range, list[Slice]] = {}
        for archive_slice in facts.slices:
            ranges.setdefault((archive_slice.id.start, archive_slice.id.end), []).append(archive_slice)
        chunks = {chunk.chunk: chunk for chunk in facts.chunks}
        around = Ranges((each.id.start, each.id.end, each) for each in facts.slices)
        late = {late.start: late for late in facts.late}
        return cls(facts, ranges, around, chunks, late, why_partitioned(facts))

    def late_of(self, slice_id: SliceId) -> LateFacts | None:
        """Return the late rows of exactly that range."""
        late = self.late.get(slice_id.start)
        return late if late is not None and late.end == slice_id.end else None


def why_partitioned(facts: Facts) -> str | None:
    """Return why a table whose chunks share ranges cannot leave, None if each range has its own chunk."""
    first: dict[_Range, str] = {}
    for chunk in facts.chunks:
        other = first.setdefault((chunk.start, chunk.end), chunk.chunk)
        if other != chunk.chunk:
            return (
                f"{other} and {chunk.chunk} are of one range: {facts.table} has another partitioning column beside "
                "its time, and cannot be archived; copy its rows to a table that has only the time dimension"
            )
    return None


def _candidates(index: _Index, ratio: float) -> list[Candidate]:
    """Return every slice that could leave, oldest range first: those in the registry, and new ones."""
    facts = index.facts
    found = [_known(known, index, ratio) for known in facts.slices if known.state is not _S.DROPPED]
    # by start alone: a chunk may begin where an archived one did, and end later
    generations: dict[datetime, int] = {}
    for slice_id in (known.id for known in facts.slices):
        generations[slice_id.start] = max(generations.get(slice_id.start, 0), slice_id.generation)
    fresh: list[ChunkFacts | LateFacts] = [*_new_chunks(index), *_new_late(index)]
    for new in fresh:
        generations[new.start] = generations.get(new.start, 0) + 1
        found.append(_new(facts.table, new, generations[new.start], ratio))
    return sorted(found, key=lambda each: (each.id.start, each.id.end, each.id.generation))


def _new_chunks(index: _Index) -> Iterator[ChunkFacts]:
    """Return the chunks that no slice names: never archived ones, and those of external writers in archived ranges."""
    for chunk in index.facts.chunks:
        known = index.ranges.get((chunk.start, chunk.end), ())
        if not any(each.chunk == chunk.chunk and each.state is not _S.DROPPED for each in known):
            yield chunk


def _new_late(index: _Index) -> Iterator[LateFacts]:
    """Return the late rows without a waiting slice: one that was given up takes them when it is sealed again."""
    for late in index.facts.late:
        known = index.ranges.get((late.start, late.end), ())
        if not any(each.source is Source.LATE and not each.is_closed for each in known):
            yield late


def _known(archive_slice: Slice, index: _Index, ratio: float) -> Candidate:
    now: ChunkFacts | LateFacts | None = index.chunks.get(archive_slice.chunk)
    if archive_slice.source is Source.LATE and not archive_slice.is_closed:
        now = index.late_of(archive_slice.id)
    size_bytes = now.size_bytes if now else archive_slice.size_bytes
    compressed = isinstance(now, ChunkFacts) and now.compressed
    return Candidate(
        id=archive_slice.id,
        source=archive_slice.source,
        chunk=archive_slice.chunk,
        size_bytes=size_bytes,
        lake_bytes=_lake_bytes(size_bytes, ratio, compressed=compressed),
        compressed=compressed,
        last_write=now.last_write if now else None,
        known=archive_slice,
    )


def _new(table: str, facts: ChunkFacts | LateFacts, generation: int, ratio: float) -> Candidate:
    slice_id = SliceId(table, facts.start, facts.end, generation)
    compressed = isinstance(facts, ChunkFacts) and facts.compressed
    return Candidate(
        id=slice_id,
        source=Source.CHUNK if isinstance(facts, ChunkFacts) else Source.LATE,
        chunk=facts.chunk if isinstance(facts, ChunkFacts) else late_name(slice_id),
        size_bytes=facts.size_bytes,
        lake_bytes=_lake_bytes(facts.size_bytes, ratio, compressed=compressed),
        compressed=compressed,
        last_write=facts.last_write,
    )


def _lake_bytes(size_bytes: int, ratio: float, *, compressed: bool) -> int:
    return round(size_bytes * (COMPRESSED_RATIO if compressed else ratio))


def _judged(
    policy: Retention, index: _Index, each: Candidate, as_of: datetime, now: datetime
) -> Candidate | Waiting:
    """Return the candidate if it may be sealed, or the first reason why it waits."""
    known = each.known
    if known is not None and known.is_closed:
        kept = _view_waits(policy, index, each, now) if known.state is _S.VERIFIED else None
        return kept or Waiting(
            each.id,
            each.chunk,
            known.state.upper(),
            why_not_dropped(known, now),
            known.deadline or known.restore_until,
        )
    if not policy.enabled:
        return Waiting(
            each.id, each.chunk, "DISABLED", f"archiving {each.id.table} is disabled: enable its policy"
        )
    hold = held(each.id, index.facts.holds)
    if hold is not None:
        held_by = f"held by {hold.who} since {hold.since:%Y-%m-%d}, {hold.reason}: "
        held_by += "to lift it: `tidemill retention release --hold`"
        return Waiting(each.id, each.chunk, "HOLD", held_by)
    if each.source is Source.CHUNK and each.chunk not in index.chunks:
        return Waiting(
            each.id, each.chunk, "GONE", f"{each.chunk} is not in the catalog: another program dropped it"
        )
    waits = _range_waits(index, each) or _partition_waits(index, each)
    waits = waits or _time_waits(policy, each, as_of, now) or _view_waits(policy, index, each, now)
    unfit = index.facts.late_unfit
    if waits is None and unfit is not None and needs_late_table(policy, each.source):
        return Waiting(each.id, each.chunk, "LATE_TABLE", unfit)
    return waits or each


def needs_late_table(policy: Retention, source: Source) -> bool:
    """Return whether a seal could divert rows, or takes such rows."""
    return policy.late is LateRule.DIVERT or source is Source.LATE


def _range_waits(index: _Index, each: Candidate) -> Waiting | None:
    """Return why a slice waits for others of its range, or of one that overlaps it."""
    others = [other for other in index.around.sharing(each.id.start, each.id.end) if other.id != each.id]
    for other in others:
        if other.stage is _S.RESTORED:
            why = f"its range is restored until {moment(other.restore_until)}, and then evicted"
            return Waiting(each.id, each.chunk, "RESTORED", why, other.restore_until)
        if other.is_closed and other.state is not _S.DROPPED:
            return Waiting(each.id, each.chunk, "RANGE_BUSY", f"{_called(other, each)} is {other.state}")
    return _late_waits(index, each, others) if each.source is Source.LATE else None


def _late_waits(index: _Index, each: Candidate, others: Sequence[Slice]) -> Waiting | None:
    """Return why late rows cannot leave as this slice. They are identified by the start of their range alone."""
    of_start = [other for other in others if other.id.start == each.id.start]
    if not any(other.state is _S.DROPPED for other in of_start):
        return Waiting(each.id, each.chunk, "RANGE_OPEN", "its range is open: the rows belong in the table")
    rows = index.late.get(each.id.start)
    if rows is not None and rows.end > each.id.end:
        why = f"its rows leave with the range to {moment(rows.end)}, which begins at the same time"
        return Waiting(each.id, each.chunk, "RANGE_BUSY", why)
    return None


def _called(other: Slice, beside: Candidate) -> str:
    """Return the name of a slice that another one waits for."""
    if (other.id.start, other.id.end) == (beside.id.start, beside.id.end):
        return f"generation {other.id.generation} of its range"
    return f"{other.id}, which overlaps it,"


def _partition_waits(index: _Index, each: Candidate) -> Waiting | None:
    why = index.partitioned
    return None if why is None else Waiting(each.id, each.chunk, "PARTITIONED", why)


def _time_waits(policy: Retention, each: Candidate, as_of: datetime, now: datetime) -> Waiting | None:
    due = each.id.end + policy.after
    if as_of < due:
        return Waiting(
            each.id, each.chunk, "YOUNG", f"its range leaves {policy.after.days} days after it ends", due
        )
    if each.known is not None and each.known.state is _S.ABORTED:
        again = each.known.since + policy.again_after
        if now < again:
            why = f"given up at {moment(each.known.since)}, {each.known.reason or 'no reason given'}: tried again then"
            return Waiting(each.id, each.chunk, "ABORTED", why, again)
    return _quiet_waits(policy, each, now) if policy.quiet else None


def _view_waits(policy: Retention, index: _Index, each: Candidate, now: datetime) -> Waiting | None:
    """Return why a chunk waits for a continuous aggregate; late rows were never in its source table."""
    if each.source is Source.LATE:
        return None
    view = still_refreshed(index.facts.views, each.id.end, now)
    if view is None:
        return None
    return Waiting(
        each.id, each.chunk, "VIEW_REFRESHED", why_refreshed(view, policy.after), view.until(each.id.end)
    )


def _quiet_waits(policy: Retention, each: Candidate, now: datetime) -> Waiting | None:
    if each.last_write is not None and now < each.last_write + policy.quiet:
        why = f"written to {lasted(now - each.last_write)} ago, or found for the first time: "
        why += f"it leaves after no writes for {lasted(policy.quiet)}"
        return Waiting(each.id, each.chunk, "WRITTEN", why, each.last_write + policy.quiet)
    if each.last_write is None and each.source is Source.CHUNK:
        why = (
            "not measured yet whether it is written to: `tidemill serve retention` does; it leaves after no "
        )
        why += f"writes for {lasted(policy.quiet)}"
        return Waiting(each.id, each.chunk, UNSEEN, why)
    return None
