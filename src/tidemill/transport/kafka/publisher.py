"""The only writer of a lane's outbound partitions.

Transactional by default: a later publisher of the same lane fences this one, and a publication is seen whole or not at
all by everybody who reads committed records. Idempotent on request: quicker for lone events, and a zombie's repeats are
left to the readers, who drop them by sequence. Either way one failure ends a publisher: a failed batch may have used up
a sequence number, and what is sent behind it is lost or refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import Lane
from tidemill.outbox.ports import OutboundRecord, PublisherFenced, Refused, Tails
from tidemill.transport.kafka.client import KafkaConnection, idempotent_producer, transactional_producer
from tidemill.transport.kafka.closing import cut, hard_close, kill
from tidemill.transport.kafka.errors import answering
from tidemill.transport.kafka.tail import TailReader, tail_of

BATCH_BYTES: Final = 512 << 10
"""Most bytes of one Kafka batch; must not exceed `max.message.bytes` of any outbound topic."""

_TRANSACTION_TIMEOUT_MS: Final = 30_000
_ABORT_S: Final = 2.0
_MARGIN_MS: Final = 5_000


class KafkaLanePublisher:
    """See `LanePublisher`. `transactional`: whether a publication is one Kafka transaction.

    `timeout_s`: deadline of `start` and of one `publish`. It is below the request timeout of the producer, so that the
    end of a transaction is never sent twice.
    """

    def __init__(
        self,
        lane: Lane,
        producer: Any,
        tails: TailReader,
        *,
        transactional: bool,
        timeout_s: float,
        close_s: float,
    ) -> None:
        self._lane = lane
        self._producer = producer
        self._tails = tails
        self._transactional = transactional
        self._timeout_s = timeout_s
        self._close_s = close_s
        self._failed = False
        self._open = False  # a transaction was begun, and nobody has asked for its end

    async def start(self) -> Tails:
        topics = (self._lane.topics.events, self._lane.topics.outcomes, self._lane.topics.dead_letters)
        partitions = [TopicPartition(topic, self._lane.partition) for topic in topics]
        async with (
            self._dying_of_any_error(),
            answering(f"starting the publisher of {self._name}", self._timeout_s),
        ):
            await self._producer.start()  # fences, and ends the predecessor's transaction
            await self._find(partitions)
            last = await self._tails.last(partitions)
            return Tails(*(None if record is None else tail_of(record) for record in last.values()))

    async def publish(self, batches: Mapping[str, Sequence[OutboundRecord]]) -> None:
        if self._failed:
            raise Unavailable(
                "kafka", f"the publisher of {self._name} has failed before: close it, make a new one"
            )
        if not any(batches.values()):
            return
        async with self._dying_of_any_error(), answering(f"publishing to {self._name}", self._timeout_s):
            await (self._transaction(batches) if self._transactional else self._send(batches))

    async def close(self) -> None:
        if self._open:
            await self._abort()
        if self._failed:
            await kill(self._producer)
        else:
            await hard_close(self._producer, self._close_s)

    @property
    def _name(self) -> str:
        return f"{self._lane.topics.events}/{self._lane.partition}"

    async def _transaction(self, batches: Mapping[str, Sequence[OutboundRecord]]) -> None:
        await self._producer.begin_transaction()
        self._open = True
        await self._send(batches)
        self._open = False
        await self._producer.commit_transaction()

    async def _send(self, batches: Mapping[str, Sequence[OutboundRecord]]) -> None:
        """Send batch after batch of a topic, the topics side by side.

        A batch waits for the one before it: behind a failed first batch of a producer the next one would be
        acknowledged, and leave a hole. And every answer counts: the commit would not look at them.
        """
        for wave in zip_longest(*(self._packed(topic, records) for topic, records in batches.items())):
            sent = [await self._submit(*packed) for packed in wave if packed is not None]
            for answer in sent:
                await answer

    def _packed(self, topic: str, records: Sequence[OutboundRecord]) -> Iterator[tuple[str, Any]]:
        """Pack records into batches. A record that is too large for one gets a batch of its own."""
        batch = self._producer.create_batch()
        append = batch.append
        for key, value, any_headers in records:
            headers = (
                any_headers if type(any_headers) is list else list(any_headers)
            )  # the builder takes no other
            if append(timestamp=None, key=key, value=value, headers=headers) is None:
                yield topic, batch
                batch = self._producer.create_batch()
                append = batch.append
                append(timestamp=None, key=key, value=value, headers=headers)
        if batch.record_count():
            yield topic, batch

    async def _submit(self, topic: str, batch: Any) -> Awaitable[Any]:
        batch.close()
        answer: asyncio.Future[Any] = await self._producer.send_batch(
            batch, topic, partition=self._lane.partition
        )
        answer.add_done_callback(_look_at)
        return answer

    async def _find(self, partitions: Sequence[TopicPartition]) -> None:
        """Learn about all partitions in one request. Raises `UnknownTopicOrPartitionError` for one that is missing."""
        await self._producer.client.set_topics({tp.topic for tp in partitions})
        for tp in partitions:
            known = self._producer.client.cluster.partitions_for_topic(tp.topic) or ()
            if tp.partition not in known:
                raise UnknownTopicOrPartitionError(tp)

    @asynccontextmanager
    async def _dying_of_any_error(self) -> AsyncIterator[None]:
        """Tell the relay what an error of the client means to it; whatever it is, it is this publisher's last."""
        try:
            yield
        except BaseException as error:
            self._failed = True
            if not self._transactional:
                cut(
                    self._producer
                )  # else what waits could be delivered behind the back of the next publisher
            cause = error.__cause__
            if isinstance(cause, ProducerFenced | InvalidProducerEpoch):
                self._open = False
                raise PublisherFenced(f"a later publisher of {self._name} was started") from cause
            if isinstance(cause, MessageSizeTooLargeError | RecordListTooLargeError):
                raise Refused(
                    f"{self._name}: a record is larger than its topic allows ({cause!r})"
                ) from cause
            raise

    async def _abort(self) -> None:
        """Give the partitions' readers free at once; otherwise they wait for the transaction's time-out."""
        try:
            async with answering("aborting", _ABORT_S):
                await self._producer.abort_transaction()
        except Unavailable:
            return  # the next publisher of the lane does it, or the time-out


