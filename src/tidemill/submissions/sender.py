"""Commands are journalled, produced and waited for; a client that leaves changes nothing of that.

The order of a submission: its place is made, its lane must not be halted, the journal has its intent, Kafka
acknowledges it, and then a reply or the log tells its outcome. What is refused before the produce has no effect; what
Kafka did not acknowledge may still arrive, and is safe to send again with the same key.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from prometheus_client import Counter, Histogram

from tidemill.domain.errors import RequestFault, RequestRefused, TransientError, Unavailable, UsageError
from tidemill.domain.messages import Outcome
from tidemill.domain.partitioner import partition_of
from tidemill.domain.request_codes import RequestCode
from tidemill.runtime.clock import Clock
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import SUBMISSION_SECONDS, SUBMISSIONS
from tidemill.submissions.halts import HaltedLanes
from tidemill.submissions.ports import (
    CommandRecord,
    CommandSender,
    Intent,
    IntentJournal,
    OutcomeLog,
    Payload,
    PayloadEncoder,
    ReplyInbox,
)
from tidemill.submissions.requests import LaneToken, Submission, SubmissionResult
from tidemill.submissions.waits import KnownOutcome, OutcomeWaits, PendingOutcome

_log = logger(__name__)

_RETRY_AFTER_S: Final = 1.0
_MAX_KEY_BYTES: Final = 4096

Answered = SubmissionResult | RequestRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitterOptions:
    """The limits of a process.

    `max_waiting`: commands in flight, beyond which new requests are `OVERLOADED`. `drain_s`: how long those in flight
    have once the process drains. `max_command_bytes`: of a command's value.
    """

    max_waiting: int = 1_000
    drain_s: float = 10.0
    max_command_bytes: int = 256 << 10


@dataclass(frozen=True, kw_only=True)
class SubmitterParts:
    """The ports of a `Submitter`."""

    encoder: PayloadEncoder
    sender: CommandSender
    replies: ReplyInbox
    log: OutcomeLog
    journal: IntentJournal
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Placed:
    """A submission with its record's place and content."""

    submission: Submission
    partition: int
    key: bytes
    payload: Payload
    journalled: object = None


