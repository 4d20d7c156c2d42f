"""The intake: a service that owns lanes of one stream and applies what arrives in them.

    poll -> queue per lane -> a batch over the lanes that are ready -> commit -> wake the relay, answer who asked

Reading, claiming and writing are tasks of their own: the client's callbacks never wait for the database, and while one
batch is in the database the next one is decoded. What waits is bounded: a lane with two batches behind it is paused.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_exception_type,
    wait_random_exponential,
)

from tidemill.commands import claiming, replies
from tidemill.commands.batch import BatchWriter, Done
from tidemill.commands.ports import (
    CommandSource,
    CommandStore,
    LaneFollower,
    OffsetOutOfRange,
    PartitionError,
    Replies,
    Unfetchable,
)
from tidemill.commands.queues import LaneQueue, Queues, Share
from tidemill.commands.screening import Arrival, Screen
from tidemill.domain.errors import TransientError, Unreadable
from tidemill.domain.lane import Claim
from tidemill.domain.stream import Stream
from tidemill.service import Health
from tidemill.telemetry import (
    BATCH_RECORDS,
    BATCH_RETRIES,
    CLAIMS,
    LANES_HALTED,
    LANES_OWNED,
    RECORDS,
    Log,
    logger,
)

T = TypeVar("T")

_log = logger(__name__)

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0

_HALT_WATCH_S: Final = 2.0
_RECLAIM_AFTER_S: Final = 3.0
_REVOKE_PATIENCE_S: Final = 5.0
_NOTE_EVERY_S: Final = 5.0
_TRIALS_BEFORE_PARKING: Final = 2


@dataclass(frozen=True)
class IntakeOptions:
    """`owner`: this process's name in `tm.lane`, the same as its connections' application name."""

    owner: str
    batch_records: int = 2000
    workers: int = 4
    reply_topics: re.Pattern[str] = re.compile(r"(?!)")


class Intake:
    """A `Service`, and the `Assignee` of its source."""

    def __init__(  # noqa: PLR0913  everything that the way in is joined from
        self,
        *,
        stream: Stream,
        source: CommandSource,
        store: CommandStore,
        screen: Screen,
        writer: BatchWriter,
        follower: LaneFollower,
        answers: Replies,
        options: IntakeOptions,
    ) -> None:
        """Nothing happens before `start`."""
        self._stream = stream
        self._source = source
        self._store = store
        self._screen = screen
        self._writer = writer
        self._follower = follower
        self._answers = answers
        self._options = options
        self._queues = Queues(batch_records=options.batch_records, workers=options.workers)
        self._assigned: set[int] = set()
        self._to_claim: set[int] = set()
        self._halted: dict[int, Claim] = {}
        self._next_offsets: dict[int, int] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._claims_wanted = asyncio.Event()
        self._work_wanted = asyncio.Event()
        self._batch_ended = asyncio.Event()
        self._stopping = asyncio.Event()
        self._trouble = ""

    # --- the service ---

    async def start(self) -> None:
        """Join the consumer group; partitions arrive paused."""
        await self._source.start(self)

    async def run(self) -> None:
        """Read, claim and write until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._claim_assigned())
            group.create_task(self._dispatch(group))
            group.create_task(self._every(_HALT_WATCH_S, self._watch_halts))
            group.create_task(self._every(_NOTE_EVERY_S, self._note))

    async def stop(self) -> None:
        """End the batches in flight, give the lanes back, leave the group."""
        self._stopping.set()
        self._work_wanted.set()
        self._claims_wanted.set()
        while self._running:
            await asyncio.wait(self._running)
        await self._note()
        await self._let_go(self._queues.remove(list(self._assigned)))
        await self._source.close()

    def health(self) -> Health:
        """Return how many lanes are worked, how many wait for an operator, and what is in the way."""
        owned = len(self._queues.all())
        detail = {"lanes": owned, "halted": len(self._halted), "claiming": len(self._to_claim)}
        return Health(
            ok=not self._trouble, detail=detail | ({"trouble": self._trouble} if self._trouble else {})
        )

    # --- told by the source ---

    def assigned(self, partitions: frozenset[int]) -> None:
        """Note what is to be claimed; the claiming is another task's."""
        self._assigned |= partitions
        self._to_claim |= partitions
        self._claims_wanted.set()

    async def revoked(self, partitions: frozenset[int]) -> None:
        """Drop what waits, let the batch in flight end, and give the lanes back."""
        self._assigned -= partitions
        self._to_claim -= partitions
        queues = self._queues.remove(partitions)
        halted = [claim for claim in self._halted.values() if claim.lane.partition in partitions]
        for claim in halted:
            del self._halted[claim.lane.lane]
        try:
            async with asyncio.timeout(_REVOKE_PATIENCE_S):
                while any(queue.busy for queue in queues):
                    self._batch_ended.clear()
                    await self._batch_ended.wait()
        except TimeoutError:
            pass  # the next owner's claim waits for the transaction, or ends it
        await self._let_go(queues)

    async def _let_go(self, queues: Sequence[LaneQueue]) -> None:
        if not queues:
            return
        lanes = [queue.lane for queue in queues]
        await self._follower.drop(lanes)
        try:
            async with asyncio.timeout(_REVOKE_PATIENCE_S):
                await self._store.release([queue.claim for queue in queues if not queue.busy])
        except (TransientError, TimeoutError) as error:
            _log.warning(Log.LANES_LOST, lanes=lanes, released=False, reason=str(error))
        else:
            _log.info(Log.LANES_LOST, lanes=lanes, released=True)
        self._gauge()

    # --- read ---

    async def _read(self) -> None:
        while not self._stopping.is_set():
            try:
                arrived = await self._source.poll()
            except PartitionError as stuck:
                await self._halt_stuck(stuck)
                continue
            for partition, records in arrived.items():
                queue = self._queues.put(partition, records)
                if queue is not None and not queue.held_back and self._queues.overfull(queue):
                    queue.held_back = True
                    self._source.pause(frozenset({partition}))
            if arrived:
                self._work_wanted.set()

    async def _halt_stuck(self, stuck: PartitionError) -> None:
        """Nobody may guess what stands at an offset that cannot be fetched."""
        self._source.pause(frozenset({stuck.partition}))
        queue = self._queues.get(stuck.partition)
        if queue is None:
            return
        if isinstance(stuck, OffsetOutOfRange):
            at = _at(queue.claim, stuck.offset)
            findings = await self._retrying(lambda: claiming.compare(self._source, [at]))
            code, detail = (findings or {}).get(queue.lane, ("OFFSET_AHEAD", str(stuck)))
        else:
            assert isinstance(stuck, Unfetchable)
            code, detail = "UNFETCHABLE", str(stuck)
        await self._halt(queue.claim, code, detail)

    # --- claim ---

    async def _claim_assigned(self) -> None:
        while not self._stopping.is_set():
            await self._claims_wanted.wait()
            self._claims_wanted.clear()
            if wanted := sorted(self._to_claim):
                await self._retrying(lambda wanted=wanted: self._claim(wanted))  # type: ignore[misc]

    async def _claim(self, wanted: Sequence[int]) -> None:
        """Claim lanes set-wise, compare them with what is outside, let the sound ones flow."""
        partitions = [partition for partition in wanted if partition in self._to_claim]
        if not partitions:
            return
        claims = await self._store.claim(self._stream.aggregate, partitions, self._options.owner)
        CLAIMS.labels(self._stream.aggregate).inc(len(claims))
        halted = await self._store.halted([claim.lane.lane for claim in claims])
        findings = await claiming.compare(
            self._source, [each for each in claims if each.lane.lane not in halted]
        )
        for claim in claims:
            if (finding := findings.get(claim.lane.lane)) is not None:
                await self._store.halt(claim, *finding)
        await self._follower.take([each for each in claims if each.lane.lane not in halted | findings])
        halted = await self._store.halted([claim.lane.lane for claim in claims])
        self._begin(claims, set(halted))

    def _begin(self, claims: Sequence[Claim], halted: set[int]) -> None:
        """Start the lanes that are still ours; one that was revoked meanwhile is the next owner's."""
        ours = [claim for claim in claims if claim.lane.partition in self._assigned]
        sound = [claim for claim in ours if claim.lane.lane not in halted]
        self._to_claim -= {claim.lane.partition for claim in claims}
        self._queues.add(sound)
        for claim in ours:
            if claim.lane.lane in halted:
                self._stand_still(claim, "see tm.halt")
            else:
                self._halted.pop(claim.lane.lane, None)
        self._source.resume_at({claim.lane.partition: claim.progress.next_offset for claim in sound})
        self._gauge()
        _log.info(
            Log.LANES_CLAIMED,
            aggregate=self._stream.aggregate,
            lanes=len(sound),
            halted=len(ours) - len(sound),
        )

    def _claim_again(self, partitions: Iterable[int]) -> None:
        self._to_claim |= self._assigned.intersection(partitions)
        self._claims_wanted.set()

    # --- halts ---

    async def _watch_halts(self) -> None:
        """Stop at halts that others recorded (the relay, an operator), go on when an operator has cleared one."""
        lanes = {queue.lane: queue.claim for queue in self._queues.all()} | self._halted
        if not lanes:
            return
        halted = await self._store.halted(list(lanes))
        for lane, (code, detail) in halted.items():
            if lane not in self._halted:
                self._stand_still(lanes[lane], f"{code}: {detail}")
        for lane in set(self._halted) - set(halted):
            _log.info(Log.LANE_RESUMED, lane=lane)
            self._claim_again([self._halted[lane].lane.partition])

    async def _halt(self, claim: Claim, code: str, detail: str) -> None:
        await self._retrying(lambda: self._store.halt(claim, code, detail))
        self._stand_still(claim, f"{code}: {detail}")

    def _stand_still(self, claim: Claim, reason: str) -> None:
        self._source.pause(frozenset({claim.lane.partition}))
        self._queues.remove([claim.lane.partition])
        self._halted[claim.lane.lane] = claim
        self._gauge()
        _log.error(
            Log.LANE_HALTED,
            lane=claim.lane.lane,
            partition=claim.lane.partition,
            reason=reason,
            next=f"tidemill lanes show {claim.lane.lane}",
        )

    # --- write ---

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while not self._stopping.is_set():
            share = self._queues.take(len(self._running))
            if share is None:
                self._work_wanted.clear()
                await self._work_wanted.wait()
                continue
            task = group.create_task(self._work(share))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._work_wanted.set()
        self._batch_ended.set()

    async def _work(self, share: Share) -> None:
        try:
            done = await self._retrying(lambda: self._apply(share))
        finally:
            self._queues.done(share)
        if done is None:
            return  # stopping: what is not committed is the next owner's
        self._after(share, done)

    async def _apply(self, share: Share) -> Done:
        claims = {
            queue.lane: queue.claim for queue in share.queues if self._queues.get(queue.partition) is queue
        }
        records = [(lane, record) for lane, record in share.records if lane in claims]
        if not records:
            return Done()
        arrivals = await self._trial(share) or await self._screen.screen(records)
        return await self._writer.apply(claims, arrivals)

    async def _trial(self, share: Share) -> list[Arrival] | None:
        """Before a suspect is touched, count the attempt; the one that ended two processes alone is parked unread."""
        queue = share.queues[0]
        if not queue.solo:
            return None
        lane, record = share.records[0]
        trials = await self._store.trial(queue.claim, record.offset)
        if trials <= _TRIALS_BEFORE_PARKING:
            return None
        reason = f"the process ended {trials - 1} times while it worked on this record alone"
        return [Arrival(lane, record, verdict=Unreadable("CRASHED", reason))]

    def _after(self, share: Share, done: Done) -> None:
        aggregate = self._stream.aggregate
        for outcome, count in done.counts.items():
            if count:
                RECORDS.labels(aggregate, outcome.value).inc(count)
        BATCH_RECORDS.labels(aggregate).observe(len(share.records))
        last = {lane: record.offset for lane, record in share.records}
        for queue in share.queues:
            self._next_offsets[queue.partition] = last[queue.lane] + 1
            if queue.held_back and self._queues.drained(queue):
                queue.held_back = False
                self._source.resume(frozenset({queue.partition}))
        if done.fenced:
            self._fenced(done.fenced)
        if asked := replies.wanted(done.outcomes, self._options.reply_topics):
            self._answers.send(asked)
        self._follower.wake([queue.lane for queue in share.queues])

    def _fenced(self, lanes: frozenset[int]) -> None:
        """Somebody else has the lanes. If the group still gives them to us a while later, nobody has: claim again."""
        gone = self._queues.of_lanes(lanes)
        partitions = [queue.partition for queue in gone]
        self._queues.remove(partitions)
        self._source.pause(frozenset(partitions))
        asyncio.get_running_loop().call_later(_RECLAIM_AFTER_S, self._claim_again, partitions)
        self._gauge()
        _log.warning(Log.LANES_LOST, lanes=sorted(lanes), reason="claimed by another process")

    # --- shared ---

    async def _retrying(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do `work` until it succeeds; between attempts pause, longer each time. None if a stop came first."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=_LONGEST_PAUSE_S),
            stop=lambda _: self._stopping.is_set(),
            sleep=self._pause,
            before_sleep=self._note_trouble,
        )
        try:
            result: T = await attempts(work)
        except RetryError:
            return None
        self._trouble = ""
        return result

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _note_trouble(self, attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        self._trouble = str(error)
        BATCH_RETRIES.labels(self._stream.aggregate, type(error).__name__).inc()
        _log.warning(
            Log.BATCH_RETRIED,
            aggregate=self._stream.aggregate,
            attempt=attempt.attempt_number,
            reason=str(error),
        )

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            await self._pause(seconds)
            await self._retrying(work)

    async def _note(self) -> None:
        offsets, self._next_offsets = self._next_offsets, {}
        if offsets:
            await self._source.note(offsets)

    def _gauge(self) -> None:
        LANES_OWNED.labels(self._stream.aggregate).set(len(self._queues.all()))
        LANES_HALTED.labels(self._stream.aggregate).set(len(self._halted))


def _at(claim: Claim, offset: int) -> Claim:
    """Return the claim as if the lane were to read on at `offset`."""
    return replace(claim, progress=replace(claim.progress, next_offset=offset))
