"""The intake: a service that owns lanes of one stream and applies their records.

    poll -> queue per lane -> a batch over the lanes that are ready -> commit -> wake the relay, send replies

Reading, claiming and writing are separate tasks: the client's callbacks never wait for the database, and while one
batch is in the database the next one is decoded. The backlog is bounded: a lane with two batches waiting is paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tidemill.commands import replies
from tidemill.commands.batch import BatchResult, BatchWriter
from tidemill.commands.halt_watch import HaltWatch
from tidemill.commands.isolation import IsolationGate
from tidemill.commands.lane_lifecycle import Ownership, still_ours
from tidemill.commands.lane_queues import WAITING_BYTES, BatchInput, LaneQueue, LargeRecords, Queues
from tidemill.commands.parked_records import parked_fields
from tidemill.commands.ports import CommandSource, CommandStore, LaneFollower, PartitionError, Replies
from tidemill.commands.retry import BatchRetries
from tidemill.commands.validation import IncomingCommand, Validator
from tidemill.commands.version_wait import Waits
from tidemill.commands.workers import Turn, Workers
from tidemill.domain.errors import Fenced, TransientError, Unreadable
from tidemill.domain.lane import InboundRecord, lane_spans
from tidemill.domain.messages import Outcome
from tidemill.domain.rejections import ParkingCode
from tidemill.domain.stream import Stream
from tidemill.runtime.retry import Retrier
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import (
    BATCH_RECORDS,
    BATCH_SECONDS,
    PARKED,
    RECORDS,
    REJECTIONS,
)

_log = logger(__name__)

_HALT_WATCH_S: Final = 2.0
_NOTE_EVERY_S: Final = 5.0
_LAST_POLL_S: Final = 1.0
_LAST_NOTE_S: Final = 1.0
_RELEASE_FIRST_S: Final = 1.5
_ATTEMPTS_BEFORE_PARKING: Final = 2


@dataclass(frozen=True)
class IntakeOptions:
    """`owner`: this process's name in `tm.lane`, the same as its connections' application name.

    `batch_records`: the most that one transaction takes. `workers`: how many batches are in progress at once, those
    that are to be tried again among them. `waiting_bytes`: about how much may wait in all lanes. `reply_topics`: the
    topics that replies may go to, matched whole; by default none. `newer_wait`: how long a lane waits before a command
    that only a newer version takes whole; nothing: it is parked at once.
    """

    owner: str
    batch_records: int = 2000
    workers: int = 4
    waiting_bytes: int = WAITING_BYTES
    reply_topics: re.Pattern[str] = re.compile(r"(?!)")
    newer_wait: timedelta = timedelta(minutes=15)


class Intake:
    """A `Service`."""

    def __init__(  # noqa: PLR0913  everything that the way in is joined from
        self,
        *,
        stream: Stream,
        source: CommandSource,
        store: CommandStore,
        validator: Validator,
        writer: BatchWriter,
        follower: LaneFollower,
        answers: Replies,
        options: IntakeOptions,
        isolation: IsolationGate | None = None,
        workers: Workers | None = None,
        room: LargeRecords | None = None,
        halts: HaltWatch | None = None,
    ) -> None:
        """Nothing happens before `start`. The arguments that may be None are shared by all intakes of the process."""
        self._aggregate = stream.aggregate
        self._source = source
        self._store = store
        self._validator = validator
        self._writer = writer
        self._follower = follower
        self._answers = answers
        self._reply_topics = options.reply_topics
        self._isolation = isolation or IsolationGate()
        self._halts = halts or HaltWatch()
        self._max_batches = options.workers
        self._team = (workers or Workers(options.workers)).team()
        self._queues = Queues(
            batch_records=options.batch_records,
            batch_bytes=stream.batch_bytes,
            waiting_bytes=options.waiting_bytes,
            room=room,
        )
        self._retrier = Retrier(BatchRetries(stream.aggregate))
        self._ownership = Ownership(
            stream,
            options.owner,
            source=source,
            store=store,
            follower=follower,
            queues=self._queues,
            retrier=self._retrier,
        )
        self._waits = Waits(
            stream.aggregate, store, self._queues, at_most=options.newer_wait, wake=self._wake
        )
        self._next_offsets: dict[int, int] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._work_wanted = asyncio.Event()

    # --- the service ---

    async def start(self) -> None:
        """Join the consumer group; partitions arrive paused."""
        await self._source.start(self._ownership)

    async def run(self) -> None:
        """Read, claim and write until `stop`."""
        with self._halts.following(self._ownership):
            await self._run()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._reader = group.create_task(self._read(group))
            group.create_task(self._ownership.claim_assigned())
            group.create_task(self._dispatch(group))
            group.create_task(self._retrier.every(_HALT_WATCH_S, self._watch_halts))
            group.create_task(self._retrier.every(_HALT_WATCH_S, self._waits.watch))
            group.create_task(self._retrier.every(_NOTE_EVERY_S, self._note))

    async def stop(self) -> None:
        """End the batches in flight, give the lanes back, leave the group.

        With Kafka unavailable none of the last three ends before its deadline, so they run side by side, and what
        comes last has less time: batches may have waited for the database, which is unavailable as well.
        """
        began_s = asyncio.get_running_loop().time()
        self._retrier.stop()
        self._work_wanted.set()
        self._team.close()
        while self._running:
            await asyncio.wait(self._running)
        self._source.wake()
        if self._reader is not None:  # a source must not be closed during a poll
            await asyncio.wait({self._reader}, timeout=_LAST_POLL_S)
        letting_go = asyncio.gather(self._last_note(), self._ownership.release_all())
        # so that the next owner finds the lanes released
        await asyncio.wait({letting_go}, timeout=_RELEASE_FIRST_S)
        hurried = asyncio.get_running_loop().time() - began_s > _RELEASE_FIRST_S
        await asyncio.gather(letting_go, self._source.close(hurried=hurried))
        self._waits.measure()

    def health(self) -> Health:
        """Return how many lanes are processed, which wait for an operator or a newer version, and the last error."""
        waits_for = self._retrier.reason
        detail = (
            self._ownership.counts() | self._waits.shown() | ({"trouble": waits_for} if waits_for else {})
        )
        return Health(ok=not waits_for, detail=detail)

    # --- read ---

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while not self._retrier.stopped:
            try:
                some = self._put(await self._source.poll())
            except PartitionError as stuck:
                # a task of its own: Kafka may not answer about it for long, and the others must be read
                group.create_task(self._ownership.halt_stuck(stuck))
                continue
            if some:
                self._work_wanted.set()

    def _put(self, arrived: Mapping[int, Sequence[InboundRecord]]) -> bool:
        """Queue what arrived, and drop what found no room; return whether anything arrived."""
        for partition, records in arrived.items():
            queue = self._queues.put(partition, records)
            if queue is not None and not queue.held_back and self._queues.overfull(queue):
                queue.held_back = True
                self._source.pause(frozenset({partition}))
        if (waiting := self._queues.out_of_room()) is not None:
            self._flow_again(waiting)
        return bool(arrived)

    async def _watch_halts(self) -> None:
        await self._halts.look(self._ownership, self._store)

    async def _note(self) -> None:
        offsets, self._next_offsets = self._next_offsets, {}
        if offsets:
            await self._source.note(offsets)

    async def _last_note(self) -> None:
        with contextlib.suppress(TimeoutError):  # it is a hint
            async with asyncio.timeout(_LAST_NOTE_S):
                await self._note()

    # --- write ---

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while not self._retrier.stopped:
            if len(self._running) >= self._max_batches or not self._queues.ready():
                self._work_wanted.clear()
                await self._work_wanted.wait()
                continue
            turn = await self._team.turn()
            if turn is not None:
                self._begin(group, turn)

    def _begin(self, group: asyncio.TaskGroup, turn: Turn) -> None:
        """Take a batch only when a worker is free: it then includes what arrived meanwhile."""
        batch_input = None if self._retrier.stopped else self._queues.take(turn.share)
        if batch_input is None:
            turn.end()
            return
        task = group.create_task(self._work(batch_input, turn))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: self._ended(turn))

    def _ended(self, turn: Turn) -> None:
        turn.end()  # of a task that was cancelled before it began
        self._wake()

    def _wake(self) -> None:
        self._work_wanted.set()

    async def _work(self, batch_input: BatchInput, turn: Turn) -> None:
        try:
            result = await self._retrier.until_done(lambda: self._try(batch_input, turn))
        finally:
            self._queues.done(batch_input)
        if result is not None:
            self._after(batch_input, result)
        else:  # a stop came first: the next owner does what is not committed
            lanes = lane_spans(queue.claim.lane for queue in batch_input.queues)
            _log.warning(
                Log.BATCH_LEFT, aggregate=self._aggregate, lanes=lanes, records=len(batch_input.records)
            )

    async def _try(self, batch_input: BatchInput, turn: Turn) -> BatchResult:
        isolated = batch_input.queues[0].isolated > 0
        async with turn, self._isolation.alone() if isolated else self._isolation.together():
            return await self._apply(batch_input)

    async def _apply(self, batch_input: BatchInput) -> BatchResult:
        claims = {
            queue.lane_id: queue.claim for queue in batch_input.queues if still_ours(self._queues, queue)
        }
        records = [(lane_id, record) for lane_id, record in batch_input.records if lane_id in claims]
        if not records:
            return BatchResult()
        try:
            arrivals = await self._count_isolated(batch_input) or await self._validator.validate(records)
        except Fenced as fenced:
            return BatchResult(fenced=fenced.lanes)
        held = await self._waits.hold_back(claims, arrivals)
        try:
            with BATCH_SECONDS.labels(self._aggregate).time():
                result = await self._writer.apply(claims, held.arrivals)
        except TransientError:
            await self._forget_attempts(batch_input.queues[0])
            raise
        result.waits, result.fenced = held.waits, result.fenced | held.fenced
        for lane_id, finding in result.halted.items():
            await self._store.halt(claims[lane_id], *finding)
        return result

    async def _count_isolated(self, batch_input: BatchInput) -> list[IncomingCommand] | None:
        """Count an isolated attempt before it begins; a record that ended two processes alone is parked unread."""
        queue = batch_input.queues[0]
        if not queue.isolated:
            return None
        lane_id, record = batch_input.records[0]
        if queue.tried_offset != record.offset:  # else the batch is tried again, and has ended no process
            queue.attempts = await self._store.count_attempt(queue.claim, record.offset)
            queue.tried_offset = record.offset
        if queue.attempts <= _ATTEMPTS_BEFORE_PARKING:
            return None
        reason = f"the process ended {queue.attempts - 1} times while it worked on this record alone"
        return [IncomingCommand(lane_id, record, disposition=Unreadable(ParkingCode.CRASHED, reason))]

    async def _forget_attempts(self, queue: LaneQueue) -> None:
        """Begin to count anew: an attempt that failed with its server has ended no process, whoever ends it later.

        Else a probe that kills this process while the disk is full would have the record parked.
        """
        if not queue.isolated:
            return
        with contextlib.suppress(TransientError):
            await self._store.forget_attempts(queue.claim)
            queue.tried_offset = None

    def _after(self, batch_input: BatchInput, result: BatchResult) -> None:
        for outcome, count in result.counts.items():
            if count:
                RECORDS.labels(self._aggregate, outcome.value).inc(count)
        self._count_codes(result)
        BATCH_RECORDS.labels(self._aggregate).observe(len(batch_input.records))
        if result.counts[Outcome.PARKED]:
            claims = {queue.lane_id: queue.claim for queue in batch_input.queues}
            parked = parked_fields(result.outcomes, claims)
            _log.warning(Log.RECORD_PARKED, aggregate=self._aggregate, **parked)
        self._waits.begin(batch_input, result)
        self._let_flow(batch_input, result)
        ours = [queue for queue in batch_input.queues if still_ours(self._queues, queue)]
        if lost := [queue for queue in ours if queue.lane_id in result.fenced]:
            self._ownership.fenced(lost)
        for queue in ours:  # before anything else is awaited: what waits after the record must not be taken
            if queue.lane_id in result.halted:
                self._ownership.stand_still(queue.claim, *result.halted[queue.lane_id])
        if asked := replies.wanted(result.outcomes, self._reply_topics):
            self._answers.send(asked)
        self._follower.wake([queue.lane_id for queue in batch_input.queues])

    def _count_codes(self, result: BatchResult) -> None:
        for code, count in _codes_of(result, Outcome.REJECTED).items():
            REJECTIONS.labels(self._aggregate, code).inc(count)
        for code, count in _codes_of(result, Outcome.PARKED).items():
            PARKED.labels(self._aggregate, code).inc(count)

    def _let_flow(self, batch_input: BatchInput, result: BatchResult) -> None:
        following = {lane_id: record.offset + 1 for lane_id, record in batch_input.records}
        following |= {lane_id: wait.newer.offset for lane_id, wait in result.waits.items()}
        for queue in batch_input.queues:
            self._next_offsets[queue.partition] = following[queue.lane_id]
            if queue.held_back and still_ours(self._queues, queue) and self._queues.drained(queue):
                self._flow_again(queue)

    def _flow_again(self, queue: LaneQueue) -> None:
        queue.held_back = False
        if queue.come_back_at is None:
            self._source.resume(frozenset({queue.partition}))
        else:
            offset, queue.come_back_at = queue.come_back_at, None
            self._source.resume_at({queue.partition: offset})


def _codes_of(result: BatchResult, outcome: Outcome) -> Counter[str]:
    """Return how many records had an outcome, by code; rows are looked at only if there are any."""
    if not result.counts[outcome]:
        return Counter()
    return Counter(row.code or "" for _, row in result.outcomes if row.outcome == outcome.letter)
