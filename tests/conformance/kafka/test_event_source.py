"""What every `EventSource` promises, asked of the fake and of the real one alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from tests.support.engine.kafka import World
from tests.support.waiting import eventually
from tidemill.projections.ports import (
    EventRecord,
    EventSource,
    EventSourceFault,
    EventsOutOfRange,
)
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord

AT = datetime(2026, 11, 21, 7, 30, 0, 250, tzinfo=UTC)


def event(sequence: int, *extra: tuple[str, bytes | None]) -> OutboundRecord:
    headers = [
        ("ce_time", b"2026-11-21T07:30:00.000250Z"),
        ("ce_type", b"goods.Stored"),
        *extra,
        ("tm_sequence", b"%d" % sequence),
    ]
    return OutboundRecord(b"key", b"event %d" % sequence, headers)


class Reader:
    """A source; whatever it reads is kept."""

    def __init__(self, source: EventSource) -> None:
        self.source = source
        self.read: dict[int, list[EventRecord]] = {}
        self.faults: list[EventSourceFault] = []

    async def poll(self) -> None:
        try:
            polled = await self.source.poll()
        except EventSourceFault as fault:
            self.faults.append(fault)
            return
        for partition, records in polled.items():
            assert records, "no empty lists"
            self.read.setdefault(partition, []).extend(records)

    async def until(self, check: Callable[[], object], what: str) -> None:
        async def checked() -> bool:
            await self.poll()
            return bool(check())

        reached: bool = await eventually(checked, what=what)
        assert reached

    async def quiet(self, polls: int = 3) -> None:
        before = {partition: len(records) for partition, records in self.read.items()}
        for _ in range(polls):
            await self.poll()
        assert {partition: len(records) for partition, records in self.read.items()} == before

    def sequences(self, partition: int) -> list[int]:
        return [record.sequence for record in self.read.get(partition, [])]


@pytest.fixture
async def reader(world: World) -> AsyncIterator[Reader]:
    reader = Reader(world.events())
    yield reader
    await reader.source.close()


async def test_frames_are_read_and_offsets_have_holes(world: World, reader: Reader) -> None:
    topic = world.topics.events
    await world.write(topic, 0, event(1))
    await world.write(topic, 0, event(2), record_state="aborted")
    await world.write(topic, 0, event(2, ("ce_subject", b"tea"), ("traceparent", None)), event(3))
    await world.write(topic, 1, event(1))
    await world.write(topic, 1, event(2), record_state="open")
    await reader.source.start({})
    await reader.until(lambda: len(reader.sequences(0)) == 3 and reader.sequences(1), "events")
    assert reader.read[0][1:] == [
        EventRecord(0, 3, 2, AT, "goods.Stored", b"event 2", b"key"),
        EventRecord(0, 4, 3, AT, "goods.Stored", b"event 3", b"key"),
    ]
    await reader.quiet()
    assert reader.sequences(1) == [1]


async def test_each_partition_begins_where_it_is_told_to(world: World, reader: Reader) -> None:
    for partition in (0, 1):
        await world.write(world.topics.events, partition, event(1), event(2), event(3))
    await reader.source.start({1: 2})
    await reader.until(lambda: len(reader.sequences(0)) == 3 and reader.sequences(1), "events")
    assert reader.sequences(1) == [3]


async def test_after_a_seek_nothing_comes_from_before(world: World, reader: Reader) -> None:
    await world.write(world.topics.events, 0, *(event(number) for number in range(1, 101)))
    await reader.source.start({})
    await reader.until(lambda: reader.sequences(0), "events")
    reader.source.seek(0, 98)
    reader.read.clear()
    await reader.until(lambda: len(reader.sequences(0)) >= 2, "the last two")
    assert reader.sequences(0) == [99, 100]


async def test_a_paused_partition_waits_for_its_resumption(world: World, reader: Reader) -> None:
    await reader.source.start({})
    reader.source.pause(frozenset({0}))
    for partition in (0, 1):
        await world.write(world.topics.events, partition, event(1))
    await reader.until(lambda: reader.sequences(1), "the other partition")
    reader.source.seek(0, 0)
    await reader.quiet()
    assert reader.sequences(0) == []
    reader.source.resume(frozenset({0}))
    await reader.until(lambda: reader.sequences(0) == [1], "the resumed partition")


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(OutboundRecord(b"k", b"v", []), id="no headers"),
        pytest.param(OutboundRecord(b"key", b"event 2", event(2).headers[:-1]), id="no sequence"),
        pytest.param(event(0), id="sequence 0"),
        pytest.param(OutboundRecord(b"key", None, event(2).headers), id="no value"),
        pytest.param(event(2, ("ce_type", None)), id="no type"),
        pytest.param(event(2, ("ce_time", b"2026-11-21T07:30:00")), id="no zone"),
        pytest.param(
            OutboundRecord(
                b"key", b"event 2", [*event(2, ("tm_sequence", b"two")).headers[:-1], ("tm_sequence", b"two")]
            ),
            id="no number",
        ),
    ],
)
async def test_what_is_no_event_is_left_out_and_told(
    world: World, reader: Reader, foreign: OutboundRecord
) -> None:
    await world.write(world.topics.events, 0, event(1), foreign, event(3))
    await reader.source.start({})
    await reader.until(lambda: reader.sequences(0) == [1, 3], "what stands before and behind")
    assert not reader.faults
    (left_out,) = reader.source.foreign()
    assert (left_out.partition, left_out.offset) == (0, 1)
    assert left_out.detail
    assert not reader.source.foreign(), "each is told once"
    reader.source.seek(0, 1)
    await reader.until(lambda: reader.sequences(0) == [1, 3, 3], "the same again")
    assert len(reader.source.foreign()) == 1


async def test_what_cannot_be_unpacked_is_left_out_and_told(world: World, reader: Reader) -> None:
    await world.write(world.topics.events, 0, event(1))
    at = await world.poison(world.topics.events, 0)
    await world.write(world.topics.events, 0, event(2))
    await reader.source.start({})
    await reader.until(lambda: reader.sequences(0) == [1, 2], "what stands before and behind")
    assert not reader.faults
    (left_out,) = reader.source.foreign()
    assert (left_out.partition, left_out.offset) == (0, at)
    assert "cannot be unpacked" in left_out.detail


@pytest.mark.parametrize("offset", [0, 9])
async def test_an_offset_that_the_topic_does_not_have_is_told(
    world: World, reader: Reader, offset: int
) -> None:
    await world.write(world.topics.events, 0, event(1), event(2), event(3))
    await world.trim(world.topics.events, 0, 2)
    await reader.source.start({0: offset})
    await reader.until(lambda: reader.faults, "the fault")
    await reader.quiet()
    assert [(type(fault), fault.offset) for fault in reader.faults] == [(EventsOutOfRange, offset)]
    reader.source.seek(0, 2)
    await reader.until(lambda: reader.sequences(0) == [3], "what is there")


async def test_it_may_be_started_again_after_it_was_closed(world: World, reader: Reader) -> None:
    await world.write(world.topics.events, 0, event(1), event(2))
    await reader.source.start({})
    reader.source.pause(frozenset({0}))
    await reader.source.close()
    await reader.source.start({0: 1})
    await reader.until(lambda: reader.sequences(0) == [2], "events")
