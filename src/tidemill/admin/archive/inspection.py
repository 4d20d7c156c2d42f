"""An operator's questions about the archive: what leaves, the progress of each table, why a chunk is still there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tidemill.admin.archive.access import ArchiveAccess, OpenAccess
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState, SealMode, Source
from tidemill.domain.errors import UsageError
from tidemill.retention.explanations import why_not_dropped
from tidemill.retention.planner import Facts, RetentionPlan, plan
from tidemill.retention.slices import AWAITED, Hold, Slice
from tidemill.retention.table_obstacles import warnings
from tidemill.runtime.clock import Clock

_S = ArchiveState
_GONE: Final = frozenset({_S.DROPPED, _S.RESTORED})
_FOR_PEOPLE: Final = (_S.QUARANTINED, _S.HELD, _S.ABORTED)


@dataclass(frozen=True)
class TablePlan:
    """What leaves of a table, and what waits. A plan counts bytes: it does not estimate `rows`.

    `warnings`: what other programs do to its rows.
    """

    table: str
    as_of: datetime
    plan: RetentionPlan
    seal_mode: SealMode
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StateCount:
    """Slices of one state. `rows`: as sealed. `oldest`: since when the first of them is in it."""

    state: ArchiveState
    slices: int
    rows: int
    oldest: datetime


@dataclass(frozen=True)
class SliceNote:
    """A slice that an operator should look at, and why."""

    slice: str
    chunk: str
    state: ArchiveState
    since: datetime
    why: str


@dataclass(frozen=True)
class TableStatus:
    """The progress of a table.

    `oldest_seal`: since when the oldest slice without a verified copy is sealed. `oldest`: where the oldest
    range begins that is still in the database, restored ones apart. `late_rows`: diverted rows that are not archived
    yet. `archived_*`: what left, restored or not. `warnings`: what other programs do to its rows.
    """

    table: str
    enabled: bool
    seal_mode: SealMode
    states: tuple[StateCount, ...]
    oldest_seal: datetime | None
    oldest: datetime | None
    hot_chunks: int
    hot_bytes: int
    restored_rows: int
    archived_rows: int
    archived_bytes: int
    late_rows: int
    notes: tuple[SliceNote, ...]
    holds: tuple[Hold, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Why:
    """Why a slice is still in the database, or that it is not, with all that was done to it."""

    slice: str
    chunk: str
    state: ArchiveState | None
    answer: str
    trail: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class ArchiveInspection:
    """Asks the archive."""

    open_access: OpenAccess
    clock: Clock

    async def plans(self, table: str | None, as_of: datetime | None) -> list[TablePlan]:
        """Return what would leave now, or if it were `as_of`."""
        now = self.clock.now()
        async with self.open_access() as opened:
            access, found = opened.rehearsed(as_of), []
            mode = await access.store.seal_mode()
            for policy in access.chosen(table):
                facts = await access.store.facts(policy.table_name)
                intended = plan(policy, facts, as_of=as_of or now, now=now)
                found.append(TablePlan(policy.table_name, as_of or now, intended, mode, warnings(facts)))
            return found

    async def statuses(self, table: str | None) -> list[TableStatus]:
        """Return the progress of every table."""
        now = self.clock.now()
        async with self.open_access() as access:
            mode = await access.store.seal_mode()
            return [
                summary(await access.store.facts(each.table_name), now, mode, enabled=each.enabled)
                for each in access.chosen(table)
            ]

    async def holds(self, table: str | None) -> list[Hold]:
        """Return what is held."""
        async with self.open_access() as access:
            return [
                hold
                for policy in access.chosen(table)
                for hold in (await access.store.facts(policy.table_name)).holds
            ]

    async def why(self, named: str, at: datetime | None) -> list[Why]:
        """Return the answer for a chunk (`schema.name`, or its name), or for each generation of a table's range.

        Raises:
            UsageError: it is not known.
        """
        now = self.clock.now()
        async with self.open_access() as access:
            for policy in [access.policy(named)] if at else access.chosen(None):
                facts = await access.store.facts(policy.table_name)
                answers = await _answers(access, policy, facts, _chunks(facts, named, at), now)
                if answers:
                    return answers
        what = (
            f"no range of {named} has {at.isoformat()} in it"
            if at
            else f"no table here has a chunk {named!r}"
        )
        raise UsageError(f"{what}, and none had: see `tidemill retention plan`, or give TABLE and a time")


def summary(facts: Facts, now: datetime, mode: SealMode, *, enabled: bool) -> TableStatus:
    """Return the progress of a table. Pure."""
    dropped = [each for each in facts.slices if each.stage in _GONE]
    restored = {each.chunk for each in facts.slices if each.stage is _S.RESTORED}
    hot = [chunk for chunk in facts.chunks if chunk.chunk not in restored]
    sealed = [each.sealed_at for each in facts.slices if each.stage in AWAITED and each.sealed_at]
    late = [each for each in facts.slices if each.source is Source.LATE and each.is_closed]
    return TableStatus(
        table=facts.table,
        enabled=enabled,
        seal_mode=mode,
        states=_counts(facts.slices),
        oldest_seal=min(sealed, default=None),
        oldest=min((chunk.start for chunk in hot), default=None),
        hot_chunks=len(hot),
        hot_bytes=sum(chunk.size_bytes for chunk in hot),
        restored_rows=sum(_rows(each) for each in dropped if each.stage is _S.RESTORED),
        archived_rows=sum(_rows(each) for each in dropped),
        archived_bytes=sum(
            file.size_bytes for each in dropped if each.verified for file in each.verified.copy.files
        ),
        late_rows=sum(each.row_count for each in facts.late)
        + sum(_rows(each) for each in late if each.stage not in _GONE),
        notes=tuple(
            SliceNote(str(each.id), each.chunk, each.state, each.since, why_not_dropped(each, now))
            for each in facts.slices
            if each.state in _FOR_PEOPLE
        ),
        holds=facts.holds,
        warnings=warnings(facts),
    )


def _counts(slices: Sequence[Slice]) -> tuple[StateCount, ...]:
    by_state = {state: [each for each in slices if each.state is state] for state in ArchiveState}
    return tuple(
        StateCount(state, len(some), sum(map(_rows, some)), min(each.since for each in some))
        for state, some in by_state.items()
        if some
    )


def _rows(archive_slice: Slice) -> int:
    return archive_slice.sealed.row_count if archive_slice.sealed else 0


def _chunks(facts: Facts, named: str, at: datetime | None) -> set[str]:
    """Return the named chunks, as the catalogue or the registry has them."""
    known = [(each.chunk, each.start, each.end) for each in facts.chunks]
    known += [(each.chunk, each.id.start, each.id.end) for each in facts.slices]
    if at is not None:
        return {chunk for chunk, start, end in known if start <= at < end}
    return {chunk for chunk, *_ in known if named in (chunk, chunk.rpartition(".")[2])}


async def _answers(
    access: ArchiveAccess, policy: Retention, facts: Facts, chunks: set[str], now: datetime
) -> list[Why]:
    planned = plan(policy, facts, as_of=access.as_of or now, now=now)
    answers = []
    for each in facts.slices:
        if each.chunk in chunks:
            answer = (each.is_closed and why_not_dropped(each, now)) or planned.why(each.chunk)
            trail = tuple(await access.store.trail(each.id))
            answers.append(
                Why(str(each.id), each.chunk, each.state, answer or why_not_dropped(each, now), trail)
            )
    listed = {each.chunk for each in facts.slices if each.state is not _S.DROPPED}
    for chunk in facts.chunks:
        if chunk.chunk in chunks - listed:
            span = f"{facts.table} {chunk.start:%Y-%m-%d %H:%M} .. {chunk.end:%Y-%m-%d %H:%M}"
            answers.append(Why(span, chunk.chunk, None, planned.why(chunk.chunk) or "nobody knows", ()))
    return answers
