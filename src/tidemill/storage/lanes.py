"""What an operator changes about lanes: create them, resume a halted one, skip, reconcile its history.

Each is one transaction under the lane's lock, leaves a row in the ledger that says who wanted what, and raises the
epoch, so that a process which still works with the old state is fenced and claims anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import asyncpg

from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.identity import event_id
from tidemill.domain.lane import StreamTopics
from tidemill.outbox.ports import NOTHING_PUBLISHED, Published, Tail, Tails
from tidemill.storage.pool import Connection, Pool, connection
from tidemill.storage.statements import load_statements

_SQL = load_statements("operations")

_NOTHING: Final = Tail(0, 0, None)


class Cleared(NamedTuple):
    """A halt that was lifted."""

    code: str
    detail: str


class Skipped(NamedTuple):
    """Offsets that were left out: `start` is the first, `end` the one to read next."""

    start: int
    end: int


class Reconciled(NamedTuple):
    """How a lane's history goes on: the next position and event follow these numbers.

    `again`: rows of the outbox that are sent (again). `moved`: whether they got new numbers for that.
    """

    position: int
    sequence: int
    timeline: int
    again: int
    moved: bool


class LaneAdministration:
    """Lanes as an operator changes them. Every call may raise what `pool.connection` raises."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, aggregate: str, topics: StreamTopics, first_offsets: Mapping[int, int]) -> int:
        """Record the lanes of a stream, one per partition of its topics; return how many are new (all or none).

        `first_offsets`: partition -> first offset of its command topic, for every partition.

        Raises:
            ContractError: they were created with other topics or another number of partitions.
        """
        partitions = len(first_offsets)
        async with connection(self._pool) as borrowed, borrowed.transaction():
            gen = await borrowed.fetchval(_SQL["hold_generation"])
            names = (topics.commands, topics.events, topics.outcomes, topics.dead_letters)
            if there := await borrowed.fetch(_SQL["lanes_created"], aggregate):
                _demand_same(aggregate, partitions, names, there)
                return 0
            created = await borrowed.fetch(_SQL["create_lanes"], aggregate, partitions, *names)
            lanes = {row["lane"]: row["partition"] for row in created}
            firsts = [first_offsets[partition] for partition in lanes.values()]
            await borrowed.execute(_SQL["open_books"], gen, list(lanes), firsts)
            await borrowed.execute(_SQL["open_hints"], list(lanes))
        return len(lanes)

    async def created(self, aggregate: str) -> int:
        """Return how many lanes a stream was created with, 0 if it was not."""
        async with connection(self._pool) as borrowed:
            return len(await borrowed.fetch(_SQL["lanes_created"], aggregate))

    async def resume(self, lane: int) -> Cleared | None:
        """Lift a lane's halt; None if there is none. Whoever owns the lane claims it again, and looks again."""
        async with self._locked(lane) as (borrowed, _):
            row = await borrowed.fetchrow(_SQL["clear_halt"], lane)
            return Cleared(row["code"], row["detail"]) if row else None

    async def skip(self, lane: int, to_offset: int, reason: str) -> Skipped:
        """Let a halted lane read on at `to_offset`, whatever stands before it. `UsageError` if it is not halted."""
        async with self._locked(lane) as (borrowed, gen):
            await _demand_halt(borrowed, lane)
            epoch = await borrowed.fetchval(_SQL["fence_lane"], lane)
            why = f"skipped: {reason}"
            (row,) = await borrowed.fetch(_SQL["enter_skip"], lane, gen, epoch, to_offset, why)
            return Skipped(row["from_offset"], row["to_offset"])

    async def reconcile(self, lane: int, tails: Tails, reason: str) -> Reconciled:
        """Let a halted lane's history go on behind what its topics hold, on a raised timeline.

        Where the outbox still knows the topic's last event, what follows it is sent as it is: nothing is lost.
        Otherwise what is not known to be published gets numbers behind the topic's. `UsageError` if it is not halted.
        """
        async with self._locked(lane) as (borrowed, gen):
            await _demand_halt(borrowed, lane)
            (read,) = await borrowed.fetch(_SQL["hint"], lane)
            hint = Published._make(read)
            end = await borrowed.fetchval(_SQL["end_of_lane"], lane, gen)
            place = await _known_place(borrowed, lane, tails, end)
            onto = place or Published(*_behind(tails, hint))
            by = (0, 0) if place else (onto.position - hint.position, onto.sequence - hint.sequence)
            after = place.position if place else hint.position
            again = await _move(borrowed, lane, after, by)
            epoch = await borrowed.fetchval(_SQL["fence_lane"], lane)
            why = f"reconciled: {reason}"
            (row,) = await borrowed.fetch(_SQL["enter_reconciliation"], lane, gen, epoch, *by, why)
            await borrowed.execute(_SQL["rewrite_hint"], lane, *onto)
            return Reconciled(row["position"], row["sequence"], row["timeline"], again, by != (0, 0))

    @asynccontextmanager
    async def _locked(self, lane: int) -> AsyncIterator[tuple[Connection, int]]:
        """Hold the lane and the open generation, which is given."""
        async with connection(self._pool) as borrowed, borrowed.transaction():
            gen = await borrowed.fetchval(_SQL["hold_generation"])
            if await borrowed.fetchval(_SQL["lock_lane"], lane) is None:
                raise UsageError(f"there is no lane {lane}: see `tidemill lanes list`")
            yield borrowed, gen


