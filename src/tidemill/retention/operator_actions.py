"""An operator's actions, each in one transaction under the archive's lane: hold, lift, retry, release.

The rules are in `operator_transitions`; here they are applied to the registry. A refusal is a `UsageError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tidemill.domain.archive.slices import ArchiveState, SliceId
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError
from tidemill.domain.lane import Claim
from tidemill.retention import operator_transitions
from tidemill.retention.explanations import in_the_way, moment
from tidemill.retention.ports import ArchiveStore, ArchiveWork
from tidemill.retention.settlement import announce_ends
from tidemill.retention.slices import Hold, Slice
from tidemill.retention.transition_table import HOLDABLE, Moved, Transition, TransitionRefused

_S = ArchiveState


@dataclass(frozen=True, slots=True)
class Held:
    """A hold that was placed. `stopped`: slices that were in progress."""

    hold: Hold
    stopped: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class Lifted:
    """Holds that were lifted. `going_on`: slices that continue; `still`: those under other holds."""

    holds: tuple[Hold, ...]
    going_on: tuple[Slice, ...]
    still: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """A slice that was given up. `returned`: how many late rows went back into the table."""

    slice: Slice
    returned: int


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator and the reason; both are stored in the trail."""

    who: str
    why: str


async def hold(
    store: ArchiveStore,
    claim: Claim,
    table: str,
    span: tuple[datetime | None, datetime | None],
    operator: Operator,
) -> Held:
    """Hold the rows of a span, whatever the policy says; slices in progress are stopped.

    Raises `Busy` if batches do not release the table.
    """
    async with store.transaction(claim) as work:
        await work.lock_ranges(table)  # so that no removal of superseded rows is under way
        placed = Hold(table, *span, operator.why, operator.who, work.at)
        await work.add_hold(placed)
        stopped = []
        for archive_slice in await work.of_table(table):
            if placed.covers(archive_slice.id) and archive_slice.state in HOLDABLE:
                moved = operator_transitions.hold(archive_slice, work.at, who=operator.who, why=operator.why)
                stopped.append((await _stored(work, moved)).after)
    return Held(placed, tuple(stopped))


async def lift(
    store: ArchiveStore,
    claim: Claim,
    table: str,
    span: tuple[datetime | None, datetime | None],
    operator: Operator,
) -> Lifted:
    """Remove the holds within a span, and resume what no other hold covers.

    Raises:
        UsageError: there is no such hold.
    """
    async with store.transaction(claim) as work:
        removed = await work.remove_holds(table, *span)
        if not removed:
            raise UsageError(f"no hold of {table} is within that span: see `tidemill retention hold --list`")
        rest = await work.holds(table)
        going_on, still = [], []
        for archive_slice in await work.of_table(table):
            if archive_slice.state is not _S.HELD:
                continue
            moved = operator_transitions.resume_held(
                archive_slice, work.at, who=operator.who, why=operator.why, holds=rest
            )
            if isinstance(moved, TransitionRefused):
                still.append(archive_slice)
            else:
                going_on.append((await _stored(work, moved)).after)
    return Lifted(tuple(removed), tuple(going_on), tuple(still))


async def retry(store: ArchiveStore, claim: Claim, wanted: SliceId, operator: Operator) -> Slice:
    """Take a quarantined slice through a new seal, measurement and request. Raises `UsageError`."""
    async with store.transaction(claim) as work:
        archive_slice = await _known(work, wanted)
        busy = in_the_way(archive_slice, await work.of_table(wanted.table))
        if busy is not None:
            raise UsageError(busy)
        step = await _stored(
            work, operator_transitions.retry(archive_slice, work.at, who=operator.who, why=operator.why)
        )
        await announce_ends(work, [step])
        return step.after


async def release(store: ArchiveStore, claim: Claim, wanted: SliceId, operator: Operator) -> Released:
    """Give a slice up: its rows stay, its range takes rows again, and its late rows go back into the table.

    Raises:
        UsageError: it cannot be given up.
        Busy: batches do not release the table.
    """
    async with store.transaction(claim) as work:
        archive_slice = await _known(work, wanted)
        moved = operator_transitions.release(archive_slice, work.at, who=operator.who, why=operator.why)
        if isinstance(moved, TransitionRefused):
            raise UsageError(moved.message)
        await work.lock_ranges(archive_slice.id.table)
        await work.store(moved)
        returned = await work.return_late(archive_slice)
        await announce_ends(work, [moved])
    return Released(moved.after, returned)


async def _known(work: ArchiveWork, wanted: SliceId) -> Slice:
    archive_slice = await work.slice(wanted)
    if archive_slice is None:
        raise UsageError(f"the registry has no {wanted}", code=ErrorCode.UNKNOWN_SLICE, table=wanted.table)
    if archive_slice.state is _S.HELD:
        raise UsageError(
            f"{archive_slice.id} is held since {moment(archive_slice.since)}: first `tidemill retention release "
            f"{wanted.table} --hold`"
        )
    return archive_slice


async def _stored(work: ArchiveWork, moved: Moved) -> Transition:
    if isinstance(moved, TransitionRefused):
        raise UsageError(moved.message)
    await work.store(moved)
    return moved
