"""What a fault in an event topic means: damage holds its partition back, what a client wrote is left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError

from tidemill.projections.ports import EventsUnfetchable
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.client.fetch_buffer import Fault, FetchedRecords
from tidemill.transport.kafka.patches.decompression_limit import UnpacksTooLarge
from tidemill.transport.kafka.projections.event_source import KafkaEventSource

PARTITION = TopicPartition("events", 0)


class Fetched:
    """Gives one fault, and notes where it is sent."""

    def __init__(self, cause: Exception) -> None:
        self._fetched = [FetchedRecords({}, [Fault(PARTITION, 7, cause)])]
        self.sought: list[int] = []
        self.held: list[TopicPartition] = []

    async def fetch(self, _: Collection[TopicPartition]) -> FetchedRecords:
        return self._fetched.pop()

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.held += partitions

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.sought.append(offset)


def source_of(fetched: Fetched) -> KafkaEventSource:
    made = KafkaEventSource(KafkaConnection(bootstrap="nowhere:1"), topic="events", partitions=1)
    made._fetching = fetched
    return made


@pytest.mark.parametrize(
    "cause",
    [CorruptRecordException(), UnsupportedCodecError(), MemoryError(), OSError("read")],
    ids=lambda cause: type(cause).__name__,
)
async def test_what_may_be_an_event_is_not_left_out(cause: Exception) -> None:
    fetched = Fetched(cause)
    source = source_of(fetched)
    assert await source.poll() == {}
    with pytest.raises(EventsUnfetchable, match=type(cause).__name__):
        await source.poll()
    assert (fetched.held, fetched.sought, source.foreign()) == ([PARTITION], [], [])


@pytest.mark.parametrize("cause", [UnpacksTooLarge(), ValueError("varint"), EOFError()])
async def test_what_a_client_wrote_so_is_left_out(cause: Exception) -> None:
    fetched = Fetched(cause)
    source = source_of(fetched)
    assert await source.poll() == {}
    assert (fetched.held, fetched.sought) == ([], [8])
    assert [(each.partition, each.offset) for each in source.foreign()] == [(0, 7)]
