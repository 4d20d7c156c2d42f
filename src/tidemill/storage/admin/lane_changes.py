"""An operator's changes of lanes: create them, resume a halted one, skip, reconcile its history.

Each is one transaction under the lane's lock, writes a row to the ledger with the operator and the reason, and raises
the epoch, so that a process with the old state is fenced and claims again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from tidemill.admin.lane_results import Cleared, Parked, Reconciled, Seen, Skipped, TopicsEnd
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.identity import chain, event_id
from tidemill.domain.lane import StreamTopics
from tidemill.outbox.common_history import Agreement, Point
from tidemill.outbox.ports import Published, Tail, Tails
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("operations.sql"))

_NOTHING: Final = Tail(0, 0, None)


class LaneDatabase:
    """An operator's changes of lanes: `admin.lanes.ports.LaneStore`."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def create(self, aggregate: str, topics: StreamTopics, first_offsets: Mapping[int, int]) -> int:
        partitions = len(first_offsets)
        async with connection(self._pool) as borrowed, borrowed.transaction():
            gen = await _hold_generation(borrowed)
            names = (topics.commands, topics.events, topics.outcomes, topics.dead_letters)
            if there := await borrowed.fetch(_SQL["lanes_created"], aggregate):
                _demand_same(aggregate, partitions, names, there)
                return 0
            created = await borrowed.fetch(_SQL["create_lanes"], aggregate, partitions, *names)
            lanes = {row["lane"]: row["partition"] for row in created}
            firsts = [first_offsets[partition] for partition in lanes.values()]
            await borrowed.execute(_SQL["open_ledgers"], gen, list(lanes), firsts)
            await borrowed.execute(_SQL["open_hints"], list(lanes))
        return len(lanes)

    async def created(self, aggregate: str) -> int:
        async with connection(self._pool) as borrowed:
            return len(await borrowed.fetch(_SQL["lanes_created"], aggregate))

    async def resume(self, lane_id: int) -> Cleared | None:
        async with self._locked(lane_id) as (borrowed, _):
            row = await borrowed.fetchrow(_SQL["clear_halt"], lane_id)
            return Cleared(row["code"], row["detail"]) if row else None

    async def park(self, lane_id: int, reason: str) -> Parked | None:
        async with self._locked(lane_id) as (borrowed, gen):
            row = await borrowed.fetchrow(_SQL["end_wait"], lane_id, gen, reason)
            if row is None:
                return None
            epoch = await borrowed.fetchval(_SQL["lock_lane"], lane_id)
            why = f"parked, offset {row['record_offset']} of schema {row['schema']}: {reason}"
            await borrowed.execute(_SQL["enter_note"], lane_id, gen, epoch, why)
            return Parked(*row)

    async def skip(self, lane_id: int, to_offset: int, reason: str, *, seen: Seen) -> Skipped:
        async with self._locked(lane_id) as (borrowed, gen):
            await _demand_halt(borrowed, lane_id)
            await _demand_unchanged(borrowed, lane_id, seen)
            epoch = await borrowed.fetchval(_SQL["fence_lane"], lane_id)
            why = f"skipped: {reason}"
            (row,) = await borrowed.fetch(_SQL["enter_skip"], lane_id, gen, epoch, to_offset, why)
            return Skipped(row["from_offset"], row["to_offset"])

    async def accept(self, lane_id: int, offsets: Mapping[str, int], reason: str, *, seen: Seen) -> Cleared:
        async with self._locked(lane_id) as (borrowed, gen):
            halt = await _demand_halt(borrowed, lane_id)
            await _demand_unchanged(borrowed, lane_id, seen)
            for topic, offset in offsets.items():
                await borrowed.execute(_SQL["accept_records"], lane_id, topic, offset, reason)
            epoch = await borrowed.fetchval(_SQL["fence_lane"], lane_id)
            places = ", ".join(f"{topic} up to offset {offset}" for topic, offset in offsets.items())
            await borrowed.execute(
                _SQL["enter_note"],
                lane_id,
                gen,
                epoch,
                f"accepted records of somebody else: {places}: {reason}",
            )
            return halt

    async def points(self, lane_id: int) -> list[Point]:
        async with connection(self._pool) as borrowed:
            rows = await borrowed.fetch(_SQL["points_of_lane"], lane_id)
        return list({row["sequence"]: Point._make(row) for row in rows}.values())

    async def points_between(self, lane_id: int, before: Point, end: Point) -> list[Point]:
        """Add up the ids in the log: a pack says nothing of the positions within it."""
        async with connection(self._pool) as borrowed:
            rows = await borrowed.fetch(_SQL["events_between"], lane_id, before.position, end.position)
        points, chained = list[Point](), before.chain
        for row in rows:
            first = row["sequence"] - row["events"]
            for number in range(1, row["events"] + 1):
                chained = chain(chained, event_id(str(row["command_id"]), number))
                points.append(Point(row["position"], first + number, chained))
        return points if points and points[-1][1:] == end[1:] else []

    async def reconcile(
        self, lane_id: int, topics: TopicsEnd, agreed: Agreement, reason: str, *, seen: Seen
    ) -> Reconciled:
        async with self._locked(lane_id) as (borrowed, gen):
            await _demand_halt(borrowed, lane_id)
            await _demand_unchanged(borrowed, lane_id, seen)
            plan = await _plan(borrowed, lane_id, gen, topics, agreed)
            by = plan.by
            again = await _move(borrowed, lane_id, plan.after, by)
            epoch = await borrowed.fetchval(_SQL["fence_lane"], lane_id)
            why = f"reconciled: {reason}"
            entering = (_SQL["enter_reconciliation"], lane_id, gen, epoch, *by, why, plan.timeline)
            (row,) = await borrowed.fetch(*entering)
            (hint,) = await borrowed.fetch(_SQL["hint"], lane_id)
            await borrowed.execute(_SQL["rewrite_hint"], lane_id, *plan.onto)
            await _enter_fork(borrowed, lane_id, topics, plan)
            if (topics.tails.events or _NOTHING).sequence < hint["sequence"]:
                await borrowed.execute(_SQL["read_topic_again"], lane_id, topics.first_offset)
            return Reconciled(
                row["position"],
                row["sequence"],
                row["timeline"],
                again,
                by != (0, 0),
                plan.onto.sequence - plan.forked_at,
                plan.lost,
            )

    @asynccontextmanager
    async def _locked(self, lane_id: int) -> AsyncIterator[tuple[Connection, int]]:
        """Hold the lane and the open generation, which is given."""
        async with connection(self._pool) as borrowed, borrowed.transaction():
            if await borrowed.fetchval(_SQL["lock_lane"], lane_id) is None:
                raise UsageError(f"lane {lane_id} does not exist", code=ErrorCode.UNKNOWN_LANE, lane=lane_id)
            yield borrowed, await _hold_generation(borrowed)


