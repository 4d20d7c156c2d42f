"""Replies, best effort: queued, sent by a producer of their own, dropped rather than waited for.

The topics were named by clients. One that does not exist must hold up neither a lane nor other replies, so topics are
looked up aside, and what is not found is not asked for again for a while. The truth is the outcome topic.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from tidemill.commands.ports import Reply
from tidemill.telemetry import REPLIES, Log, logger
from tidemill.transport.kafka.client import KafkaConnection, expiring_producer
from tidemill.transport.kafka.closing import hard_close, kill
from tidemill.transport.kafka.errors import CLIENT_ERRORS
from tidemill.transport.kafka.opening import start

_log = logger(__name__)

_LOOK_UP_S: Final = 2.0
_LOOK_UPS: Final = 8
_FORGET_AFTER_S: Final = 60.0
_RECONNECT_S: Final = 2.0

Headers = Sequence[tuple[str, bytes | None]]


class ReplyRecord(NamedTuple):
    """What a reply says; the header that correlates it is added."""

    key: bytes | None
    value: bytes
    headers: Headers


class KafkaReplies:
    """See `Replies`. Start it before use, close it at the end.

    `record` makes the record of a reply. `allowed`: pattern of the whole name of topics that may be asked for.
    `forbidden`: topics that never may, whatever the pattern says: those we own. `capacity`: replies that may wait.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        record: Callable[[Reply], ReplyRecord],
        *,
        allowed: re.Pattern[str],
        forbidden: Collection[str] = (),
        capacity: int = 10_000,
    ) -> None:
        self._connection = connection
        self._record = record
        self._allowed = allowed
        self._forbidden = frozenset(forbidden)
        self._capacity = capacity
        self._waiting: deque[Reply] = deque()
        self._news = asyncio.Event()
        self._known: set[str] = set()
        self._unknown: dict[str, float] = {}  # topic -> when to look again
        self._looking: dict[str, list[Reply]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._producer: Any = None

    async def start(self) -> None:
        """Begin to send; a broker that is away is waited for."""
        self._spawn(self._work())

    def send(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if reply.topic in self._forbidden or not self._allowed.fullmatch(reply.topic):
                REPLIES.labels("refused").inc()
            elif len(self._waiting) >= self._capacity:
                REPLIES.labels("dropped").inc()
            else:
                self._waiting.append(reply)
        self._news.set()

    async def close(self) -> None:
        """End within a deadline; what still waits is dropped."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        producer, self._producer = self._producer, None
        if producer is not None:
            await hard_close(producer, self._connection.close_timeout_s)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while self._producer is None:
            await self._connect()
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self._take(self._waiting.popleft())

    async def _connect(self) -> None:
        producer = expiring_producer(self._connection)
        try:
            async with asyncio.timeout(self._connection.call_timeout_s):
                await start(producer)
        except CLIENT_ERRORS as error:
            _log.debug(Log.REPLY_FAILED, error=repr(error))
            await kill(producer)
            await asyncio.sleep(_RECONNECT_S)
        except BaseException:
            await kill(producer)
            raise
        else:
            self._producer = producer

    async def _take(self, reply: Reply) -> None:
        if reply.topic in self._known:
            await self._send(reply)
        elif reply.topic in self._looking:
            self._keep(reply)
        elif self._unknown.get(reply.topic, 0.0) > self._now() or len(self._looking) >= _LOOK_UPS:
            REPLIES.labels("dropped").inc()
        else:
            self._looking[reply.topic] = [reply]
            self._spawn(self._look_up(reply.topic))

    def _keep(self, reply: Reply) -> None:
        if len(self._looking[reply.topic]) < self._capacity:
            self._looking[reply.topic].append(reply)
        else:
            REPLIES.labels("dropped").inc()

    async def _look_up(self, topic: str) -> None:
        """Find out whether a topic exists, then send what waited for the answer."""
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                await self._producer.partitions_for(topic)
            self._known.add(topic)
        except CLIENT_ERRORS as error:
            self._unknown = {name: until for name, until in self._unknown.items() if until > self._now()}
            self._unknown[topic] = self._now() + _FORGET_AFTER_S
            _log.debug(Log.REPLY_FAILED, topic=topic, error=repr(error))
        finally:
            waited = self._looking.pop(topic)
        for reply in waited:
            await self._take(reply)

    async def _send(self, reply: Reply) -> None:
        try:
            key, value, headers = self._record(reply)
            if reply.correlation is not None:
                headers = [*headers, ("kafka_correlationId", reply.correlation)]
            async with asyncio.timeout(_LOOK_UP_S):
                answer = await self._producer.send(
                    reply.topic, value, key=key, partition=reply.partition, headers=headers
                )
            answer.add_done_callback(self._note)
        except Exception as error:  # noqa: BLE001  a partition that does not exist, a record too large: the client's loss
            REPLIES.labels("failed").inc()
            _log.debug(Log.REPLY_FAILED, topic=reply.topic, error=repr(error))

    def _note(self, answer: asyncio.Future[Any]) -> None:
        lost = answer.cancelled() or answer.exception() is not None
        REPLIES.labels("failed" if lost else "sent").inc()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
