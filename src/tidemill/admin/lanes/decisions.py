"""An operator's decisions about a stopped lane: resume it, skip what cannot be read, reconcile, accept, park."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidemill.admin.lane_results import Cleared, Parked, Reconciled, Seen, Skipped, TopicsEnd
from tidemill.admin.lanes.comparison import LaneComparison
from tidemill.admin.lanes.ports import LaneStore, LaneTopics, TopicHistory
from tidemill.admin.lanes.states import claim_of, find_lane
from tidemill.admin.ports import LaneReader, TopicInspector
from tidemill.admin.reasons import reason_of
from tidemill.admin.rows import LaneState
from tidemill.commands import topic_check
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import LaneHalted, UsageError
from tidemill.domain.rejections import HaltCode
from tidemill.outbox.common_history import agreement_of_lane
from tidemill.outbox.ports import ForeignTail

_OF_THE_TOPIC_IN: Final = frozenset(
    {HaltCode.TOPIC_CHANGED, HaltCode.OFFSET_LOST, HaltCode.OFFSET_AHEAD, HaltCode.PARTITIONS_CHANGED}
)
_OF_THE_TOPICS_OUT: Final = frozenset(
    {HaltCode.HISTORY_FORKED, HaltCode.HISTORY_BEHIND, HaltCode.TOPIC_BEHIND}
)
_MAY_GO_BACK: Final = frozenset({HaltCode.TOPIC_CHANGED, HaltCode.OFFSET_AHEAD, HaltCode.PARTITIONS_CHANGED})


@dataclass(frozen=True, kw_only=True)
class LaneDecisions:
    """Decides about lanes, each named by its id or as `AGGREGATE/PARTITION`."""

    lanes: LaneReader
    store: LaneStore
    comparison: LaneComparison
    topics: TopicInspector
    lane_topics: LaneTopics

    async def resume(self, name: str) -> Cleared:
        """Lift a lane's halt after its cause was checked again.

        Raises:
            UsageError: it is not halted, or the cause is still there; nothing was changed.
        """
        state = await self._halted(name)
        await self._look_again(state)
        cleared = await self.store.resume(state.lane)
        if cleared is None:
            raise UsageError(f"lane {state.name} was resumed by another process meanwhile")
        return cleared

    async def park(self, name: str, reason: str) -> Parked:
        """Resume a lane that waits for a newer version: park the command that it waits for. Raises `UsageError`."""
        why = reason_of(reason)
        state = await find_lane(self.lanes, name)
        parked = await self.store.park(state.lane, why)
        if parked is None:
            raise UsageError(
                f"lane {state.name} does not wait for a newer version, so there is nothing to park"
            )
        return parked

    async def skip(self, name: str, to_offset: int, reason: str) -> Skipped:
        """Resume a halted lane at `to_offset`; the reason is stored in the ledger. Raises `UsageError`."""
        why = reason_of(reason)
        state = await self._halted(name)
        demand_same_count(state, await self.topics.partitions(state.command_topic))
        bounds = await self.topics.bounds({state.command_topic: state.partitions})
        demand_offset(state, to_offset, bounds[state.command_topic][state.partition])
        return await self.store.skip(state.lane, to_offset, why, seen=_seen(state))

    async def reconcile(self, name: str, reason: str) -> Reconciled:
        """Continue a halted lane's history after the end of its topics, on a raised timeline.

        Raises:
            UsageError: it is not halted, or not for its history.
        """
        why = reason_of(reason)
        state = await self._halted(name)
        if state.halt_code not in _OF_THE_TOPICS_OUT:
            raise UsageError(
                f"lane {state.name} is halted with {state.halt_code}, which does not concern its history",
                code=ErrorCode.OTHER_HALT,
                lane=state.name,
            )
        end = await self.comparison.end(state)
        async with self.comparison.history(state, end) as history:
            ends = await _ends(history, state)
            agreed = await agreement_of_lane(
                self.store, state.lane, ends.tails.events, end.forks, history.chain_at
            )
        return await self.store.reconcile(state.lane, ends, agreed, why, seen=_seen(state))

    async def accept(self, name: str, reason: str) -> dict[str, int]:
        """Resume a lane although another program wrote into its topics; return topic -> up to which offset.

        Raises:
            UsageError: it is not halted, or its topics end with records of Tidemill.
        """
        why = reason_of(reason)
        state = await self._halted(name)
        async with self.comparison.history(state, await self.comparison.end(state)) as history:
            found = await history.foreign()
        if state.halt_code != HaltCode.FOREIGN_TAIL or not found:
            raise UsageError(
                f"lane {state.name} is halted with {state.halt_code}, and its topics end with "
                f"{'records of another program' if found else 'records of Tidemill'}: there is nothing to accept; "
                f"see `tidemill lanes show {state.name}`"
            )
        await self.store.accept(state.lane, found, why, seen=_seen(state))
        return found

    # --- what halted it ----------------------------------------------------------------------------------------------

    async def _halted(self, name: str) -> LaneState:
        state = await find_lane(self.lanes, name)
        if state.halt_code is None:
            waits = state.waits_since is not None
            hint = f"; it waits: `tidemill lanes resume {state.name} --park --reason TEXT`" if waits else ""
            raise UsageError(f"lane {state.name} is not halted, so there is nothing to decide{hint}")
        return state

    async def _look_again(self, state: LaneState) -> None:
        """Raise `UsageError` if the cause of the halt persists. Other causes are found as soon as it is claimed."""
        if state.halt_code in _OF_THE_TOPIC_IN:
            await self._look_at_commands(state)
        if state.halt_code in _OF_THE_TOPICS_OUT | {HaltCode.FOREIGN_TAIL}:
            await self._look_at_history(state)

    async def _look_at_commands(self, state: LaneState) -> None:
        source = self.lane_topics.commands(state.command_topic)
        try:
            findings = (await topic_check.compare(source, [claim_of(state)])).findings
        finally:
            await source.close()
        for code, detail in findings.values():
            raise UsageError(
                f"still {code}: {detail}\nrestore the topic, or decide where to continue: "
                f"tidemill lanes resume {state.name} --skip-to OFFSET --reason TEXT"
            )

    async def _look_at_history(self, state: LaneState) -> None:
        try:
            await self.comparison.compare(state)
        except ForeignTail as found:
            raise UsageError(
                f"still FOREIGN_TAIL: {found}\nrevoke the right to write there, then continue after it: "
                f"tidemill lanes resume {state.name} --accept-foreign --reason TEXT"
            ) from found
        except LaneHalted as halt:
            raise UsageError(
                f"still {halt.code}: {halt.detail}\nrestore what is missing, or continue the history after it: "
                f"tidemill lanes reconcile {state.name} --reason TEXT"
            ) from halt


def _seen(state: LaneState) -> Seen:
    return Seen(state.epoch, state.batch)


def demand_same_count(state: LaneState, count: int) -> None:
    """While the topic has another number of partitions, none of its offsets is valid. Raises `UsageError`."""
    if count != state.partitions:
        raise UsageError(
            f"still PARTITIONS_CHANGED: {state.command_topic} has {count} partitions, and {state.partitions} lanes "
            "were created for it: delete it and run `tidemill topics create`, which creates it as before"
        )


def demand_offset(state: LaneState, to_offset: int, bounds: tuple[int, int]) -> None:
    """Return if a halted lane may continue at an offset. `bounds`: of its partition. Raises `UsageError`."""
    first, end = bounds
    if not first <= to_offset <= end:
        raise UsageError(
            f"{state.command_topic}/{state.partition} holds offsets {first} to {end - 1}: "
            f"choose --skip-to between {first} and {end}"
        )
    if to_offset < state.next_offset and state.halt_code not in _MAY_GO_BACK:
        raise UsageError(
            f"lane {state.name} has consumed everything before offset {state.next_offset}: "
            "choose --skip-to from there on"
        )


async def _ends(history: TopicHistory, state: LaneState) -> TopicsEnd:
    try:
        return await history.ends()
    except ForeignTail as found:
        raise UsageError(
            f"{found}; first let the lane continue after it: "
            f"tidemill lanes resume {state.name} --accept-foreign --reason TEXT"
        ) from found
