"""Replies to submitted commands: `submissions.ports.ReplyInbox`, a `Service`.

All processes share one topic, and each reads one of its partitions: that of its name's hash, so that two may read the
same and leave out each other's replies. What is missed, while the topic or its broker is unavailable, the log tells.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition

from tidemill.domain.errors import TransientError, Unavailable, Unreadable
from tidemill.runtime.pauses import stopped_within
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.submissions.ports import ReplyAddress
from tidemill.transport.kafka.client.client import KafkaConnection, manual_consumer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.errors import CLIENT_ERRORS, answering, unavailable
from tidemill.transport.kafka.client.lookup import assign, bounds_of, partitions_of
from tidemill.transport.kafka.client.start import start

_log = logger(__name__)

CORRELATION: Final = "kafka_correlationId"
_AGAIN_S: Final = 5.0

Decode = Callable[[bytes], Mapping[str, Any]]


class KafkaReplyInbox:
    """Reads the replies of one process. `process`: its name. `decode`: reads an outcome, or raises `Unreadable`."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        *,
        process: str,
        decode: Decode,
        again_s: float = _AGAIN_S,
    ) -> None:
        """`again_s`: how long it pauses after a failure."""
        self._connection = connection
        self._topic = topic
        self._process = process
        self._decode = decode
        self._again_s = again_s
        self._receive: Callable[[bytes, Mapping[str, Any]], None] = lambda _correlation, _fields: None
        self._stopping = asyncio.Event()
        self._problem = ""
        self.address: ReplyAddress | None = None

    def listen(self, receive: Callable[[bytes, Mapping[str, Any]], None]) -> None:
        self._receive = receive

    async def start(self) -> None:
        """Nothing to prepare: replies are not needed."""

    async def run(self) -> None:
        """Receive until `stop`; after a failure, begin again at the end of the partition."""
        reading = asyncio.create_task(self._read_again_and_again())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            stopping.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    def health(self) -> Health:
        """Return that it is healthy, whatever it misses: the log tells what replies do not."""
        return Health(ok=True, detail={"replies": self.address is not None, "problem": self._problem})

    async def _read_again_and_again(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._read()
            except TransientError as error:
                self._problem = str(error)
                _log.warning(Log.REPLIES_MISSED, topic=self._topic, error=str(error))
            await stopped_within(self._stopping, self._again_s)

    async def _read(self) -> None:
        """Follow the partition of this process from its end. Raises `Unavailable`."""
        consumer = manual_consumer(self._connection)
        try:
            async with answering(f"opening {self._topic}", self._connection.call_timeout_s):
                await start(consumer)
                partition = zlib.crc32(self._process.encode()) % await partitions_of(consumer, self._topic)
                place = TopicPartition(self._topic, partition)
                bounds = await bounds_of(consumer, [place])
            fetching = assign(consumer, {place: bounds[place][1]})
            self.address, self._problem = ReplyAddress(self._topic, partition), ""
            while True:
                fetched = await fetching.fetch({place})
                self._take(record for records in fetched.records.values() for record in records)
                for fault in fetched.faults:
                    raise Unavailable(
                        "kafka", f"{self._topic}/{partition} at {fault.offset}: {fault.cause!r}"
                    )
        except CLIENT_ERRORS as error:
            raise unavailable(f"reading {self._topic}", error) from error
        finally:
            self.address = None
            await hard_close(consumer, self._connection.close_timeout_s)

    def _take(self, records: Iterable[ConsumerRecord]) -> None:
        for record in records:
            correlation = dict(record.headers).get(CORRELATION)
            if correlation is None:
                continue
            with suppress(Unreadable):  # of a program that is not Tidemill, or of a newer version
                self._receive(correlation, self._decode(record.value or b""))