def _demand_same(
    aggregate: str, partitions: int, names: tuple[str, ...], rows: Sequence[asyncpg.Record]
) -> None:
    if len(rows) != partitions:
        raise ContractError(
            f"{aggregate} was created with {len(rows)} lanes, not {partitions}: the number is fixed for the life "
            "of the topics; keep it, or create a new version of them"
        )
    held = (
        rows[0]["command_topic"],
        rows[0]["event_topic"],
        rows[0]["outcome_topic"],
        rows[0]["dead_letter_topic"],
    )
    if held != names:
        raise ContractError(
            f"the lanes of {aggregate} belong to the topic {held[0]}, not {names[0]}: use the prefix they were created "
            "with (TIDEMILL_TOPICS_PREFIX), or another database"
        )


async def _demand_halt(borrowed: Connection, lane: int) -> None:
    if await borrowed.fetchrow(_SQL["clear_halt"], lane) is None:
        raise UsageError(
            f"lane {lane} is not halted, so there is nothing to decide: see `tidemill lanes show {lane}`"
        )


async def _known_place(borrowed: Connection, lane: int, tails: Tails, end: int) -> Published | None:
    """Return where the topics end, if the outbox knows what stands there and has all that follows.

    `end`: the last position of the ledger.
    """
    if any(tail is not None and tail.position > end for tail in tails):
        return None
    if tails.events is None:
        held = await borrowed.fetch(_SQL["first_in_outbox"], lane)
        whole = [tuple(first) for first in held] == [(1, 0)]
        return NOTHING_PUBLISHED if whole and tails.outcomes is None else None
    at = tails.events.position
    rows = await borrowed.fetch(_SQL["events_of_position"], lane, at)
    events = {
        row["sequence"]: event_id(row["command_id"], row["item"] + 1) for row in rows if row["has_event"]
    }
    if events.get(tails.events.sequence) != tails.events.event_id:
        return None
    if tails.outcomes is not None and tails.outcomes.position < at:
        rows = await borrowed.fetch(_SQL["events_of_position"], lane, tails.outcomes.position)
        return Published(tails.outcomes.position, rows[-1]["sequence"], None) if rows else None
    if tails.events.sequence == max(events):
        return Published(*tails.events)
    return Published(at - 1, min(events) - 1, None)  # the position was published in part


def _behind(tails: Tails, hint: Published) -> tuple[int, int, str | None]:
    """Return the numbers behind everything that the topics hold."""
    events = tails.events or _NOTHING
    held = [tail.position for tail in tails if tail is not None]
    return (max([hint.position, *held]), events.sequence, events.event_id)


async def _move(borrowed: Connection, lane: int, after: int, by: tuple[int, int]) -> int:
    """Give what stands behind position `after` numbers that are higher by `by`; return how many rows that is."""
    if by == (0, 0):
        count: int = await borrowed.fetchval(_SQL["count_behind"], lane, after)
        return count
    moved = await borrowed.execute(_SQL["move_outbox"], lane, after, *by)
    await borrowed.execute(_SQL["move_log"], lane, after, *by)
    await borrowed.execute(_SQL["move_parked"], lane, after, by[0])
    await borrowed.execute(_SQL["settle_parked"], lane)
    return int(moved.rsplit(" ", 1)[1])
