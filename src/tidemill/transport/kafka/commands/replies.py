"""Replies, best effort: queued, sent by a separate producer, dropped rather than waited for.

The topics were named by clients. One that does not exist, was deleted, or has a partition without a leader, must delay
neither a lane nor other replies: so each has its own queue and task while replies wait for it. A topic that
is not found, or does not take a reply in time, is given up with all its replies, and not tried again for a
while. The outcome topic is authoritative.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from tidemill.commands.ports import Reply
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import REPLIES
from tidemill.transport.kafka.client.client import KafkaConnection, expiring_producer
from tidemill.transport.kafka.client.close import hard_close, kill
from tidemill.transport.kafka.client.errors import CLIENT_ERRORS
from tidemill.transport.kafka.client.start import start

_log = logger(__name__)

_WITHIN_S: Final = 2.0
"""How long a topic may take to be found, and to take a reply."""

_LOOK_UPS: Final = 8
_MISSING_FOR_S: Final = 60.0
_FAILING_FOR_S: Final = 5.0
"""How long a topic that existed before is not tried: after an outage of the broker most of them exist again."""

_RECONNECT_S: Final = 2.0

Headers = Sequence[tuple[str, bytes | None]]


class ReplyRecord(NamedTuple):
    """The content of a reply; the correlation header is added."""

    key: bytes | None
    value: bytes
    headers: Headers


class KafkaReplies:
    """See `Replies`. Start it before use, close it at the end.

    `record` makes the record of a reply. `allowed`: pattern of the whole name of allowed topics.
    `forbidden`: topics that are never allowed: Tidemill's own. `capacity`: replies that may wait, for
    all topics together.
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
        self._held = 0
        self._waiting: deque[Reply] = deque()
        self._news = asyncio.Event()
        self._queues: dict[str, deque[Reply]] = {}  # topic -> what its task is to send
        self._known: set[str] = set()
        self._unknown: dict[str, float] = {}  # topic -> when to try again
        self._looking: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._producer: Any = None

    async def start(self) -> None:
        """Start to send; it waits for an unavailable broker."""
        self._spawn(self._work())

    def send(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if reply.topic in self._forbidden or not self._allowed.fullmatch(reply.topic):
                REPLIES.labels("refused").inc()
            elif self._held >= self._capacity:
                REPLIES.labels("dropped").inc()
            else:
                self._held += 1
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
                self._take(self._waiting.popleft())

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

    def _take(self, reply: Reply) -> None:
        topic = reply.topic
        if topic in self._queues:
            self._queues[topic].append(reply)
        elif topic in self._known or self._may_look(topic):
            self._queues[topic] = deque([reply])
            self._spawn(self._serve(topic))
        else:
            self._drop(1)

    def _may_look(self, topic: str) -> bool:
        return self._unknown.get(topic, 0.0) <= self._now() and len(self._looking) < _LOOK_UPS

    async def _serve(self, topic: str) -> None:
        """Send what waits for a topic, in order, until nothing does or the topic fails."""
        queue = self._queues[topic]
        try:
            if topic not in self._known:
                await self._look_up(topic)
            while queue:
                await self._send(queue.popleft())
        except CLIENT_ERRORS as error:
            self._give_up(topic, error)
        finally:
            del self._queues[topic]
            self._drop(len(queue))

    async def _look_up(self, topic: str) -> None:
        """Return if a topic exists. Raises `CLIENT_ERRORS`."""
        self._looking.add(topic)
        try:
            async with asyncio.timeout(_WITHIN_S):
                await self._producer.partitions_for(topic)
            self._known.add(topic)
        finally:
            self._looking.discard(topic)

    def _give_up(self, topic: str, error: Exception) -> None:
        """Do not try a topic for a while."""
        self._unknown = {name: until for name, until in self._unknown.items() if until > self._now()}
        self._unknown[topic] = self._now() + (_FAILING_FOR_S if topic in self._known else _MISSING_FOR_S)
        self._known.discard(topic)
        # else it would ask for every topic that a client has invented
        self._producer.client._topics.discard(topic)
        _log.debug(Log.REPLY_FAILED, topic=topic, error=repr(error))

    async def _send(self, reply: Reply) -> None:
        """Hand a reply to the client. Raises `KafkaError` or `OSError` if the topic is at fault."""
        self._held -= 1
        try:
            key, value, headers = self._record(reply)
            if reply.correlation is not None:
                headers = [*headers, ("kafka_correlationId", reply.correlation)]
            async with asyncio.timeout(_WITHIN_S):
                answer = await self._producer.send(
                    reply.topic, value, key=key, partition=reply.partition, headers=headers
                )
            answer.add_done_callback(partial(self._note, reply.topic))
        except Exception as error:  # a partition that does not exist, a record too large: the client's fault
            REPLIES.labels("failed").inc()
            if isinstance(error, KafkaError | OSError) and not isinstance(error, MessageSizeTooLargeError):
                raise
            _log.debug(Log.REPLY_FAILED, topic=reply.topic, error=repr(error))

    def _note(self, topic: str, answer: asyncio.Future[Any]) -> None:
        lost = answer.cancelled() or answer.exception() is not None
        REPLIES.labels("failed" if lost else "sent").inc()
        if lost:
            self._known.discard(topic)  # it is looked up before the next one: it may have been deleted

    def _drop(self, replies: int) -> None:
        self._held -= replies
        REPLIES.labels("dropped").inc(replies)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
