"""The archiver: takes requests one by one, executes them in a thread, and answers.

A record of the topic is done only when its answer was acknowledged. If the process ends before that (by a crash
after the upload or before the reply, or a drain), the record is delivered again, and its copy is found: there is one
copy.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tidemill.archiver.copier import Carried, Copier, Failure, result_of
from tidemill.archiver.copy_plan import CopyPlan, CopyRefused, plan
from tidemill.archiver.ports import Confirmations, Incoming, Requests
from tidemill.archiver.read_pace import Interrupted, Pace
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent, ArchivalStatus
from tidemill.domain.errors import Unavailable, Unreadable, UsageError
from tidemill.runtime.clock import Clock
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import ARCHIVER_REQUESTS, ARCHIVER_SECONDS
from tidemill.runtime.threads import in_thread

_LOOK_S: Final = 2.0
_REMEMBERED: Final = 10_000

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class ArchiverTimeouts:
    """`heartbeat_s`: how often progress is reported. `stall_s`: how long a copy may make no progress."""

    heartbeat_s: float = 300.0
    stall_s: float = 1_800.0


class Archiver:
    """See the module. A `Service`: start it, run it, stop it."""

    def __init__(
        self,
        requests: Requests,
        replies: Confirmations,
        copier: Copier,
        clock: Clock,
        *,
        archiver_id: str,
        max_bytes_per_second: int | None = None,
        timeouts: ArchiverTimeouts | None = None,
    ) -> None:
        """`max_bytes_per_second`: the archiver's own limit, in addition to the request's."""
        self._requests = requests
        self._replies = replies
        self._copier = copier
        self._clock = clock
        self._archiver_id = archiver_id
        self._max_bytes_per_second = max_bytes_per_second
        self._timeouts = timeouts or ArchiverTimeouts()
        self._answered: OrderedDict[str, int] = OrderedDict()  # event -> the last attempt that was answered
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._pace: Pace | None = None
        self._detail: dict[str, Any] = {"requests": 0, "copying": None}

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        await self._replies.start()
        await self._requests.start()

    async def run(self) -> None:
        """Take requests until `stop`.

        Raises:
            Unavailable: Kafka or the registry is; or a copy hung, and was answered as failed. Make a new one.
        """
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                incoming = await self._requests.next()
                if incoming is not None:
                    await self._take(incoming)
        finally:
            self._interrupt()
            self._ended.set()

    async def stop(self) -> None:
        """End the copy in flight without an answer: the next owner of its record finds what is complete."""
        self._stopping.set()
        self._interrupt()
        await self._ended.wait()
        await asyncio.gather(self._requests.close(), self._replies.close())

    def health(self) -> Health:
        """Return how many requests were taken, and which one is being copied."""
        return Health(ok=True, detail=dict(self._detail))

    async def _take(self, incoming: Incoming) -> None:
        why = self._why_not(incoming.event)
        if why is not None:
            result, reason = why
            place = f"{incoming.partition}/{incoming.offset}"
            _log.log(_LEVELS[result], Log.ARCHIVAL_REQUEST_SKIPPED, record=place, reason=reason)
            ARCHIVER_REQUESTS.labels(result).inc()
            await self._requests.done(incoming)
            return
        assert isinstance(incoming.event, ArchivalEvent)
        self._detail["requests"] += 1
        self._detail["copying"] = incoming.event.event_id
        began = time.monotonic()
        try:
            await self._serve(incoming, incoming.event)
        except Interrupted:
            ARCHIVER_REQUESTS.labels("interrupted").inc()
            _log.info(Log.ARCHIVAL_INTERRUPTED, event_id=incoming.event.event_id)
        finally:
            self._detail["copying"] = None
            ARCHIVER_SECONDS.observe(time.monotonic() - began)

    def _why_not(self, event: ArchivalEvent | Unreadable) -> tuple[str, str] | None:
        """Return the kind of a record and the reason, if there is nothing to do for it."""
        if isinstance(event, Unreadable):
            return "unreadable", str(event)
        if event.status is not ArchivalStatus.PENDING:
            return "ignored", f"{event.event_id} is {event.status}"
        if self._answered.get(event.event_id, 0) >= event.attempt:
            return "ignored", f"attempt {event.attempt} of {event.event_id} was answered"
        return None

    async def _serve(self, incoming: Incoming, event: ArchivalEvent) -> None:
        try:
            planned = plan(event)
        except CopyRefused as fault:
            answer = self._failed(event, Failure.of(fault))
        else:
            await self._replies.send(self._said(event, ArchivalStatus.IN_PROGRESS))
            try:
                answer = self._answer(event, await self._carried(incoming, planned))
            except Unavailable as fault:
                # a lake or a database that hangs: the service must not wait for it
                if self._requests.ours(incoming):
                    await self._reply(incoming, event, self._failed(event, _stalled(fault)))
                raise
        await self._reply(incoming, event, answer)

    async def _reply(self, incoming: Incoming, event: ArchivalEvent, answer: ArchivalConfirmation) -> None:
        try:
            await self._replies.send(answer)
        except UsageError as fault:  # thousands of files: the service must request less at a time
            answer = self._failed(event, Failure("TOO_LARGE", str(fault), retryable=False))
            await self._replies.send(answer)
        await self._requests.done(incoming)
        self._remember(event)
        result = _result(answer)
        ARCHIVER_REQUESTS.labels(result).inc()
        _log.info(
            Log.ARCHIVAL_ANSWERED,
            event_id=event.event_id,
            attempt=event.attempt,
            result=result,
            code=answer.error_code,
        )

    async def _carried(self, incoming: Incoming, planned: CopyPlan) -> Carried:
        """Execute the request in a thread; report progress periodically.

        Raises:
            Unavailable: it made no progress for too long, and was abandoned; or too many were.
        """
        rates = [rate for rate in (planned.event.max_bytes_per_second, self._max_bytes_per_second) if rate]
        pace = self._pace = Pace(min(rates, default=None))
        if self._stopping.is_set():
            raise Interrupted
        carry_out = partial(self._copier.carry_out, planned, pace)
        work = asyncio.create_task(
            in_thread(
                carry_out, server="lake or database", timeout_s=self._timeouts.stall_s, idle_s=pace.idle_s
            )
        )
        next_beat = time.monotonic() + self._timeouts.heartbeat_s
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=min(_LOOK_S, max(0.0, next_beat - time.monotonic())))
                if not self._requests.ours(incoming):
                    pace.interrupt()  # another archiver has it now, and writes to the same names
                if time.monotonic() >= next_beat and not work.done():
                    await self._beat(planned.event)
                    next_beat = time.monotonic() + self._timeouts.heartbeat_s
            return work.result()
        finally:
            pace.interrupt()
            self._pace = None
            with suppress(Interrupted):
                await asyncio.shield(work)

    async def _beat(self, event: ArchivalEvent) -> None:
        try:
            await self._replies.send(self._said(event, ArchivalStatus.IN_PROGRESS))
        except Unavailable as error:  # the copy continues: the answer at its end counts
            _log.warning(Log.ARCHIVAL_HEARTBEAT_LOST, event_id=event.event_id, error=str(error))

    def _interrupt(self) -> None:
        if self._pace is not None:
            self._pace.interrupt()

    def _remember(self, event: ArchivalEvent) -> None:
        self._answered[event.event_id] = event.attempt
        self._answered.move_to_end(event.event_id)
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)

    # --- answers -------------------------------------------------------------------------------------------------

    def _answer(self, event: ArchivalEvent, carried: Carried) -> ArchivalConfirmation:
        if carried.place is None and carried.failure is not None:
            chunks = tuple(result_of(result) for result in carried.chunks)
            return self._failed(event, carried.failure, chunks=chunks)
        path, lake_format, snapshot_id = carried.place or (None, None, None)
        return self._said(
            event,
            ArchivalStatus.COMPLETED,
            chunks=tuple(result_of(result) for result in carried.chunks),
            lakehouse_path=path,
            lake_format=lake_format,
            snapshot_id=snapshot_id,
            replayed=carried.replayed,
        )

    def _failed(self, event: ArchivalEvent, failure: Failure, **fields: Any) -> ArchivalConfirmation:
        return self._said(
            event,
            ArchivalStatus.FAILED,
            error_code=failure.code,
            error_message=failure.reason,
            retryable=failure.retryable,
            **fields,
        )

    def _said(self, event: ArchivalEvent, status: ArchivalStatus, **fields: Any) -> ArchivalConfirmation:
        return ArchivalConfirmation(
            event_id=event.event_id,
            status=status,
            completed_at=self._clock.now(),
            archiver_id=self._archiver_id,
            attempt=event.attempt,
            **fields,
        )


def _stalled(fault: Unavailable) -> Failure:
    return Failure("STALLED", str(fault), retryable=True)


_LEVELS: Final = {"ignored": 10, "unreadable": 30}
"""Ordinary records are logged at DEBUG, unreadable ones at WARNING."""


def _result(answer: ArchivalConfirmation) -> str:
    if answer.status is ArchivalStatus.FAILED:
        return "failed"
    partial = any(result.status is ArchivalStatus.FAILED for result in answer.chunks)
    return "partial" if partial else "completed"
