"""What every `Requests` and `Confirmations` promises, asked of the fake and of the real ones alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Protocol

import pytest

from tests.fakes.archiver import MemoryConfirmations, MemoryRequests
from tests.support.archive.archival import MESSAGES, STREAM, confirmation, request
from tests.support.engine.kafka import KafkaWorld
from tests.support.waiting import eventually
from tidemill.archiver.ports import Confirmations, Incoming, Requests
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent
from tidemill.domain.errors import Unreadable, UsageError
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.archival import ArchivalCodec
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.kafka import KafkaConnection
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.kafka.retention.archival import KafkaConfirmations, KafkaRequests


class Place(Protocol):
    """The archive's topics, and who works with them."""

    async def announce(self, *events: ArchivalEvent | bytes) -> None: ...
    async def confirmed(self) -> Sequence[ArchivalConfirmation]: ...
    def requests(self) -> Requests: ...
    def replies(self) -> Confirmations: ...


class MemoryPlace:
    def __init__(self) -> None:
        self._requests = MemoryRequests()
        self._replies = MemoryConfirmations()

    async def announce(self, *events: ArchivalEvent | bytes) -> None:
        for event in events:
            self._requests.add(Unreadable("MALFORMED", "noise") if isinstance(event, bytes) else event)

    async def confirmed(self) -> Sequence[ArchivalConfirmation]:
        return self._replies.sent

    def requests(self) -> MemoryRequests:
        return self._requests

    def replies(self) -> MemoryConfirmations:
        return self._replies


class KafkaPlace:
    """One archive on a real broker."""

    def __init__(self, world: KafkaWorld, stream: StreamCodec, archiver: ArchivalCodec) -> None:
        self.world = world
        self._stream = stream
        self._archiver = archiver

    async def announce(self, *events: ArchivalEvent | bytes) -> None:
        values = [event if isinstance(event, bytes) else self._stream.encode_event(event) for event in events]
        await self.world.write(
            self.world.topics.events, 0, *(OutboundRecord(b"key", value, ()) for value in values)
        )

    async def confirmed(self) -> Sequence[ArchivalConfirmation]:
        records = await self.world.visible(self.world.topics.commands, 0)
        decoded = self._stream.decode([record.value for record in records])
        assert not [each for each in decoded if isinstance(each, Unreadable)]
        return [
            ArchivalConfirmation.model_validate(each.fields)
            for each in decoded
            if not isinstance(each, Unreadable)
        ]

    def requests(self) -> KafkaRequests:
        topic = self.world.topics.events
        return KafkaRequests(self.world.connection, self._archiver, topic=topic, group=f"archivers-{topic}")

    def replies(self) -> KafkaConfirmations:
        return KafkaConfirmations(self.world.connection, self._archiver, topic=self.world.topics.commands)


async def kafka_place(request: pytest.FixtureRequest) -> KafkaPlace:
    unique_name: Callable[[str], str] = request.getfixturevalue("unique_name")
    connection = KafkaConnection(bootstrap=request.getfixturevalue("stack").kafka_bootstrap)
    world = KafkaWorld(connection, unique_name("archival"), 1)
    await world.open()
    clock = SystemClock()
    stream = await StreamCodec.open(replace(STREAM, topics=world.topics), MESSAGES, clock=clock)
    return KafkaPlace(world, stream, await ArchivalCodec.open(world.topics, MESSAGES, clock=clock))