async def _hold_generation(borrowed: Connection) -> int:
    """Keep the log from rolling until the transaction ends; return its open generation."""
    await borrowed.execute(_SQL["hold_log"])
    gen: int = await borrowed.fetchval(_SQL["hold_generation"])
    return gen


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


async def _demand_halt(borrowed: Connection, lane_id: int) -> Cleared:
    row = await borrowed.fetchrow(_SQL["clear_halt"], lane_id)
    if row is None:
        raise UsageError(
            f"lane {lane_id} is not halted, so there is nothing to decide",
            code=ErrorCode.LANE_NOT_HALTED,
            lane=lane_id,
        )
    return Cleared(row["code"], row["detail"])


async def _demand_unchanged(borrowed: Connection, lane_id: int, seen: Seen) -> None:
    (row,) = await borrowed.fetch(_SQL["lane_seen"], lane_id)
    if Seen(*row) != seen:
        raise UsageError(
            f"lane {lane_id} was changed while its topics were compared; nothing was decided: try again"
        )


class _Plan(NamedTuple):
    """How a lane continues: rows after `after` are sent after `onto`. `lost`: events that the topic will lack."""

    after: Agreement
    onto: Published
    forked_at: int
    timeline: int
    lost: int

    @property
    def by(self) -> tuple[int, int]:
        """Return by how much positions and sequences after `after` rise."""
        return self.onto.position - self.after.position, self.onto.sequence - self.after.sequence


