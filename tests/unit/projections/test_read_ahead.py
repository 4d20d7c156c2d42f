"""Reading ahead: what a batch is, and that one reader has ended when the next begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from tests.fakes.events import MemoryCodec, MemoryEvents, MemoryTopic
from tests.support.engine.projections import EVENTS, Stored
from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.errors import Unavailable
from tidemill.projections.cursor import Batch
from tidemill.projections.ports import EventRecord, EventsUnfetchable
from tidemill.projections.read_ahead import ReadAhead
from tidemill.projections.retry import projector_retrier


class Stubborn(MemoryEvents):
    """Swallows a cancellation, and delivers what it has all the same, as a client may."""

    async def poll(self) -> Mapping[int, Sequence[EventRecord]]:
        try:
            return await super().poll()
        except asyncio.CancelledError:
            return {0: [self.topic.records[0][0]]}


@pytest.fixture
def topic() -> MemoryTopic:
    return MemoryTopic()


@pytest.fixture
async def source(topic: MemoryTopic) -> MemoryEvents:
    source = MemoryEvents(topic, partitions=2, max_records=600)
    await source.start({})
    return source


@pytest.fixture
async def reader(source: MemoryEvents) -> AsyncIterator[ReadAhead]:
    reader = ReadAhead(source, MemoryCodec(*EVENTS), projector_retrier(), max_events=2_000)
    yield reader
    await reader.stop()


def sizes(batch: Batch) -> dict[int, int]:
    return {partition: len(lane) for partition, lane in batch.items()}


def store(topic: MemoryTopic, partition: int, first: int, last: int) -> None:
    for sequence in range(first, last + 1):
        topic.append(partition, sequence, Stored(good="tea"))


async def test_a_backlog_fills_a_batch(topic: MemoryTopic, reader: ReadAhead) -> None:
    store(topic, 0, 1, 1_500)
    store(topic, 1, 1, 1_500)
    reader.start()
    assert sizes(await reader.take()) == {0: 1_200, 1: 1_200}


async def test_a_batch_ends_at_some_bytes_however_few_its_events_are(
    topic: MemoryTopic, source: MemoryEvents
) -> None:
    """No poll is asked for behind the bound until somebody takes what is there."""
    store(topic, 0, 1, 1_500)
    store(topic, 1, 1, 1_500)
    of_one = len(topic.records[0][0].value)
    reader = ReadAhead(source, MemoryCodec(*EVENTS), projector_retrier(), max_bytes=1_200 * of_one)
    reader.start()
    try:
        assert sizes(await reader.take()) == {0: 600, 1: 600}
        assert sizes(await reader.take()) == {0: 600, 1: 600}
        assert sizes(await reader.take()) == {0: 300, 1: 300}
    finally:
        await reader.stop()


async def test_the_end_of_a_backlog_is_given_away(topic: MemoryTopic, reader: ReadAhead) -> None:
    store(topic, 0, 1, 600)
    reader.start()
    assert sizes(await reader.take()) == {0: 600}


async def test_a_fault_comes_after_what_was_read_before_it(
    topic: MemoryTopic, source: MemoryEvents, reader: ReadAhead
) -> None:
    store(topic, 0, 1, 3)
    reader.start()
    await eventually(lambda: reader._events == 3)
    source.faults.append(EventsUnfetchable(1, 0, "crc"))
    await eventually(lambda: reader._task is not None and reader._task.done())
    assert sizes(await reader.take()) == {0: 3}
    for _ in range(2):
        with pytest.raises(EventsUnfetchable):
            await reader.take()


async def test_after_a_stop_it_reads_on_where_the_source_is(topic: MemoryTopic, reader: ReadAhead) -> None:
    store(topic, 0, 1, 3)
    reader.start()
    await eventually(lambda: reader._events == 3)
    await reader.stop()
    store(topic, 0, 4, 5)
    reader.start()
    assert (await reader.take())[0].sequences == [4, 5]


async def test_a_stop_after_a_failure_forgets_it(source: MemoryEvents, reader: ReadAhead) -> None:
    source.faults.append(Unavailable("kafka", "broken"))
    reader.start()
    await eventually(lambda: reader._task is not None and reader._task.done())
    await reader.stop()
    reader.start()
    reader.interrupt()
    assert await reader.take() == {}


async def test_a_reader_whose_client_swallows_the_cancellation_ends_too(topic: MemoryTopic) -> None:
    source = Stubborn(topic, partitions=1)
    await source.start({})
    store(topic, 0, 1, 1)
    reader = ReadAhead(source, MemoryCodec(*EVENTS), projector_retrier())
    reader.start()
    assert sizes(await reader.take()) == {0: 1}
    await eventually(lambda: reader._task is not None)
    async with asyncio.timeout(HANGING_S):
        await reader.stop()
    assert reader._events == 0


async def test_a_stop_before_the_start_is_nothing(reader: ReadAhead) -> None:
    await reader.stop()
