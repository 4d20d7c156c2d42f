"""Ownership: the lanes that this process processes, and their claims.

The consumer group decides which process may try, a claim in the database which one does. Every claim is held from the
moment it is made until the partition is revoked, whatever the lane's phase: flowing, halted, or fenced. The life
of a lane is in `lane_phases`; this module asks the database and Kafka what happens next, and acts on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from tidemill.commands import topic_check
from tidemill.commands.halt_watch import WatchedClaims
from tidemill.commands.lane_phases import (
    CLAIMING,
    COUNTED_HALTED,
    IN_COMPARISON,
    STANDING,
    TO_CLAIM,
    WITH_QUEUE,
    LaneLife,
    LanePhase,
    LaneRegistry,
)
from tidemill.commands.lane_queues import LaneQueue, Queues
from tidemill.commands.ports import (
    CommandSource,
    CommandStore,
    LaneFollower,
    OffsetOutOfRange,
    PartitionError,
)
from tidemill.domain.errors import TransientError
from tidemill.domain.lane import Claim, lane_spans
from tidemill.domain.rejections import HaltCode
from tidemill.domain.stream import Stream
from tidemill.runtime.retry import Retrier
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import CLAIMS, LANES_HALTED, LANES_OWNED

_log = logger(__name__)

_FLOWING: Final = frozenset({LanePhase.FLOWING})
_REVOKED: Final = frozenset({LanePhase.RELEASING, LanePhase.UNASSIGNED})
_RECLAIM_AFTER_S: Final = 3.0
_REVOKE_TIMEOUT_S: Final = 5.0
_TOGETHER_S: Final = 1.0
"""How long compared lanes wait for the others, so that many start together."""


class Ownership:
    """The `Assignee` of a source: claims what is assigned, releases what is revoked, and stops lanes that must stop."""

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
        self._lanes = LaneRegistry(stream.partitions, self._moved)
        self._source = source
        self._store = store
        self._follower = follower
        self._queues = queues
        self._retrier = retrier
        self._claims_wanted = asyncio.Event()

    def counts(self) -> dict[str, int]:
        """Return how many lanes flow, are halted, and wait for their claim."""
        return {
            "lanes": self._lanes.count(_FLOWING),
            "halted": self._lanes.count(COUNTED_HALTED),
            "claiming": self._lanes.count(CLAIMING),
        }

    def _moved(self, life: LaneLife, before: LanePhase) -> None:
        """Update a lane's queue and the metrics to its phase."""
        if life.phase not in WITH_QUEUE:
            self._queues.remove([life.partition])
        elif before not in WITH_QUEUE and life.claim is not None:
            self._queues.add([life.claim])
        LANES_OWNED.labels(self._aggregate).set(self._lanes.count(_FLOWING))
        LANES_HALTED.labels(self._aggregate).set(self._lanes.count(COUNTED_HALTED))

    # --- called by the source ---

    def assigned(self, partitions: frozenset[int]) -> None:
        """Note what is to be claimed; another task claims it."""
        self._lanes.assign(partitions)
        self._claims_wanted.set()

    async def revoked(self, partitions: frozenset[int]) -> None:
        """Drop what waits, let the batch in flight end, and release the lanes."""
        queues = [queue for queue in self._queues.all() if queue.partition in partitions]
        claims = self._lanes.revoke(partitions)
        with contextlib.suppress(
            TimeoutError
        ):  # the next owner's claim waits for the transaction, or ends it
            async with asyncio.timeout(_REVOKE_TIMEOUT_S):
                await asyncio.gather(*(queue.idle.wait() for queue in queues))
        await self._release_claims(
            claims, busy={queue.lane_id for queue in queues if not queue.idle.is_set()}
        )

    async def release_all(self) -> None:
        """Release every lane; no batch may be in flight any more."""
        self._claims_wanted.set()
        await self._release_claims(self._lanes.revoke(self._lanes.partitions))

    async def _release_claims(self, claims: Sequence[Claim], busy: Collection[int] = ()) -> None:
        """Stop the relays, and release lanes without a batch in flight."""
        claims = self._lanes.release(claims)
        if not claims:
            return
        lanes = [claim.lane.id for claim in claims]
        await self._follower.drop(lanes)
        released = await self._release([claim for claim in claims if claim.lane.id not in busy])
        _log.info(
            Log.LANES_LOST,
            aggregate=self._aggregate,
            lanes=lane_spans(claim.lane for claim in claims),
            released=released,
        )

    async def _release(self, claims: Sequence[Claim]) -> bool:
        """Release claims; return whether that worked: if not, the next claim finds them not released."""
        with contextlib.suppress(TransientError, TimeoutError):
            async with asyncio.timeout(_REVOKE_TIMEOUT_S):
                await self._store.release(claims)
                return True
        return False

    # --- claim ---

    async def claim_assigned(self) -> None:
        """Claim what is assigned until a stop."""
        async with asyncio.TaskGroup() as group:
            while not self._retrier.stopped:
                await self._claims_wanted.wait()
                self._claims_wanted.clear()
                await self._claim(group)

    async def _claim(self, group: asyncio.TaskGroup) -> None:
        """Claim lanes set-wise; another task does the rest.

        Each step is repeated separately: claiming again because Kafka does not answer would fence this process.
        """
        claims = await self._retrier.until_done(self._claim_wanted)
        if not claims:
            return  # stopping, or nothing is wanted
        CLAIMS.labels(self._aggregate).inc(len(claims))
        if lost := self._lanes.take(claims):
            await self._release(lost)  # revoked meanwhile
        group.create_task(self._settle(group, claims))

    async def _claim_wanted(self) -> Sequence[Claim]:
        """Claim what is wanted now: earlier wishes may belong to another process after an outage of the database."""
        wanted = self._lanes.partitions_in(TO_CLAIM)
        return await self._store.claim(self._aggregate, wanted, self._owner) if wanted else ()

    async def _settle(self, group: asyncio.TaskGroup, claims: Sequence[Claim]) -> None:
        """Compare lanes with their topics, and let each flow as soon as it is found consistent.

        A partition without a leader holds up its own lane only.
        """
        compared = await self._retrier.until_done(lambda: self._compare(claims))
        if compared is None:
            return  # stopping
        halted, taken, shown = compared
        if shown.unanswered:
            group.create_task(self._settle(group, shown.unanswered))
        await self._begin(halted, shown.idle)
        await self._begin_as_compared(taken, shown.idle)

    async def _compare(
        self, claims: Sequence[Claim]
    ) -> tuple[list[Claim], list[Claim], topic_check.Compared]:
        """Halt the lanes that contradict their topics; the relays of the others begin to compare.

        Returns those that are halted, those whose relays compare, and what their topic has shown.
        """
        claims = [claim for claim in claims if self._is_compared(claim)]
        halted = await self._store.halted([claim.lane.id for claim in claims])
        asked = [claim for claim in claims if claim.lane.id not in halted]
        shown = await topic_check.compare_most(self._source, asked)
        findings = shown.findings
        for claim in asked:
            if (finding := findings.get(claim.lane.id)) is not None:
                await self._store.halt(claim, *finding)
        standing = halted.keys() | findings.keys()
        left = {claim.lane.id for claim in shown.unanswered}
        sound = [each for each in asked if each.lane.id not in standing | left and self._is_compared(each)]
        await self._follower.take(sound)
        return [claim for claim in claims if claim.lane.id in standing], sound, shown

    async def _begin_as_compared(self, claims: Sequence[Claim], idle: Collection[int]) -> None:
        """Start the lanes whose relays have compared, together where that takes no time, else one after the other."""
        waiting = {asyncio.create_task(self._follower.compared(claim.lane.id)): claim for claim in claims}
        try:
            while waiting and not self._retrier.stopped:
                done, _ = await asyncio.wait(waiting, timeout=_TOGETHER_S)
                await self._begin([waiting.pop(task) for task in done], idle)
        finally:
            for task in waiting:
                task.cancel()

    async def _begin(self, claims: Sequence[Claim], idle: Collection[int]) -> None:
        """Start the lanes that are still owned; the relay of a lane that was revoked meanwhile must stop, too."""
        if not claims:
            return
        halted = await self._retrier.until_done(lambda: self._note_compared(claims, idle))
        if halted is None:
            return  # stopping
        ours = [claim for claim in claims if self._is_compared(claim)]
        sound = [claim for claim in ours if claim.lane.id not in halted]
        self._lanes.begin(sound)
        for claim in ours:
            if claim.lane.id in halted:
                self.stand_still(claim, *halted[claim.lane.id])
        self._source.resume_at({claim.lane.partition: claim.progress.next_offset for claim in sound})
        self._follower.begun([claim.lane.id for claim in sound])
        _log.info(
            Log.LANES_CLAIMED,
            aggregate=self._aggregate,
            lanes=lane_spans(claim.lane for claim in sound),
            halted=lane_spans(claim.lane for claim in ours if claim.lane.id in halted),
        )
        lost = [claim.lane.id for claim in claims if self._lanes.phase(claim.lane.partition) in _REVOKED]
        await self._follower.drop(lost)

    async def _note_compared(
        self, claims: Sequence[Claim], idle: Collection[int]
    ) -> dict[int, topic_check.Finding]:
        """Note which lanes may be written to from now on; return those that are halted."""
        halted = await self._store.halted([claim.lane.id for claim in claims])
        sound = [claim for claim in claims if claim.lane.id not in halted and self._is_compared(claim)]
        if sound:
            await self._store.compared(sound, idle=idle)
        return halted

    def _is_compared(self, claim: Claim) -> bool:
        """Tell whether a lane is being compared under this claim: not revoked, nor claimed again since."""
        return self._lanes.holds(claim, IN_COMPARISON)

    # --- lanes that must stop ---

    def watched(self) -> WatchedClaims:
        """Return the claims of lanes that a recorded halt would stop, and of those that a cleared one would free."""
        return WatchedClaims(self._lanes.claims_in(_FLOWING), self._lanes.claims_in(STANDING))

    def take_halts(self, watched: WatchedClaims, halted: Mapping[int, topic_check.Finding]) -> None:
        """Stop at halts that the relay or an operator recorded, continue when an operator has cleared one.

        A lane that continues is claimed once: while that claim is made and compared, another one would only fence it.
        """
        for claim in watched.flowing:
            if claim.lane.id in halted and self._lanes.holds(claim, _FLOWING):  # not revoked meanwhile
                self.stand_still(claim, *halted[claim.lane.id])
        for claim in watched.standing:
            if claim.lane.id not in halted and self._lanes.resume(claim):
                _log.info(Log.LANE_RESUMED, lane=claim.lane.name)
                self._claims_wanted.set()

    async def halt_stuck(self, stuck: PartitionError) -> None:
        """Halt a lane at an offset that cannot be fetched: its content must not be guessed.

        What was fetched before it is still applied. Where Kafka has to be asked, that may take as long as the partition
        has no leader.
        """
        self._source.pause(frozenset({stuck.partition}))
        claim = self._lanes.claim_of(stuck.partition, _FLOWING)
        if claim is None:
            return
        finding = await self._retrier.until_done(lambda: self._why_stuck(claim, stuck))
        if finding is None:
            return  # stopping, or it does not flow any more: the next claim compares
        await self._retrier.until_done(lambda: self._store.halt(claim, *finding))
        if self._lanes.stick(claim):
            self._say_halted(claim, *finding)

    async def _why_stuck(self, claim: Claim, stuck: PartitionError) -> topic_check.Finding | None:
        if not self._lanes.holds(claim, _FLOWING):
            return None
        if not isinstance(stuck, OffsetOutOfRange):
            return HaltCode.UNFETCHABLE, str(stuck)
        shown = await topic_check.compare(self._source, [topic_check.as_if_at(claim, stuck.offset)])
        return shown.findings.get(claim.lane.id, (HaltCode.OFFSET_AHEAD, str(stuck)))

    def fenced(self, queues: Sequence[LaneQueue]) -> None:
        """Leave lanes alone that another process claimed. If the group still assigns them here later, none has."""
        claims = [queue.claim for queue in queues]
        self._lanes.fence(claims)
        self._source.pause(frozenset(queue.partition for queue in queues))
        asyncio.get_running_loop().call_later(_RECLAIM_AFTER_S, self._claim_again, claims)
        _log.warning(
            Log.LANES_LOST,
            aggregate=self._aggregate,
            lanes=lane_spans(claim.lane for claim in claims),
            reason="claimed by another process",
        )

    def _claim_again(self, claims: Sequence[Claim]) -> None:
        """Claim lanes that are idle here since a fence, but not those that were assigned and claimed again."""
        self._lanes.reclaim(claims)
        self._claims_wanted.set()

    def stand_still(self, claim: Claim, code: str, detail: str) -> None:
        """Stop a lane whose halt is recorded; what waits is dropped, and read again when it continues."""
        if self._lanes.halt(claim):
            self._source.pause(frozenset({claim.lane.partition}))
            self._say_halted(claim, code, detail)

    def _say_halted(self, claim: Claim, code: str, detail: str) -> None:
        _log.error(
            Log.LANE_HALTED,
            lane=claim.lane.name,
            code=code,
            reason=detail,
            next=f"tidemill lanes show {claim.lane.name}",
        )


def still_ours(queues: Queues, queue: LaneQueue) -> bool:
    """Tell whether a queue is still the lane's present one: not revoked, halted or fenced since."""
    return queues.get(queue.partition) is queue
