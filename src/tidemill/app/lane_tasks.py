"""What an operator does about lanes: look at them, resume a halted one, skip what cannot be read, reconcile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tidemill.admin.lane_results import Cleared, Parked, Reconciled, Seen, Skipped, TopicsEnd
from tidemill.admin.rows import LaneState, LedgerEntry
from tidemill.app.connections import kafka_connection
from tidemill.app.deployment import Deployment
from tidemill.app.operations import inspecting, operating
from tidemill.app.startup.lanes import claim_of, find_lane, lane_of
from tidemill.commands import topic_check
from tidemill.domain.errors import LaneHalted, TransientError, UsageError
from tidemill.domain.rejections import CHOICES, HALTED
from tidemill.outbox.common_history import agreement
from tidemill.outbox.ports import ForeignTail, LaneEnd, Published
from tidemill.outbox.tail_check import compare_tails
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.admin.lane_changes import LaneAdministration
from tidemill.storage.database.pool import Pool
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.transport.kafka.admin.inspection import Inspector
from tidemill.transport.kafka.commands.source import KafkaCommandSource
from tidemill.transport.kafka.outbox.history import LaneHistory, Told

_OF_THE_TOPIC_IN: Final = frozenset({"TOPIC_CHANGED", "OFFSET_LOST", "OFFSET_AHEAD", "PARTITIONS_CHANGED"})
_OF_THE_TOPICS_OUT: Final = frozenset({"HISTORY_FORKED", "HISTORY_BEHIND", "TOPIC_BEHIND"})
_MAY_GO_BACK: Final = frozenset({"TOPIC_CHANGED", "OFFSET_AHEAD", "PARTITIONS_CHANGED"})
_LONGEST_REASON: Final = 500


@dataclass(frozen=True)
class LaneShown:
    """A lane with the newest entries of its ledger; if it is halted, what that means and what can be done."""

    state: LaneState
    ledger: Sequence[LedgerEntry]
    advice: str | None
    choices: Sequence[str] = ()


async def list_lanes(deployment: Deployment, aggregate: str | None) -> list[LaneState]:
    """Return lanes by aggregate and partition."""
    chosen = deployment.catalog.of(aggregate).stream.aggregate if aggregate else None
    async with operating(deployment) as (_, pool):
        return await OperationsDatabase(pool).lanes(chosen)


async def show_lane(deployment: Deployment, name: str, entries: int) -> LaneShown:
    """Return a lane, named by its id or as `AGGREGATE/PARTITION`. Raises `UsageError` if there is none."""
    async with operating(deployment) as (_, pool):
        database = OperationsDatabase(pool)
        state = await find_lane(database, name)
        ledger = await database.ledger(state.lane, entries)
    advice = HALTED.get(state.halt_code, "") if state.halt_code else None
    choices = [each.replace("LANE", state.name) for each in CHOICES.get(state.halt_code or "", ())]
    return LaneShown(state, ledger, advice, choices)


async def resume(deployment: Deployment, name: str) -> Cleared:
    """Lift a lane's halt after its cause was looked for again.

    Raises:
        UsageError: it is not halted, or the cause is still there; nothing was changed.
    """
    async with _halted_lane(deployment, name) as (pool, state):
        await _look_again(deployment, pool, state)
        cleared = await LaneAdministration(pool).resume(state.lane)
    if cleared is None:
        raise UsageError(f"lane {state.name} was resumed by somebody else meanwhile")
    return cleared


async def park(deployment: Deployment, name: str, reason: str) -> Parked:
    """Let a lane that waits for a newer version go on: what it stands before is parked. Raises `UsageError`."""
    why = reason_of(reason)
    async with operating(deployment) as (_, pool):
        state = await find_lane(OperationsDatabase(pool), name)
        parked = await LaneAdministration(pool).park(state.lane, why)
    if parked is None:
        raise UsageError(f"lane {state.name} does not wait for a newer version, so there is nothing to park")
    return parked


async def skip(deployment: Deployment, name: str, to_offset: int, reason: str) -> Skipped:
    """Let a halted lane read on at `to_offset`; the ledger keeps the reason. Raises `UsageError`."""
    why = reason_of(reason)
    async with _halted_lane(deployment, name) as (pool, state), inspecting(deployment) as inspector:
        await _demand_same_count(inspector, state)
        bounds = await inspector.bounds({state.command_topic: state.partitions})
        first, end = bounds[state.command_topic][state.partition]
        if not first <= to_offset <= end:
            raise UsageError(
                f"{state.command_topic}/{state.partition} holds offsets {first} to {end - 1}: "
                f"choose --skip-to between {first} and {end}"
            )
        if to_offset < state.next_offset and state.halt_code not in _MAY_GO_BACK:
            raise UsageError(
                f"lane {state.name} has consumed what stands before offset {state.next_offset}: "
                "choose --skip-to from there on"
            )
        return await LaneAdministration(pool).skip(state.lane, to_offset, why, seen=_seen(state))


async def reconcile(deployment: Deployment, name: str, reason: str) -> Reconciled:
    """Let a halted lane's history go on behind what its topics hold, on a raised timeline.

    Raises:
        UsageError: it is not halted, or not for its history.
    """
    why = reason_of(reason)
    async with _halted_lane(deployment, name) as (pool, state):
        if state.halt_code not in _OF_THE_TOPICS_OUT:
            raise UsageError(
                f"lane {state.name} is halted with {state.halt_code}, which is not about its history: "
                f"see `tidemill lanes show {state.name}`"
            )
        administration = LaneAdministration(pool)
        end = await _end(pool, state)
        async with _history(deployment, state, end) as history:
            told = await _told(history, state)
            points = await administration.points(state.lane)
            agreed = await agreement(points, told.tails.events, end.forks, history.chain_at)
        topics = TopicsEnd(told.tails, told.timeline, told.first_offset)
        return await administration.reconcile(state.lane, topics, agreed, why, seen=_seen(state))


async def accept(deployment: Deployment, name: str, reason: str) -> dict[str, int]:
    """Let a lane go on although somebody else wrote into its topics; return topic -> up to which offset.

    Raises:
        UsageError: it is not halted, or its topics end with records of ours.
    """
    why = reason_of(reason)
    async with _halted_lane(deployment, name) as (pool, state):
        async with _history(deployment, state, await _end(pool, state)) as history:
            found = await history.foreign()
        if state.halt_code != "FOREIGN_TAIL" or not found:
            raise UsageError(
                f"lane {state.name} is halted with {state.halt_code}, and its topics end with "
                f"{'records of somebody else' if found else 'records of ours'}: there is nothing to accept; "
                f"see `tidemill lanes show {state.name}`"
            )
        await LaneAdministration(pool).accept(state.lane, found, why, seen=_seen(state))
    return found


# --- shared ----------------------------------------------------------------------------------------------------------


def _seen(state: LaneState) -> Seen:
    return Seen(state.epoch, state.batch)


async def _demand_same_count(inspector: Inspector, state: LaneState) -> None:
    """While the topic has another number of partitions, no offset of it is the right one."""
    count = await inspector.partitions(state.command_topic)
    if count != state.partitions:
        raise UsageError(
            f"still PARTITIONS_CHANGED: {state.command_topic} has {count} partitions, and {state.partitions} lanes "
            "were created for it: delete it and run `tidemill topics create`, which makes it as it was"
        )


@asynccontextmanager
async def _halted_lane(deployment: Deployment, name: str) -> AsyncIterator[tuple[Pool, LaneState]]:
    async with operating(deployment) as (_, pool):
        state = await find_lane(OperationsDatabase(pool), name)
        if state.halt_code is None:
            waits = state.waits_since is not None
            hint = f"; it waits: `tidemill lanes resume {state.name} --park --reason TEXT`" if waits else ""
            raise UsageError(f"lane {state.name} is not halted, so there is nothing to decide{hint}")
        yield pool, state


async def _look_again(deployment: Deployment, pool: Pool, state: LaneState) -> None:
    """Raise `UsageError` if what halted the lane is still so. Other causes show as soon as it is claimed."""
    if state.halt_code in _OF_THE_TOPIC_IN:
        source = KafkaCommandSource(
            kafka_connection(deployment.settings), topic=state.command_topic, group=state.command_topic
        )
        try:
            findings = (await topic_check.compare(source, [claim_of(state)])).findings
        finally:
            await source.close()
        for code, detail in findings.values():
            raise UsageError(
                f"still {code}: {detail}\nrestore the topic, or decide where to read on: "
                f"tidemill lanes resume {state.name} --skip-to OFFSET --reason TEXT"
            )
    if state.halt_code in _OF_THE_TOPICS_OUT | {"FOREIGN_TAIL"}:
        try:
            await compare_history(deployment, pool, state)
        except ForeignTail as found:
            raise UsageError(
                f"still FOREIGN_TAIL: {found}\ntake the right to write away, then go on behind it: "
                f"tidemill lanes resume {state.name} --accept-foreign --reason TEXT"
            ) from found
        except LaneHalted as halt:
            raise UsageError(
                f"still {halt.code}: {halt.detail}\nrestore what is missing, or let the history go on behind it: "
                f"tidemill lanes reconcile {state.name} --reason TEXT"
            ) from halt


async def compare_history(deployment: Deployment, pool: Pool, state: LaneState) -> None:
    """Compare how a lane's topics end with the database, also while its owner works it.

    So the hint is read first, which must not be ahead of the topics, and the ledger last, which must not be behind.

    Raises:
        LaneHalted: they contradict each other.
        ForeignTail: a topic ends with a record of somebody else.
        TransientError: a transaction hides how a topic ends, or a server is away.
    """
    outbox, lane = OutboxDatabase(pool), state.lane
    published: Published = await outbox.published(lane)
    async with _history(deployment, state, await _end(pool, state)) as history:
        told = await history.told()
    (now,) = await OperationsDatabase(pool).lanes(lane=lane)
    tails, known = told.tails, None
    if tails.events is not None:
        known = await outbox.events_at(lane, tails.events.position)
    try:
        compare_tails(lane_of(state), tails, await _end(pool, now), published, known)
    except LaneHalted as halt:
        if told.hidden:
            raise TransientError(
                f"a transaction is open at the end of a topic of lane {lane}: {halt}"
            ) from halt
        raise


async def _end(pool: Pool, state: LaneState) -> LaneEnd:
    end = LaneEnd(state.position, state.sequence, state.timeline)
    return await OutboxDatabase(pool).end_with_history(state.lane, end)


def _history(deployment: Deployment, state: LaneState, end: LaneEnd) -> LaneHistory:
    return LaneHistory(kafka_connection(deployment.settings), lane_of(state), end.accepted)


async def _told(history: LaneHistory, state: LaneState) -> Told:
    try:
        return await history.told()
    except ForeignTail as found:
        raise UsageError(
            f"{found}; first let the lane go on behind it: "
            f"tidemill lanes resume {state.name} --accept-foreign --reason TEXT"
        ) from found


def reason_of(text: str) -> str:
    """Return a reason as it is kept. Raises `UsageError` for one that says nothing, or too much."""
    reason = " ".join(text.split())
    if not reason or len(reason) > _LONGEST_REASON:
        raise UsageError(f"--reason: say in at most {_LONGEST_REASON} characters why; it is kept")
    return reason
