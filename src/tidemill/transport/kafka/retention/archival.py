"""The archive's two topics for an archiver: requests as a member of a group, confirmations acknowledged.

A copy may take hours. Meanwhile the client is polled for nothing, which is the heartbeat that keeps it in its group;
when its partition is assigned to another archiver, this one finds out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener, TopicPartition

from tidemill.admin.records.outgoing import Outgoing
from tidemill.archiver.ports import Incoming
from tidemill.domain.archive.messages import ArchivalConfirmation
from tidemill.domain.errors import Unavailable, Unreadable
from tidemill.domain.rejections import ParkingCode
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.transport.avro.archival import ArchivalCodec
from tidemill.transport.kafka.admin.producer import KeyedProducer
from tidemill.transport.kafka.client.client import KafkaConnection, group_consumer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.fetch_buffer import Fault, Fetching
from tidemill.transport.kafka.client.lookup import Lookup
from tidemill.transport.kafka.client.membership import Membership
from tidemill.transport.kafka.client.start import start

_log = logger(__name__)

_WAIT_S: Final = 0.2
_RELEASE_TIMEOUT_S: Final = (
    12.0  # below half the rebalance time-out, after which others get the partitions anyway
)
_MAX_RECORDS: Final = 100


class KafkaRequests:
    """See `Requests`. `group`: the archivers that share the work; other groups get everything again."""

    def __init__(self, connection: KafkaConnection, codec: ArchivalCodec, *, topic: str, group: str) -> None:
        self._connection = connection
        self._codec = codec
        self._topic = topic
        self._group = group
        self._lookup = Lookup(connection)
        self._consumer: Any = None
        self._fetching: Any = None
        self._membership: Membership | None = None
        self._ours: set[TopicPartition] = set()
        self._placed: set[TopicPartition] = set()  # of these, those with a known offset
        self._waiting: deque[Any] = deque()  # records, and faults in their place
        self._news = asyncio.Event()
        self._released = asyncio.Event()
        self._released.set()
        self._pump: asyncio.Task[None] | None = None
        self._closing = False

    async def start(self) -> None:
        await self._lookup.partitions(self._topic)  # it would wait silently for a missing topic
        self._consumer = group_consumer(self._connection, group=self._group)
        async with answering(f"joining group {self._group}", self._connection.call_timeout_s):
            await start(self._consumer)
        self._fetching = Fetching(self._consumer, max_records=_MAX_RECORDS, wait_s=_WAIT_S)
        self._membership = Membership(self._consumer, ask=lambda: self._lookup.partitions(self._topic))
        self._consumer.subscribe([self._topic], listener=_Listener(self))
        self._pump = asyncio.create_task(self._keep_reading(), name="archival requests")

    async def next(self) -> Incoming | None:
        self._released.set()  # the last one is done when the next one is requested
        if not self._waiting:
            await self._wait_for_news()
        if not self._waiting:
            return None
        record = self._waiting.popleft()
        self._released.clear()
        if isinstance(record, Fault):
            why = Unreadable(ParkingCode.MALFORMED, f"its batch cannot be unpacked: {record.cause!r}")
            return Incoming(record.partition.partition, record.offset, why)
        try:
            return Incoming(record.partition, record.offset, await self._codec.read(record.value))
        except Unreadable as fault:
            return Incoming(record.partition, record.offset, fault)

    def ours(self, incoming: Incoming) -> bool:
        return TopicPartition(self._topic, incoming.partition) in self._ours

    async def done(self, incoming: Incoming) -> None:
        place = {TopicPartition(self._topic, incoming.partition): incoming.offset + 1}
        async with answering(f"committing offsets of {self._group}", self._connection.call_timeout_s):
            await self._consumer.commit(place)

    async def close(self) -> None:
        self._closing = True
        self._forget()
        self._released.set()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait({self._pump})
        watch = [self._membership.close()] if self._membership is not None else []
        await asyncio.gather(*watch, self._lookup.close(), self._leave())

    async def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await hard_close(consumer, self._connection.close_timeout_s)

    def _forget(self) -> None:
        self._ours = set()
        self._placed.clear()
        self._waiting.clear()

    async def _wait_for_news(self) -> None:
        assert self._pump is not None
        self._news.clear()
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({news, self._pump}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if self._pump.done():
            self._pump.result()
            raise Unavailable("kafka", f"the reader of {self._topic} has ended")

    async def _keep_reading(self) -> None:
        while True:
            for tp in self._ours - self._placed:
                await self._place(tp)
            if self._membership is not None:
                self._membership.check()
            flowing = set() if self._waiting else self._placed & self._ours
            fetched = await self._fetching.fetch(flowing)
            for records in fetched.records.values():
                self._waiting += records
            for fault in fetched.faults:
                self._skip(fault)
            if self._waiting:
                self._news.set()

    async def _place(self, tp: TopicPartition) -> None:
        """Continue after the last finished record; without one, or if it was deleted, at the start."""
        async with answering(f"reading the offsets of {self._group}", self._connection.call_timeout_s):
            committed = await self._consumer.committed(tp)
            first = (await self._consumer.beginning_offsets([tp]))[tp]
        if tp in self._ours:
            self._fetching.seek(tp, max(first, committed or 0))
            self._fetching.resume([tp])
            self._placed.add(tp)

    def _skip(self, fault: Fault) -> None:
        """Skip an unreadable record; an offset beyond the end of the topic is looked up again."""
        if fault.out_of_range:
            self._placed.discard(fault.partition)
        elif fault.partition in self._ours:
            self._fetching.seek(fault.partition, fault.offset + 1)
            self._waiting.append(fault)

    # --- callbacks ----------------------------------------------------------------------------------------

    def assigned(self, partitions: set[TopicPartition]) -> None:
        """Store the new assignment, which replaces the old one completely."""
        if self._closing:
            return
        self._consumer.pause(*partitions)
        self._forget()
        self._ours = set(partitions)

    async def revoked(self) -> None:
        """Stop, and give the archiver a moment to release its work."""
        self._forget()
        try:
            await asyncio.wait_for(self._released.wait(), _RELEASE_TIMEOUT_S)
        except TimeoutError:
            _log.warning(
                Log.REBALANCE_CALLBACK_FAILED, error=f"a copy continued for {_RELEASE_TIMEOUT_S:g} s"
            )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """The client's callbacks."""

    def __init__(self, requests: KafkaRequests) -> None:
        self._requests = requests

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._requests.assigned(assigned)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        del revoked
        await self._requests.revoked()


class KafkaConfirmations:
    """See `archiver.ports.Confirmations`. `batch_bytes`: at most the topic's `max.message.bytes`.

    A producer that failed is replaced by the next call.
    """

    def __init__(
        self, connection: KafkaConnection, codec: ArchivalCodec, *, topic: str, batch_bytes: int = 256 << 10
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._topic = topic
        self._batch_bytes = batch_bytes
        self._producer: KeyedProducer | None = None

    async def start(self) -> None:
        producer = KeyedProducer(self._connection, self._topic, batch_bytes=self._batch_bytes)
        try:
            await producer.open()
        except BaseException:
            await producer.close()
            raise
        self._producer = producer

    async def send(self, confirmation: ArchivalConfirmation) -> None:
        if self._producer is None:
            await self.start()
        assert self._producer is not None
        record = Outgoing(key=confirmation.event_id.encode(), value=self._codec.write(confirmation))
        try:
            await self._producer.send([record])
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()