async def _plan(borrowed: Connection, lane_id: int, gen: int, topics: TopicsEnd, agreed: Agreement) -> _Plan:
    tails = topics.tails
    (end,) = await borrowed.fetch(_SQL["end_of_lane"], lane_id, gen)
    timeline = max(end["timeline"], topics.timeline) + 1
    (first,) = await borrowed.fetch(_SQL["before_outbox"], lane_id, gen)
    reach = Agreement(*first)
    events = tails.events or _NOTHING
    held = max((tail.position for tail in tails if tail is not None), default=0)
    if events.sequence <= agreed.sequence and held <= end["position"]:
        after = max(await _place_behind(borrowed, lane_id, tails, agreed), reach)
        known = events.event_id if after.sequence == events.sequence else None
        lost = max(0, after.sequence - events.sequence)
        return _Plan(after, Published(*after, known), after.sequence, timeline, lost)
    after = max(agreed, reach)
    sequence = max(events.sequence, after.sequence)
    onto = Published(
        max(held, after.position), sequence, events.event_id if sequence == events.sequence else None
    )
    forked_at = agreed.sequence if events.sequence > agreed.sequence else sequence
    return _Plan(after, onto, forked_at, timeline, after.sequence - agreed.sequence)


async def _place_behind(borrowed: Connection, lane_id: int, tails: Tails, agreed: Agreement) -> Agreement:
    """Return the place after which rows are sent, where the topics only lack some; the shortest topic counts."""
    if tails.events is None:
        return Agreement(0, 0)
    at = tails.events.position
    if tails.outcomes is not None and tails.outcomes.position < at:
        rows = await borrowed.fetch(_SQL["events_of_position"], lane_id, tails.outcomes.position)
        return Agreement(tails.outcomes.position, rows[-1]["sequence"]) if rows else agreed
    rows = await borrowed.fetch(_SQL["events_of_position"], lane_id, at)
    sequences = [row["sequence"] for row in rows if row["has_event"]]
    if sequences and tails.events.sequence < max(sequences):
        return Agreement(at - 1, min(sequences) - 1)  # the position was published in part
    return Agreement(at, tails.events.sequence)


async def _enter_fork(borrowed: Connection, lane_id: int, topics: TopicsEnd, plan: _Plan) -> None:
    """Record how history continues, for the relay and for read models; halt those that must be rebuilt."""
    sequence, position = (topics.tails.events or _NOTHING).sequence, topics.tails.outcomes
    await borrowed.execute(
        _SQL["enter_fork"],
        lane_id,
        plan.timeline,
        plan.forked_at,
        plan.onto.sequence,
        plan.onto.position,
        sequence,
        None if position is None else position.position,
    )
    await borrowed.execute(_SQL["halt_views_of_withdrawn"], lane_id, plan.forked_at, plan.onto.sequence)


async def _move(borrowed: Connection, lane_id: int, agreed: Agreement, by: tuple[int, int]) -> int:
    """Raise the numbers of rows after a place by `by`; return the number of rows and of positions in packs."""
    after = agreed.position
    count: int = await borrowed.fetchval(_SQL["count_behind"], lane_id, after)
    if by == (0, 0):
        return count
    await borrowed.execute(_SQL["split_pack"], lane_id, *agreed)
    await borrowed.execute(_SQL["move_packs"], lane_id, after, *by)
    await borrowed.execute(_SQL["move_outbox"], lane_id, after, *by)
    await borrowed.execute(_SQL["move_log"], lane_id, after, *by)
    await borrowed.execute(_SQL["move_parked"], lane_id, after, by[0])
    await borrowed.execute(_SQL["settle_parked"], lane_id)
    return count
