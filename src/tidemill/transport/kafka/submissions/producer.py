"""The producer of submitted commands: `submissions.ports.CommandSender`.

One for all topics, idempotent, used by many callers at once. A failed record may have used a sequence number, and what
the same producer sends after it is lost or refused: so one failure ends a producer with all that it has in flight, and
the next caller makes a new one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka.errors import MessageSizeTooLargeError

from tidemill.domain.errors import UsageError
from tidemill.submissions.ports import CommandRecord
from tidemill.transport.kafka.client.client import KafkaConnection, idempotent_producer
from tidemill.transport.kafka.client.close import hard_close, kill
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.start import start

_LINGER_MS: Final = 0
"""A lone command is sent at once; what arrives while a request is under way shares the next."""


class KafkaCommandSender:
    """Sends records of command topics. It connects at the first record; close it at the end.

    `batch_bytes`: most bytes of one Kafka batch, at most `max.message.bytes` of each command topic. `timeout_s`: how
    long an acknowledgement may take.
    """

    def __init__(self, connection: KafkaConnection, *, batch_bytes: int, timeout_s: float = 10.0) -> None:
        self._connection = connection
        self._batch_bytes = batch_bytes
        self._timeout_s = timeout_s
        self._producer: asyncio.Task[Any] | None = None
        self._ending: set[asyncio.Task[Any]] = set()

    async def send(self, record: CommandRecord) -> int:
        opened = self._opened()
        try:
            async with answering(f"sending to {record.topic}", self._timeout_s):
                producer = opened.result() if opened.done() else await asyncio.shield(opened)
                answer = await producer.send(
                    record.topic,
                    record.value,
                    key=record.key,
                    partition=record.partition,
                    headers=list(record.headers),
                )
                return int((await asyncio.shield(answer)).offset)
        except asyncio.CancelledError:
            raise  # only this caller is gone: what it sent is still sent
        except BaseException as error:
            if isinstance(error.__cause__, MessageSizeTooLargeError):
                raise UsageError(f"a record is larger than {record.topic} allows") from error
            self._retire(opened)
            raise

    async def close(self) -> None:
        """End within a deadline; nothing is delivered afterwards."""
        opened, self._producer = self._producer, None
        if opened is not None:
            await self._end(opened, gently=True)
        if self._ending:
            await asyncio.wait(self._ending)

    def _opened(self) -> asyncio.Task[Any]:
        """Return the producer that is open or being opened, by one caller for all."""
        if self._producer is None:
            self._producer = asyncio.create_task(self._open())
            self._producer.add_done_callback(_look_at)
        return self._producer

    async def _open(self) -> Any:
        producer = idempotent_producer(self._connection, batch_bytes=self._batch_bytes, linger_ms=_LINGER_MS)
        try:
            async with answering("starting a producer", self._connection.call_timeout_s):
                await start(producer)
        except BaseException:
            await kill(producer)
            raise
        return producer

    def _retire(self, opened: asyncio.Task[Any]) -> None:
        """End a producer that failed, unless another caller has begun to."""
        if self._producer is opened:
            self._producer = None
            ending = asyncio.create_task(self._end(opened, gently=False))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _end(self, opened: asyncio.Task[Any], *, gently: bool) -> None:
        if not opened.done():
            opened.cancel()
            await asyncio.wait({opened})
        if opened.cancelled() or opened.exception() is not None:
            return
        if gently:
            await hard_close(opened.result(), self._connection.close_timeout_s)
        else:
            await kill(opened.result())


def _look_at(opening: asyncio.Task[Any]) -> None:
    """Retrieve an error that nobody awaits any more, or asyncio warns about it."""
    if not opening.cancelled():
        opening.exception()
