"""A plain reader for people: a topic from its start, its last records, or new ones.

`admin.ports.RecordReader` and `TopicReaders`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from tidemill.domain.errors import UsageError
from tidemill.transport.kafka.client.client import KafkaConnection, manual_consumer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.fetch_buffer import Fault, FetchedRecords
from tidemill.transport.kafka.client.lookup import assign, bounds_of, partitions_of
from tidemill.transport.kafka.client.start import start

_OFFSETS_PER_RECORD: Final = 4  # a record in its own transaction has a control record after it


class TopicReader:
    """Reads committed records of a topic, in order within each partition. Use it with `async with`, after `open`.

    `partition`: only this one.
    """

    def __init__(self, connection: KafkaConnection, topic: str, *, partition: int | None = None) -> None:
        self._connection = connection
        self._topic = topic
        self._partition = partition
        self._last: int | None = None
        self._consumer: Any = None
        self._fetching: Any = None
        self._ends: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self, *, last: int | None = None) -> None:
        """Fix where to begin: at the start, or at the `last` records of each partition (0: only new ones).

        Raises `Unavailable`, and `UsageError` for a topic or a partition that does not exist.
        """
        self._consumer = manual_consumer(self._connection)
        async with answering(f"opening {self._topic}", self._connection.call_timeout_s):
            await start(self._consumer)
            bounds = await bounds_of(self._consumer, await self._partitions())
        self._last = last
        self._ends = {tp: end for tp, (_, end) in bounds.items()}
        self._fetching = assign(self._consumer, {tp: self._start(*span) for tp, span in bounds.items()})

    async def records(self, *, follow: bool = False) -> AsyncIterator[ConsumerRecord]:
        """Yield the records that existed when it was opened and, if `follow`, new ones, without end.

        Raises `Unavailable`, and `UsageError` at a batch that cannot be unpacked.
        """
        async for record in self._present():
            yield record
        while follow:
            for record in self._of(await self._fetching.fetch(self._ends.keys())):
                yield record

    async def close(self) -> None:
        """End within a deadline."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await hard_close(consumer, self._connection.close_timeout_s)

    async def _partitions(self) -> list[TopicPartition]:
        try:
            count = await partitions_of(self._consumer, self._topic)
        except UnknownTopicOrPartitionError as error:
            raise UsageError(
                f"there is no topic {self._topic}: `tidemill topics check` names those of this deployment, and "
                "`tidemill topics create` creates missing ones; a topic that Tidemill's principal may not describe is "
                "invisible to it"
            ) from error
        if self._partition is not None and not 0 <= self._partition < count:
            raise UsageError(f"{self._topic} has partitions 0 to {count - 1}, no partition {self._partition}")
        wanted = range(count) if self._partition is None else [self._partition]
        return [TopicPartition(self._topic, partition) for partition in wanted]

    def _start(self, first: int, end: int) -> int:
        return first if self._last is None else max(first, end - self._last * _OFFSETS_PER_RECORD)

    async def _present(self) -> AsyncIterator[ConsumerRecord]:
        """Yield what exists; with `last`, only when all of it has been read."""
        kept: dict[int, deque[ConsumerRecord]] = {}
        flowing = set(self._ends)
        while flowing := {tp for tp in flowing if await self._consumer.position(tp) < self._ends[tp]}:
            for record in self._of(await self._fetching.fetch(flowing)):
                if self._last is None:
                    yield record
                else:
                    kept.setdefault(record.partition, deque(maxlen=self._last)).append(record)
        for partition in sorted(kept):
            for record in kept[partition]:
                yield record

    def _of(self, fetched: FetchedRecords) -> Sequence[ConsumerRecord]:
        for fault in fetched.faults:
            raise UsageError(self._complaint(fault))
        return [record for records in fetched.records.values() for record in records]

    def _complaint(self, fault: Fault) -> str:
        return (
            f"{self._topic}/{fault.partition.partition} cannot be read at offset {fault.offset}: {fault.cause!r}; "
            "read other partitions with --partition"
        )


class KafkaTopicReaders:
    """Makes readers."""

    def __init__(self, connect: Callable[[], KafkaConnection]) -> None:
        """`connect`: called for Kafka's address when a reader is made. May raise `UsageError`."""
        self._connect = connect

    def reader(self, topic: str, *, partition: int | None = None) -> TopicReader:
        return TopicReader(self._connect(), topic, partition=partition)