class Submitter:
    """Submits commands. `waits` is the service that looks outcomes up: run it, and call `drain` before its stop."""

    def __init__(self, parts: SubmitterParts, options: SubmitterOptions | None = None) -> None:
        self._parts = parts
        self._options = options or SubmitterOptions()
        self._halted = HaltedLanes(parts.log, parts.clock)
        self._tasks: set[asyncio.Task[object]] = set()
        self._sending: set[asyncio.Task[int]] = set()
        self._in_flight = 0
        self._draining = False
        self.waits = OutcomeWaits(parts.log, parts.clock)
        parts.replies.listen(self.waits.reply)

    async def submit(self, submission: Submission, wait_s: float) -> SubmissionResult:
        """Send a command and wait for its outcome, at most `wait_s` seconds; 0: only until it is acknowledged.

        A caller that is cancelled does not end what was begun.

        Raises:
            RequestRefused: `DRAINING`, `OVERLOADED`, `LANE_HALTED`, `JOURNAL_AWAY`, `BODY_TOO_LARGE`: nothing was sent;
                `BUS_AWAY`: it may have been.
        """
        (answered,) = await self.submit_all([submission], wait_s)
        if isinstance(answered, RequestRefused):
            raise answered
        return answered

    async def submit_all(self, submissions: Sequence[Submission], wait_s: float) -> list[Answered]:
        """Send commands together and wait for all of their outcomes; not atomic, the answers in order.

        Raises:
            RequestRefused: `DRAINING`, `OVERLOADED`, `JOURNAL_AWAY`: nothing was sent.
        """
        self._admit()
        self._in_flight += len(submissions)
        task = asyncio.create_task(self._run(submissions, wait_s))
        task.add_done_callback(lambda _: self._leave(len(submissions)))
        self._keep(task)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Refuse new commands, and return when each one in flight has its outcome or its time is over.

        An acknowledgement may take longer than that: then it is not awaited, and the client is told so.
        """
        self._draining = True
        self.waits.end_within(self._options.drain_s)
        over = asyncio.create_task(self.waits.over.wait())
        while self._tasks and not over.done():
            await asyncio.wait({*self._tasks, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        for sending in self._sending:
            sending.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def in_flight(self) -> int:
        """Return how many commands are sent or waited for."""
        return self._in_flight

    def _admit(self) -> None:
        if self._draining:
            raise RequestRefused(
                RequestCode.DRAINING, "this process is stopping", retry_after_s=_RETRY_AFTER_S
            )
        if self._in_flight >= self._options.max_waiting:
            detail = f"{self._in_flight} commands are waiting already"
            raise RequestRefused(RequestCode.OVERLOADED, detail, retry_after_s=_RETRY_AFTER_S)

    def _leave(self, count: int) -> None:
        self._in_flight -= count

    def _keep(self, task: asyncio.Task[object]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, submissions: Sequence[Submission], wait_s: float) -> list[Answered]:
        began_s = self._parts.clock.monotonic_s()
        placed = [await self._place(submission) for submission in submissions]
        journalled = iter(await self._journal([one for one in placed if isinstance(one, _Placed)]))
        ready = [next(journalled) if isinstance(one, _Placed) else one for one in placed]
        waiting = [self._answered(one, wait_s, began_s) for one in ready]
        # most requests have one command, which needs no task beside this one
        answered = [await waiting[0]] if len(waiting) == 1 else await asyncio.gather(*waiting)
        for submission, answer in zip(submissions, answered, strict=True):
            self._count(submission, answer, began_s)
        return list(answered)

    async def _place(self, submission: Submission) -> _Placed | RequestRefused:
        """Return a command's key, partition and value, or why it cannot be sent."""
        stream = submission.target.stream
        key = stream.key(submission.command).encode()
        try:
            payload = await self._parts.encoder.encode(stream.aggregate, submission.command)
        except TransientError:
            detail = "the schema registry does not answer, and nothing was sent"
            return RequestRefused(RequestCode.BUS_AWAY, detail, retry_after_s=_RETRY_AFTER_S)
        if len(payload.value) > self._options.max_command_bytes or len(key) > _MAX_KEY_BYTES:
            detail = (
                f"the command has {len(payload.value)} bytes, at most {self._options.max_command_bytes} are "
                f"taken, and a key of {len(key)} bytes, at most {_MAX_KEY_BYTES}"
            )
            return RequestRefused(
                RequestCode.BODY_TOO_LARGE, detail, RequestFault("pointer", "", detail, "TOO_LARGE")
            )
        partition = partition_of(key, stream.partitions)
        if (refusal := await self._halted.refusal(stream.aggregate, partition)) is not None:
            return refusal
        return _Placed(submission, partition, key, payload)

    async def _journal(self, placed: Sequence[_Placed]) -> list[_Placed]:
        """Make the intents durable. Raises `RequestRefused`: `JOURNAL_AWAY`."""
        if not placed:
            return []
        try:
            references = await self._parts.journal.intents([_intent(one) for one in placed])
        except TransientError as error:
            detail = "the journal cannot be written, and nothing was sent"
            raise RequestRefused(RequestCode.JOURNAL_AWAY, detail, retry_after_s=_RETRY_AFTER_S) from error
        return [
            _Placed(one.submission, one.partition, one.key, one.payload, reference)
            for one, reference in zip(placed, references, strict=True)
        ]

    async def _answered(self, one: _Placed | RequestRefused, wait_s: float, began_s: float) -> Answered:
        if isinstance(one, RequestRefused):
            return one
        left_s = max(0.0, began_s + wait_s - self._parts.clock.monotonic_s())
        lane = one.submission.target.stream.aggregate, one.partition
        wait = self.waits.begin(one.submission.identity, one.payload.digest, lane, left_s)
        try:
            refusal = await self._produced(one, wait, waits=wait_s > 0)
        except BaseException:
            wait.settle(None)
            raise
        if refusal is not None and not wait.answer.done():
            wait.settle(None)
            return refusal
        answer = await wait.answer
        if answer is None and refusal is not None:
            return refusal
        self._close_entry(one, answer)
        return _result(one, answer)

    async def _produced(self, one: _Placed, wait: PendingOutcome, *, waits: bool) -> RequestRefused | None:
        """Send a record until it is acknowledged, or its outcome is known without that, or the process ends."""
        if self.waits.over.is_set():
            return RequestRefused(
                RequestCode.DRAINING,
                "this process is stopping, and nothing was sent",
                retry_after_s=_RETRY_AFTER_S,
            )
        sending = asyncio.create_task(self._parts.sender.send(self._record(one, wait)))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
        either: list[asyncio.Future[Any]] = [sending, wait.answer] if waits else [sending]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if wait.answer.done() and wait.answer.result() is not None and not sending.done():
            sending.add_done_callback(_look_at)
            return None
        try:
            if not sending.done():
                await asyncio.wait({sending})
            wait.offset = sending.result()
        except (Unavailable, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and not sending.cancelled():
                raise  # it is this task that ends
            detail = "Kafka did not acknowledge the command, which may have arrived"
            return RequestRefused(RequestCode.BUS_AWAY, detail, retry_after_s=_RETRY_AFTER_S)
        except UsageError as error:
            return RequestRefused(RequestCode.BODY_TOO_LARGE, str(error.fact))
        if not waits:
            wait.settle(None)
        return None

    def _record(self, one: _Placed, wait: PendingOutcome) -> CommandRecord:
        headers: list[tuple[str, bytes]] = []
        if (address := self._parts.replies.address) is not None:
            headers = [
                ("kafka_replyTopic", address.topic.encode()),
                ("kafka_replyPartition", struct.pack(">i", address.partition)),
                ("kafka_correlationId", wait.correlation),
            ]
        if one.submission.trace is not None:
            headers.append(("traceparent", one.submission.trace.encode()))
        topic = one.submission.target.stream.topics.commands
        return CommandRecord(topic, one.partition, one.key, one.payload.value, headers)

    def _close_entry(self, one: _Placed, answer: KnownOutcome | None) -> None:
        """Tell the journal of an outcome; an entry without one stays open until it is compared with the log."""
        if answer is not None:
            self._keep(asyncio.create_task(self._closed(one, answer)))

    async def _closed(self, one: _Placed, answer: KnownOutcome) -> None:
        try:
            await self._parts.journal.outcome(one.journalled, answer.outcome, code=answer.code)
        except TransientError as error:
            _log.warning(Log.JOURNAL_ENTRY_OPEN, command_id=one.submission.command_id, error=str(error))

    def _count(self, submission: Submission, answer: Answered, began_s: float) -> None:
        aggregate = submission.target.stream.aggregate
        result = answer.code if isinstance(answer, RequestRefused) else (answer.outcome or "unknown")
        submissions, seconds = _metrics(aggregate, str(result))
        submissions.inc()
        seconds.observe(self._parts.clock.monotonic_s() - began_s)


@cache  # aggregates and codes are few; to look a metric up takes longer than to count
def _metrics(aggregate: str, result: str) -> tuple[Counter, Histogram]:
    return SUBMISSIONS.labels(aggregate, result), SUBMISSION_SECONDS.labels(aggregate)


def _intent(one: _Placed) -> Intent:
    submission = one.submission
    collection = submission.target.collection
    return Intent(
        principal=submission.principal.name,
        principal_kind=submission.principal.kind,
        verb=submission.target.verb,
        command=submission.target.name,
        command_id=submission.command_id,
        identity=submission.identity,
        aggregate=submission.target.stream.aggregate,
        partition=one.partition,
        collection=None if collection is None else collection.name,
        key=submission.key,
        address=submission.address,
        fields=tuple(sorted(submission.command.model_fields_set)),
        payload=one.payload.value,
    )


def _result(one: _Placed, answer: KnownOutcome | None) -> SubmissionResult:
    submission = one.submission
    if answer is None:
        return SubmissionResult(command_id=submission.command_id, key=submission.key)
    aggregate = submission.target.stream.aggregate
    applied = Outcome.APPLIED in (answer.outcome, answer.original)
    return SubmissionResult(
        command_id=submission.command_id,
        outcome=answer.outcome,
        original=answer.original,
        code=answer.code,
        message=answer.message,
        affected_rows=answer.rows,
        token=LaneToken(aggregate, one.partition, answer.sequence),
        version=submission.version if applied else None,
        key=submission.key,
        execution_time_s=answer.seconds,
        transaction_id=f"{aggregate}/{one.partition}/{answer.position}" if answer.position else None,
    )


def _look_at(sending: asyncio.Task[int]) -> None:
    """Retrieve an error that is no longer awaited, or asyncio warns about it."""
    if not sending.cancelled():
        sending.exception()
