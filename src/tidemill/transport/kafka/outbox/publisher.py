"""The only writer of a lane's outbound partitions.

Transactional by default: a later publisher of the same lane fences this one, and readers of committed records see a
publication completely or not at all. Idempotent if configured: faster for single events, and a zombie's repeats are
left to the readers, which drop them by sequence. Either way one failure ends a publisher: a failed batch may have used
a sequence number, and what is sent after it is lost or refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import Lane
from tidemill.outbox.ports import (
    NOTHING_ACCEPTED,
    EncodedRecord,
    PublisherFenced,
    RecordRefused,
    Slab,
    Tails,
)
from tidemill.runtime.clock import SystemClock
from tidemill.transport.kafka.client.client import (
    KafkaConnection,
    idempotent_producer,
    transactional_producer,
)
from tidemill.transport.kafka.client.close import cut, hard_close, kill
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.start import start
from tidemill.transport.kafka.outbox.compression import NONE, BatchCompression
from tidemill.transport.kafka.outbox.hanging_transactions import HangingWatch, end_hanging
from tidemill.transport.kafka.outbox.record_batch import BatchFormat, PackedBatch
from tidemill.transport.kafka.outbox.tail import Look, TailReader, tail_of

BATCH_BYTES: Final = 512 << 10
"""Maximum size of one Kafka batch; must not exceed `max.message.bytes` of any outbound topic."""

_TRANSACTION_TIMEOUT_MS: Final = 30_000
_ABORT_S: Final = 1.0
_MAX_TRIES: Final = 50
_PAUSE_S: Final = 0.1
_MARGIN_MS: Final = 5_000
_CLOCK: Final = SystemClock()

Records = Sequence[EncodedRecord | Slab]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherSettings:
    """The settings of publishers.

    `transactional`: whether a publication is one Kafka transaction. `timeout_s`: deadline of `start` and of one
    `publish`. `batch_bytes`: maximum size of one Kafka batch, at most the smallest `max.message.bytes` of the outbound
    topics. `compression`: of batches.
    """

    transactional: bool = True
    timeout_s: float = 10.0
    batch_bytes: int = BATCH_BYTES
    compression: BatchCompression = NONE


class KafkaLanePublisher:
    """See `LanePublisher`. `partitions`: those it writes to. `publications`: how many it has begun."""

    def __init__(
        self,
        lane: Lane,
        connection: KafkaConnection,
        settings: PublisherSettings,
        tails: TailReader,
        watch: HangingWatch,
        accepted: Mapping[str, int],
    ) -> None:
        self.partitions = _outbound(lane)
        self.publications = 0
        self._acknowledged = 0
        self._name = f"{lane.topics.events}/{lane.partition}"
        self._id = f"{lane.topics.events}-{lane.partition}"
        # a request waits longer than its caller, so that the end of a transaction is never sent twice
        self._connection = replace(connection, request_timeout_ms=int(settings.timeout_s * 1000) + _MARGIN_MS)
        self._settings = settings
        self._tails = tails
        self._watch = watch
        self._accepted = accepted
        self._producer = self._transactional() if settings.transactional else self._idempotent()
        self._turn = asyncio.Lock()
        self._failed = False
        self._open = False  # a transaction was begun, and its end was not requested

    async def start(self) -> Tails:
        doing = f"starting the publisher of {self._name}"
        async with self._dying_of_any_error(), answering(doing, self._settings.timeout_s), self._turn:
            await start(self._producer)  # fences, and ends the predecessor's transaction
            await self._find()
            looks = await self._settled()
            ends = [await self._tails.ours(tp, look, self._accepted) for tp, look in looks.items()]
            tails = Tails(*(None if end is None else tail_of(end) for end in ends))
        if self._settings.transactional:
            self._watch.add(self)
        return tails

    async def publish(self, batches: Mapping[str, Records]) -> None:
        if self._failed:
            raise Unavailable(
                "kafka", f"the publisher of {self._name} has failed before: close it, create a new one"
            )
        if not any(batches.values()):
            return
        self.publications += 1
        doing = f"publishing to {self._name}"
        async with self._dying_of_any_error(), answering(doing, self._settings.timeout_s), self._turn:
            await (self._transaction(batches) if self._settings.transactional else self._send(batches))
        self._acknowledged += 1

    @property
    def idle(self) -> bool:
        """See `Watched`."""
        return self._acknowledged == self.publications

    async def close(self) -> None:
        self._watch.discard(self)
        if self._open:
            await self._abort()
        if self._failed:
            await kill(self._producer)
        else:
            self._failed = True  # the watch may still use it
            await hard_close(self._producer, self._connection.close_timeout_s)

    async def settle(self, hidden: Collection[TopicPartition], publications: int) -> None:
        """End hanging transactions in `hidden`, unless a publication has begun meanwhile; errors show at the next."""
        async with self._turn:
            if self._failed or self.publications != publications:
                return
            try:
                async with (
                    self._dying_of_any_error(),
                    answering(f"settling {self._name}", self._settings.timeout_s),
                ):
                    await self._end_hanging(hidden)
            except (Unavailable, PublisherFenced):
                return

    async def _transaction(self, batches: Mapping[str, Records]) -> None:
        await self._producer.begin_transaction()
        self._open = True
        await self._send(batches)
        self._open = False
        await self._producer.commit_transaction()

    async def _send(self, batches: Mapping[str, Records]) -> None:
        """Send the batches of each topic in order, the topics concurrently.

        A batch waits for the one before it: after a failed first batch of a producer the next one would be
        acknowledged, and leave a gap. And every answer is checked: the commit would not check them.
        """
        at_ms = int(_CLOCK.now().timestamp() * 1000)
        settings = self._settings
        made = BatchFormat(
            max_bytes=settings.batch_bytes,
            at_ms=at_ms,
            transactional=settings.transactional,
            compression=settings.compression,
        )
        packed = (_packed(made, topic, records) for topic, records in batches.items())
        for wave in zip_longest(*packed):
            sent = [await self._submit(*each) for each in wave if each is not None]
            for answer in sent:
                await answer

    async def _submit(self, topic: str, batch: PackedBatch) -> Awaitable[Any]:
        partition = self.partitions[0].partition
        answer: asyncio.Future[Any] = await self._producer.send_batch(batch, topic, partition=partition)
        answer.add_done_callback(_look_at)
        return answer

    async def _find(self) -> None:
        """Fetch the metadata of all partitions in one request. Raises `UnknownTopicOrPartitionError`."""
        if not await self._producer.client.set_topics({tp.topic for tp in self.partitions}):
            raise KafkaConnectionError("no broker returns metadata of topics")
        for tp in self.partitions:
            known = self._producer.client.cluster.partitions_for_topic(tp.topic) or ()
            if tp.partition not in known:
                raise UnknownTopicOrPartitionError(tp)

    async def _settled(self) -> dict[TopicPartition, Look]:
        """Read the tails when nothing is hidden any more: after the fence only hanging transactions can be."""
        for attempt in range(_MAX_TRIES):
            looks = await self._tails.look(self.partitions)
            hidden = [tp for tp, look in looks.items() if look.hidden]
            if not hidden:
                return looks
            if attempt == 0:
                await self._end_hanging(hidden)
            await asyncio.sleep(_PAUSE_S)
        raise Unavailable(
            "kafka",
            f"a transaction stays open in {self._name} or its sister topics: only the relay may write to them; "
            "`kafka-transactions.sh find-hanging` names the writer",
        )

    async def _end_hanging(self, hidden: Collection[TopicPartition]) -> None:
        if self._settings.transactional:
            await end_hanging(self._producer, hidden)
            return
        producer = self._transactional()  # a publisher of earlier settings left it
        try:
            await start(producer)
            await end_hanging(producer, hidden)
        finally:
            await kill(producer)

    def _transactional(self) -> Any:
        return transactional_producer(
            self._connection,
            transactional_id=self._id,
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            batch_bytes=self._settings.batch_bytes,
        )

    def _idempotent(self) -> Any:
        return idempotent_producer(self._connection, batch_bytes=self._settings.batch_bytes)

    @asynccontextmanager
    async def _dying_of_any_error(self) -> AsyncIterator[None]:
        """Translate an error of the client for the relay; any error ends this publisher."""
        try:
            yield
        except BaseException as error:
            self._failed = True
            if not self._settings.transactional:
                # else queued records could be delivered after the next publisher has started
                cut(self._producer)
            cause = error.__cause__
            if isinstance(cause, ProducerFenced | InvalidProducerEpoch):
                self._open = False
                raise PublisherFenced(
                    f"a later publisher of {self._name} was started, or a transaction took too long"
                ) from cause
            if isinstance(cause, MessageSizeTooLargeError | RecordListTooLargeError):
                raise RecordRefused(
                    f"{self._name}: a record is larger than its topic allows ({cause!r})"
                ) from cause
            raise

    async def _abort(self) -> None:
        """Release the partitions' readers at once; otherwise they wait for the transaction's time-out."""
        try:
            async with answering("aborting", _ABORT_S):
                await self._producer.abort_transaction()
        except Unavailable:
            return  # the next publisher of the lane does it, or the time-out


def _packed(made: BatchFormat, topic: str, records: Records) -> Iterator[tuple[str, PackedBatch]]:
    for batch in made.of(records):
        yield topic, batch


def _outbound(lane: Lane) -> list[TopicPartition]:
    topics = (lane.topics.events, lane.topics.outcomes, lane.topics.dead_letters)
    return [TopicPartition(topic, lane.partition) for topic in topics]


def _look_at(answer: asyncio.Future[Any]) -> None:
    """Retrieve an error that is no longer awaited, or asyncio warns about it."""
    if not answer.cancelled():
        answer.exception()


class KafkaPublishers:
    """See `Publishers`. For the settings see `PublisherSettings`."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        transactional: bool = True,
        timeout_s: float = 10.0,
        batch_bytes: int = BATCH_BYTES,
        compression: BatchCompression = NONE,
    ) -> None:
        self._connection = connection
        self._settings = PublisherSettings(
            transactional=transactional,
            timeout_s=timeout_s,
            batch_bytes=batch_bytes,
            compression=compression,
        )
        self._tails = TailReader(connection)
        self._watch = HangingWatch(self._tails)
        self._ends: dict[TopicPartition, int] = {}

    def of(self, lane: Lane, accepted: Mapping[str, int] = NOTHING_ACCEPTED) -> KafkaLanePublisher:
        return KafkaLanePublisher(lane, self._connection, self._settings, self._tails, self._watch, accepted)

    async def shortened(self, lanes: Collection[Lane]) -> frozenset[int]:
        places = {tp: lane.id for lane in lanes for tp in _outbound(lane)}
        ends = await self._tails.ends(places)
        shorter = {places[tp] for tp, end in ends.items() if end < self._ends.get(tp, 0)}
        self._ends |= ends
        return frozenset(shorter)

    async def close(self) -> None:
        """End what the publishers share; close the publishers first."""
        await self._watch.close()
        await self._tails.close()
