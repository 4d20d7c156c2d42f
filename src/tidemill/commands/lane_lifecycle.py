"""Ownership: which lanes this process works, and under which claims.

The consumer group says who may try, a claim in the database says who does. Every claim is held from the moment it is
made until the partition is revoked, whatever becomes of the lane meanwhile: flowing, halted, or fenced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from tidemill.commands import topic_check
from tidemill.commands.lane_queues import LaneQueue, Queues
from tidemill.commands.ports import (
    CommandSource,
    CommandStore,
    LaneFollower,
    OffsetOutOfRange,
    PartitionError,
)
from tidemill.domain.errors import TransientError
from tidemill.domain.lane import Claim, spans
from tidemill.domain.rejections import HaltCode
from tidemill.domain.stream import Stream
from tidemill.runtime.retry import Retrier
from tidemill.runtime.telemetry import CLAIMS, LANES_HALTED, LANES_OWNED, Log, logger

_log = logger(__name__)

_RECLAIM_AFTER_S: Final = 3.0
_REVOKE_PATIENCE_S: Final = 5.0
_TOGETHER_S: Final = 1.0
"""How long lanes that were compared wait for the others, so that many start in one go."""


class Ownership:
    """The `Assignee` of a source: claims what is assigned, lets go of what is revoked, stands still where it must."""

    def __init__(
        self,
        stream: Stream,
        owner: str,
        *,
        source: CommandSource,
        store: CommandStore,
        follower: LaneFollower,
        queues: Queues,
        retrier: Retrier,
    ) -> None:
        """`owner`: this process's name in `tm.lane`, the same as its connections' application name.

        A partition beyond those that `stream` was created with has no lane, and is left paused.
        """
        self._aggregate = stream.aggregate
        self._owner = owner
        self._lanes = stream.partitions
        self._source = source
        self._store = store
        self._follower = follower
        self._queues = queues
        self._retrier = retrier
        self._assigned: set[int] = set()
        self._to_claim: set[int] = set()
        self._comparing: dict[int, Claim] = {}
        self._held: dict[int, Claim] = {}
        self._halted: dict[int, Claim] = {}
        self._idle: set[int] = set()
        self._claims_wanted = asyncio.Event()

    def counts(self) -> dict[str, int]:
        """Return how many lanes flow, stand still, and wait for their claim."""
        return {
            "lanes": len([queue for queue in self._queues.all() if queue.lane not in self._halted]),
            "halted": len(self._halted),
            "claiming": len(self._to_claim | self._comparing.keys()),
        }

    # --- told by the source ---

    def assigned(self, partitions: frozenset[int]) -> None:
        """Note what is to be claimed; the claiming is another task's."""
        self._assigned |= {partition for partition in partitions if partition < self._lanes}
        self._claim_again(partitions)

    async def revoked(self, partitions: frozenset[int]) -> None:
        """Drop what waits, let the batch in flight end, and give the lanes back."""
        self._assigned -= partitions
        self._to_claim -= partitions
        for partition in partitions:
            self._comparing.pop(partition, None)
        queues = self._queues.remove(partitions)
        with contextlib.suppress(
            TimeoutError
        ):  # the next owner's claim waits for the transaction, or ends it
            async with asyncio.timeout(_REVOKE_PATIENCE_S):
                await asyncio.gather(*(queue.idle.wait() for queue in queues))
        await self._let_go(partitions, busy={queue.lane for queue in queues if not queue.idle.is_set()})

    async def let_go_of_all(self) -> None:
        """Give every lane back; no batch may be in flight any more."""
        self._claims_wanted.set()
        self._queues.remove(list(self._held))
        await self._let_go(list(self._held))

    async def _let_go(self, partitions: Iterable[int], busy: Collection[int] = ()) -> None:
        """Stop the relays, and release what no batch of ours still works on."""
        claims = [self._held.pop(partition) for partition in partitions if partition in self._held]
        if not claims:
            return
        lanes = [claim.lane.lane for claim in claims]
        for lane in lanes:
            self._halted.pop(lane, None)
        await self._follower.drop(lanes)
        released = await self._release([claim for claim in claims if claim.lane.lane not in busy])
        _log.info(Log.LANES_LOST, aggregate=self._aggregate, lanes=spans(lanes), released=released)
        self._gauge()

    async def _release(self, claims: Sequence[Claim]) -> bool:
        """Give claims back; return whether that worked: if not, the next claim finds them not released."""
        with contextlib.suppress(TransientError, TimeoutError):
            async with asyncio.timeout(_REVOKE_PATIENCE_S):
                await self._store.release(claims)
                return True
        return False

    # --- claim ---

    async def claim_assigned(self) -> None:
        """Claim what is assigned, as it comes, until a stop."""
        async with asyncio.TaskGroup() as group:
            while not self._retrier.stopped:
                await self._claims_wanted.wait()
                self._claims_wanted.clear()
                if self._to_claim:
                    await self._claim(group)

    async def _claim(self, group: asyncio.TaskGroup) -> None:
        """Claim lanes set-wise; the rest is up to a task of their own.

        Each step is repeated by itself: to claim again because Kafka does not answer would fence ourselves.
        """
        wanted = sorted(self._to_claim)
        claims = await self._retrier.until_done(
            lambda: self._store.claim(self._aggregate, wanted, self._owner)
        )
        if not claims:
            return  # stopping
        CLAIMS.labels(self._aggregate).inc(len(claims))
        held = {claim.lane.partition: claim for claim in claims if claim.lane.partition in self._assigned}
        self._held |= held
        self._comparing |= held
        self._to_claim -= held.keys()
        if lost := [claim for claim in claims if claim.lane.partition not in held]:
            await self._release(lost)  # revoked meanwhile
        group.create_task(self._settle(group, list(held.values())))

    async def _settle(self, group: asyncio.TaskGroup, claims: Sequence[Claim]) -> None:
        """Compare lanes with what is outside, and let each flow as soon as it was found sound.

        A partition that nobody answers for, having no leader, holds up its own lane only.
        """
        compared = await self._retrier.until_done(lambda: self._compare(claims))
        if compared is None:
            return  # stopping
        halted, taken, shown = compared
        self._idle = (self._idle - {claim.lane.lane for claim in claims}) | shown.idle
        if shown.unanswered:
            group.create_task(self._settle(group, shown.unanswered))
        await self._begin(halted)
        await self._begin_as_compared(taken)

    async def _compare(
        self, claims: Sequence[Claim]
    ) -> tuple[list[Claim], list[Claim], topic_check.Compared]:
        """Halt the lanes that are not what is outside; the others' relays begin to look at theirs.

        Returns those that are halted, those whose relays look, and what their topic has shown.
        """
        claims = [claim for claim in claims if self._is_ours(claim)]
        halted = await self._store.halted([claim.lane.lane for claim in claims])
        asked = [claim for claim in claims if claim.lane.lane not in halted]
        shown = await topic_check.compare_most(self._source, asked)
        findings = shown.findings
        for claim in asked:
            if (finding := findings.get(claim.lane.lane)) is not None:
                await self._store.halt(claim, *finding)
        standing = halted.keys() | findings.keys()
        left = {claim.lane.lane for claim in shown.unanswered}
        sound = [each for each in asked if each.lane.lane not in standing | left and self._is_ours(each)]
        await self._follower.take(sound)
        return [claim for claim in claims if claim.lane.lane in standing], sound, shown

    async def _begin_as_compared(self, claims: Sequence[Claim]) -> None:
        """Start the lanes whose relays have compared, together where that takes no time, else one after the other."""
        waiting = {asyncio.create_task(self._follower.compared(claim.lane.lane)): claim for claim in claims}
        try:
            while waiting and not self._retrier.stopped:
                done, _ = await asyncio.wait(waiting, timeout=_TOGETHER_S)
                await self._begin([waiting.pop(task) for task in done])
        finally:
            for task in waiting:
                task.cancel()

    async def _begin(self, claims: Sequence[Claim]) -> None:
        """Start the lanes that are still ours; of one that was revoked meanwhile, its relay must go, too."""
        if not claims:
            return
        halted = await self._retrier.until_done(lambda: self._note_compared(claims))
        if halted is None:
            return  # stopping
        ours = [claim for claim in claims if self._is_ours(claim)]
        sound = [claim for claim in ours if claim.lane.lane not in halted]
        for claim in ours:
            self._comparing.pop(claim.lane.partition, None)
        self._queues.add(sound)
        for claim in sound:
            self._halted.pop(claim.lane.lane, None)
        for claim in ours:
            if claim.lane.lane in halted:
                self.stand_still(claim, *halted[claim.lane.lane])
        self._source.resume_at({claim.lane.partition: claim.progress.next_offset for claim in sound})
        self._follower.begun([claim.lane.lane for claim in sound])
        self._gauge()
        _log.info(
            Log.LANES_CLAIMED,
            aggregate=self._aggregate,
            lanes=spans(claim.lane.lane for claim in sound),
            halted=spans(claim.lane.lane for claim in ours if claim.lane.lane in halted),
        )
        lost = [claim.lane.lane for claim in claims if claim.lane.partition not in self._assigned]
        await self._follower.drop(lost)

    async def _note_compared(self, claims: Sequence[Claim]) -> dict[int, topic_check.Finding]:
        """Note which lanes may be written to from now on; return those that are halted."""
        halted = await self._store.halted([claim.lane.lane for claim in claims])
        sound = [claim for claim in claims if claim.lane.lane not in halted and self._is_ours(claim)]
        if sound:
            await self._store.compared(sound, idle=self._idle)
            self._idle.difference_update(claim.lane.lane for claim in sound)
        return halted

    def _is_ours(self, claim: Claim) -> bool:
        return self._held.get(claim.lane.partition) is claim

    def _claim_again(self, partitions: Iterable[int]) -> None:
        self._to_claim |= self._assigned.intersection(partitions)
        self._claims_wanted.set()

    def _claim_orphans(self, partitions: Iterable[int]) -> None:
        """Claim those that nobody of this process works, nor has halted: others were assigned and claimed anew."""
        halted = {claim.lane.partition for claim in self._halted.values()}
        busy = halted | self._comparing.keys()
        orphans = [each for each in partitions if each not in busy and self._queues.get(each) is None]
        self._claim_again(orphans)

    # --- lanes that must not go on ---

    async def watch_halts(self) -> None:
        """Stop at halts that others recorded (the relay, an operator), go on when an operator has cleared one.

        A lane that goes on is claimed once: while that claim is made and compared, another one would only fence it.
        """
        lanes = {queue.lane: queue.claim for queue in self._queues.all()} | self._halted
        if not lanes:
            return
        halted = await self._store.halted(list(lanes))
        for lane, finding in halted.items():
            claim = lanes[lane]
            if lane not in self._halted and self._is_ours(claim):  # not revoked meanwhile
                self.stand_still(claim, *finding)
        busy = self._to_claim | self._comparing.keys()
        for lane in set(self._halted) & set(lanes) - set(halted):
            if (partition := self._halted[lane].lane.partition) not in busy:
                _log.info(Log.LANE_RESUMED, lane=lane)
                self._claim_again([partition])

    async def halt_stuck(self, stuck: PartitionError) -> None:
        """Halt a lane at an offset that cannot be fetched: nobody may guess what stands there.

        What was fetched before it is still applied. Where Kafka has to be asked, that may take as long as the partition
        has no leader.
        """
        self._source.pause(frozenset({stuck.partition}))
        queue = self._queues.get(stuck.partition)
        if queue is None:
            return
        claim = queue.claim
        finding = await self._retrier.until_done(lambda: self._why_stuck(claim, stuck))
        if finding is None:
            return  # stopping, or revoked meanwhile: the next claim compares
        await self._retrier.until_done(lambda: self._store.halt(claim, *finding))
        if self._is_ours(claim):
            self._halted[queue.lane] = claim
            self._say_halted(claim, *finding)

    async def _why_stuck(self, claim: Claim, stuck: PartitionError) -> topic_check.Finding | None:
        if not self._is_ours(claim):
            return None
        if not isinstance(stuck, OffsetOutOfRange):
            return HaltCode.UNFETCHABLE, str(stuck)
        shown = await topic_check.compare(self._source, [topic_check.as_if_at(claim, stuck.offset)])
        return shown.findings.get(claim.lane.lane, (HaltCode.OFFSET_AHEAD, str(stuck)))

    def fenced(self, queues: Sequence[LaneQueue]) -> None:
        """Let lanes be that somebody else claimed. If the group still gives them to us a while later, nobody has."""
        partitions = [queue.partition for queue in queues]
        self._queues.remove(partitions)
        self._source.pause(frozenset(partitions))
        asyncio.get_running_loop().call_later(_RECLAIM_AFTER_S, self._claim_orphans, partitions)
        self._gauge()
        _log.warning(
            Log.LANES_LOST,
            aggregate=self._aggregate,
            lanes=spans(queue.lane for queue in queues),
            reason="claimed by another process",
        )

    def stand_still(self, claim: Claim, code: str, detail: str) -> None:
        """Stop a lane whose halt is recorded; what waits is dropped, and read again when it goes on."""
        self._source.pause(frozenset({claim.lane.partition}))
        self._queues.remove([claim.lane.partition])
        self._halted[claim.lane.lane] = claim
        self._say_halted(claim, code, detail)

    def _say_halted(self, claim: Claim, code: str, detail: str) -> None:
        self._gauge()
        _log.error(
            Log.LANE_HALTED,
            lane=claim.lane.lane,
            code=code,
            reason=detail,
            next=f"tidemill lanes show {claim.lane.lane}",
        )

    def _gauge(self) -> None:
        LANES_OWNED.labels(self._aggregate).set(self.counts()["lanes"])
        LANES_HALTED.labels(self._aggregate).set(len(self._halted))


def still_ours(queues: Queues, queue: LaneQueue) -> bool:
    """Tell whether a queue that was taken from is the lane's present one: not revoked, halted or fenced since."""
    return queues.get(queue.partition) is queue