def _look_at(answer: asyncio.Future[Any]) -> None:
    """Take note of an error nobody waits for any more, or asyncio complains about it."""
    if not answer.cancelled():
        answer.exception()


class KafkaPublishers:
    """Makes the publishers of a process, which share one reader of tails. See `Publishers`.

    `timeout_s`: deadline of starting and of one publication. `batch_bytes`: most bytes of one Kafka batch, at most the
    smallest `max.message.bytes` of the outbound topics.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        transactional: bool = True,
        timeout_s: float = 10.0,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._connection = connection
        self._transactional = transactional
        self._timeout_s = timeout_s
        self._batch_bytes = batch_bytes
        self._tails = TailReader(connection)

    def of(self, lane: Lane) -> KafkaLanePublisher:
        return KafkaLanePublisher(
            lane,
            self._producer(lane),
            self._tails,
            transactional=self._transactional,
            timeout_s=self._timeout_s,
            close_s=self._connection.close_timeout_s,
        )

    async def close(self) -> None:
        """End what the publishers share; close the publishers first."""
        await self._tails.close()

    def _producer(self, lane: Lane) -> Any:
        patient = replace(self._connection, request_timeout_ms=int(self._timeout_s * 1000) + _MARGIN_MS)
        if not self._transactional:
            return idempotent_producer(patient, batch_bytes=self._batch_bytes)
        return transactional_producer(
            patient,
            transactional_id=f"{lane.topics.events}-{lane.partition}",
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            batch_bytes=self._batch_bytes,
        )
