"""A producer for publishing by hand: `admin.records.ports.RecordSender` and `RecordSenders`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from aiokafka.errors import MessageSizeTooLargeError

from tidemill.admin.records.outgoing import Outgoing, RecordPlace
from tidemill.domain.errors import Unavailable, UsageError
from tidemill.domain.partitioner import partition_of
from tidemill.transport.kafka.client.client import KafkaConnection, idempotent_producer
from tidemill.transport.kafka.client.close import hard_close, kill
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.lookup import Lookup
from tidemill.transport.kafka.client.start import start

_BATCH_BYTES: Final = 256 << 10
_LINGER_MS: Final = 5


class KeyedProducer:
    """Sends records to one topic. Use it with `async with`, after `open`. After any exception it cannot be used again.

    `batch_bytes`: most bytes of one Kafka batch, at most the topic's `max.message.bytes`; a larger record is refused.
    """

    def __init__(self, connection: KafkaConnection, topic: str, *, batch_bytes: int = _BATCH_BYTES) -> None:
        self._connection = connection
        self._topic = topic
        self._batch_bytes = batch_bytes
        self._partitions = 0
        self._producer: Any = None
        self._failed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect. Raises `Unavailable`, also if the topic does not exist."""
        lookup = Lookup(self._connection)
        try:
            self._partitions = await lookup.partitions(self._topic)
        finally:
            await lookup.close()
        self._producer = idempotent_producer(
            self._connection, batch_bytes=self._batch_bytes, linger_ms=_LINGER_MS
        )
        async with answering("starting a producer", self._connection.call_timeout_s):
            await start(self._producer)

    async def send(self, records: Sequence[Outgoing]) -> list[RecordPlace]:
        """Send records in order and return the place of each when all are acknowledged.

        Raises `Unavailable` (some of them may have arrived), `UsageError` for a record that is too large.
        """
        if self._failed:
            raise Unavailable("kafka", f"the producer for {self._topic} has failed before: create a new one")
        try:
            async with answering(f"publishing to {self._topic}", self._connection.call_timeout_s):
                answers = [await self._submit(record) for record in records]
                return [
                    RecordPlace(sent.partition, sent.offset) for sent in [await answer for answer in answers]
                ]
        except BaseException as error:
            self._failed = True
            if isinstance(error.__cause__, MessageSizeTooLargeError):
                raise UsageError(
                    f"a record is larger than {self._topic} allows: {error.__cause__}"
                ) from error
            if isinstance(error, Unavailable):
                raise Unavailable(
                    "kafka", f"{error}; send the same commands again, each is applied once"
                ) from error
            raise

    async def close(self) -> None:
        """End within a deadline; nothing is delivered afterwards."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if self._failed:
            await kill(producer)
        else:
            await hard_close(producer, self._connection.close_timeout_s)

    async def _submit(self, record: Outgoing) -> Awaitable[Any]:
        partition = record.partition
        if partition is None:
            partition = partition_of(record.key, self._partitions)
        answer: Awaitable[Any] = await self._producer.send(
            self._topic, record.value, key=record.key, partition=partition, headers=list(record.headers)
        )
        return answer


class KafkaSenders:
    """Makes producers."""

    def __init__(self, connect: Callable[[], KafkaConnection], *, batch_bytes: int) -> None:
        """`connect`: called for Kafka's address when a producer is made. `batch_bytes`: as of `KeyedProducer`."""
        self._connect = connect
        self._batch_bytes = batch_bytes

    def sender(self, topic: str) -> KeyedProducer:
        return KeyedProducer(self._connect(), topic, batch_bytes=self._batch_bytes)