@pytest.fixture(params=["memory", "kafka"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "memory":
        yield MemoryPlace()
        return
    real = await kafka_place(request)
    yield real
    await real.world.close()


@pytest.fixture
async def kafka(request: pytest.FixtureRequest) -> AsyncIterator[KafkaPlace]:
    real = await kafka_place(request)
    yield real
    await real.world.close()


@pytest.fixture
async def exit_stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def opened(place: Place, exit_stack: AsyncExitStack) -> Requests:
    requests = place.requests()
    exit_stack.push_async_callback(requests.close)
    await requests.start()
    return requests


async def taken(requests: Requests, count: int) -> list[Incoming]:
    found: list[Incoming] = []

    async def enough() -> bool:
        incoming = await requests.next()
        if incoming is not None:
            found.append(incoming)
        return len(found) >= count

    await eventually(enough, what=f"{count} records")
    return found


def numbered(*numbers: int) -> list[ArchivalEvent]:
    return [request(event_id=f"event-{number}") for number in numbers]


async def test_records_come_in_order_and_noise_in_its_place(place: Place, exit_stack: AsyncExitStack) -> None:
    first, second = numbered(1, 2)
    await place.announce(first, b"noise", second)
    got = await taken(await opened(place, exit_stack), 3)
    assert [each.event for each in got if not isinstance(each.event, Unreadable)] == [first, second]
    assert isinstance(got[1].event, Unreadable)
    assert [each.partition for each in got] == [0, 0, 0]


async def test_nothing_comes_of_nothing(place: Place, exit_stack: AsyncExitStack) -> None:
    assert await (await opened(place, exit_stack)).next() is None


async def test_what_was_not_done_comes_again(place: Place, exit_stack: AsyncExitStack) -> None:
    await place.announce(*numbered(1, 2, 3))
    requests = await opened(place, exit_stack)
    got = await taken(requests, 3)
    assert all(requests.ours(each) for each in got)
    await requests.done(got[0])
    await requests.close()
    again = await taken(await opened(place, exit_stack), 2)
    assert [each.event for each in again] == numbered(2, 3)


async def test_what_was_done_never_comes_again(place: Place, exit_stack: AsyncExitStack) -> None:
    await place.announce(*numbered(1, 2))
    requests = await opened(place, exit_stack)
    for each in await taken(requests, 2):
        await requests.done(each)
    await requests.close()
    requests = await opened(place, exit_stack)
    await place.announce(*numbered(3))
    assert [each.event for each in await taken(requests, 1)] == numbered(3)


async def test_a_reply_is_in_the_topic_when_it_was_sent(place: Place, exit_stack: AsyncExitStack) -> None:
    replies = place.replies()
    exit_stack.push_async_callback(replies.close)
    await replies.start()
    said = [confirmation(), confirmation(chunks=(), error_message="none")]
    for each in said:
        await replies.send(each)
        assert list(await place.confirmed())[-1] == each
    assert list(await place.confirmed()) == said


# --- of Kafka alone ------------------------------------------------------------------------------------------------


async def test_a_second_archiver_takes_over_what_the_first_one_lets_go_of(
    kafka: KafkaPlace, exit_stack: AsyncExitStack
) -> None:
    await kafka.announce(*numbered(1))
    first, second = kafka.requests(), kafka.requests()
    await first.start()
    [held] = await taken(first, 1)
    assert first.ours(held)
    exit_stack.push_async_callback(second.close)
    await second.start()
    await first.close()
    assert not first.ours(held)
    assert [each.event for each in await taken(second, 1)] == numbered(1)


async def test_a_batch_that_nobody_can_unpack_is_left_out(
    kafka: KafkaPlace, exit_stack: AsyncExitStack
) -> None:
    topic = kafka.world.topics.events
    await kafka.announce(*numbered(1))
    await kafka.world.poison(topic, 0)
    await kafka.announce(*numbered(2))
    requests = await opened(kafka, exit_stack)
    got = await taken(requests, 3)
    assert [type(each.event) for each in got] == [ArchivalEvent, Unreadable, ArchivalEvent]
    await requests.done(got[2])


async def test_what_was_deleted_is_not_waited_for(kafka: KafkaPlace, exit_stack: AsyncExitStack) -> None:
    await kafka.announce(*numbered(1, 2, 3))
    requests = await opened(kafka, exit_stack)
    await requests.done((await taken(requests, 1))[0])
    await requests.close()
    await kafka.world.trim(kafka.world.topics.events, 0, 2)
    assert [each.event for each in await taken(await opened(kafka, exit_stack), 1)] == numbered(3)


async def test_a_reply_larger_than_its_topic_takes_is_refused_and_the_next_one_sent(
    kafka: KafkaPlace, exit_stack: AsyncExitStack
) -> None:
    replies = kafka.replies()
    exit_stack.push_async_callback(replies.close)
    await replies.start()
    with pytest.raises(UsageError, match="larger than"):
        await replies.send(confirmation(error_message="x" * 300_000))
    await replies.send(confirmation())
    assert list(await kafka.confirmed()) == [confirmation()]
