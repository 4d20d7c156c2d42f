"""The broker dies or freezes: every call of ours ends in time, says so, and leaves nothing behind that acts later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.transport.kafka.conftest import Broker
from tests.support.engine.kafka import MAX_COMMAND_BYTES, KafkaWorld, lane_of
from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.errors import Unavailable
from tidemill.outbox.ports import PublisherFenced, Tail
from tidemill.transport.kafka import KafkaProbe, KafkaPublishers
from tidemill.transport.kafka.client.client import KafkaConnection, idempotent_producer, manual_consumer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.logs import Limiter, limit_client_logs
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord

pytestmark = [pytest.mark.breaks_servers, pytest.mark.slow]


def numbered(first: int, count: int) -> list[OutboundRecord]:
    return [
        OutboundRecord(
            b"k", b"x" * 200, [("ce_id", b"%d" % n), ("tm_position", b"%d" % n), ("tm_sequence", b"%d" % n)]
        )
        for n in range(first, first + count)
    ]


def numbers(records: list[OutboundRecord]) -> list[int]:
    return [int(dict(record.headers)["tm_sequence"] or b"") for record in records]


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Whatever is done within ends by itself; what hangs never ends."""
    async with asyncio.timeout(HANGING_S):
        yield


@asynccontextmanager
async def no_task_left() -> AsyncIterator[None]:
    """Whatever is started within must have ended with it."""
    before = asyncio.all_tasks()
    yield
    await eventually(lambda: asyncio.all_tasks() <= before, what="the end of all tasks")


async def with_retries(work: Any, *, timeout_s: float = HANGING_S) -> Any:
    """Try again while the broker recovers."""

    async def once() -> list[Any]:
        return [await work()]

    (result,) = await eventually(once, timeout_s, "an answer", retry_on=(Unavailable,))
    return result


async def see_all(
    world: KafkaWorld, topic: str, partition: int = 0, *, at_least: int = 0
) -> list[OutboundRecord]:
    """Return what can be read; a commit is answered before its events are shown, by a busy broker long before."""
    seen: list[OutboundRecord] = []

    async def enough() -> bool:
        seen[:] = await world.visible(topic, partition)
        return len(seen) >= at_least

    await eventually(enough, what=f"{at_least} events to be shown", retry_on=(Unavailable,))
    return seen


async def start_relay(publishers: KafkaPublishers, world: KafkaWorld) -> tuple[Any, int]:
    """Start a publisher of lane 0 as a relay does, after any number of failures; return it and the last sequence."""

    async def begin() -> tuple[Any, Tail | None]:
        publisher = publishers.of(lane_of(world, 0))
        try:
            return publisher, (await publisher.start()).events
        except BaseException:
            await publisher.close()
            raise

    publisher, tail = await with_retries(begin)
    return publisher, tail.sequence if tail else 0


@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_publication_is_given_up_in_time_and_resumed_without_a_loss(
    broker: Broker, breakable_world: KafkaWorld, how: str, transactional: bool
) -> None:
    world = breakable_world
    async with no_task_left():
        publishers = KafkaPublishers(
            broker.connection, transactional=transactional, timeout_s=3, batch_bytes=MAX_COMMAND_BYTES
        )
        publisher, _ = await start_relay(publishers, world)
        await publisher.publish({world.topics.events: numbered(1, 100)})
        await (broker.kill() if how == "kill" else broker.freeze())
        async with in_time():
            with pytest.raises(Unavailable):
                await publisher.publish({world.topics.events: numbered(101, 3_000)})
        async with in_time():
            await publisher.close()
        await (broker.start() if how == "kill" else broker.thaw())
        publisher, last = await start_relay(publishers, world)
        assert last in range(100, 3_101)
        await publisher.publish({world.topics.events: numbered(last + 1, 3_101 - last)})
        await publisher.close()
        await publishers.close()
    seen = numbers(await see_all(world, world.topics.events, at_least=3_101))
    if transactional:
        assert seen == list(range(1, 3_102))
    else:  # a frozen broker may still find the first attempt in its socket: readers drop those by sequence
        assert sorted(set(seen)) == list(range(1, 3_102))


async def test_a_relay_that_loses_its_broker_again_and_again_publishes_each_event_once(
    broker: Broker, breakable_world: KafkaWorld
) -> None:
    """Killed and frozen at whatever moment: between begin and commit, in the commit, while it starts."""
    world = breakable_world
    publishers = KafkaPublishers(broker.connection, timeout_s=3, batch_bytes=MAX_COMMAND_BYTES)
    progress, over = asyncio.Event(), asyncio.Event()

    async def relay() -> tuple[int, int]:
        """Return how often it began again, and the last event."""
        restarts = 0
        while True:
            publisher, last = await start_relay(publishers, world)
            try:
                while not over.is_set():
                    await publisher.publish({world.topics.events: numbered(last + 1, 30)})
                    last += 30
                    progress.set()
            except (Unavailable, PublisherFenced):
                restarts += 1
            else:
                return restarts, last
            finally:
                await publisher.close()

    async def trouble() -> None:
        for how in ("freeze", "kill", "freeze"):
            progress.clear()
            await asyncio.wait_for(progress.wait(), HANGING_S)
            if how == "kill":
                await broker.kill()
                await broker.start()
            else:
                await broker.freeze()
                with pytest.raises(Unavailable):  # takes as long as a publication may
                    await broker.answers()
                await broker.thaw()

    relaying = asyncio.create_task(relay())
    await trouble()
    over.set()
    restarts, last = await asyncio.wait_for(relaying, HANGING_S)
    await publishers.close()
    assert restarts >= 1, "nothing was disturbed"
    assert numbers(await see_all(world, world.topics.events, at_least=last)) == list(range(1, last + 1))


async def test_what_is_acknowledged_can_be_seen_although_the_broker_died_before_it_said_so_to_the_partitions(
    broker: Broker, breakable_world: KafkaWorld
) -> None:
    """A commit is answered before the partitions know of it; a broker that dies then may forget to tell them."""
    world = breakable_world
    publishers = KafkaPublishers(broker.connection, timeout_s=3, batch_bytes=MAX_COMMAND_BYTES)
    publisher, _ = await start_relay(publishers, world)
    for round_ in (1, 2):
        await publisher.publish({world.topics.events: numbered(round_, 1)})
        await broker.kill()
        await broker.start()

        async def all_seen(at: int = round_) -> bool:
            return numbers(await world.visible(world.topics.events, 0)) == list(range(1, at + 1))

        assert await eventually(all_seen, what="what was acknowledged", retry_on=(Unavailable,))
        await publisher.close()
        publisher, last = await start_relay(publishers, world)
        assert last == round_
    await publisher.close()
    await publishers.close()


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_what_a_closed_producer_still_held_is_never_delivered(
    broker: Broker, breakable_world: KafkaWorld, how: str
) -> None:
    world = breakable_world
    topic = world.topics.outcomes
    async with no_task_left():
        producer = idempotent_producer(broker.connection, batch_bytes=10_000)
        await producer.start()
        await producer.send_and_wait(topic, b"before", key=b"k", partition=0)
        await (broker.kill() if how == "kill" else broker.freeze())
        for partition in range(4):
            answer = await producer.send(topic, b"zombie", key=b"k", partition=partition)
            answer.add_done_callback(lambda future: future.cancelled() or future.exception())
        async with in_time():
            assert not await hard_close(producer, 1.0)
    await (broker.start() if how == "kill" else broker.thaw())
    for partition in range(4):
        await with_retries(lambda at=partition: world.write(topic, at, OutboundRecord(b"k", b"after", [])))
    # partition 0's first batch may have been in the socket of a frozen broker already: it was sent, not held
    expected = [[b"before", b"after"], [b"after"], [b"after"], [b"after"]]
    seen = [[one.value for one in await see_all(world, topic, partition)] for partition in range(4)]
    if how == "kill":
        assert seen == expected
    else:
        assert [values[-1] for values in seen] == [b"after"] * 4


async def test_a_consumer_ends_in_time_although_its_stop_does_not(
    broker: Broker, breakable_world: KafkaWorld
) -> None:
    async with no_task_left():
        consumer = manual_consumer(broker.connection)
        await consumer.start()
        source = breakable_world.commands()
        owner = _Silent()
        await source.start(owner)
        await eventually(lambda: _polled(source, owner), what="partitions")
        await broker.freeze()
        async with in_time():
            await hard_close(consumer, 1.0)
        async with in_time():
            await source.close()


async def test_a_source_is_quiet_while_the_broker_is_away_and_goes_on_by_itself(
    broker: Broker, breakable_world: KafkaWorld
) -> None:
    world = breakable_world
    source, owner = world.commands(), _Silent()
    await source.start(owner)
    await eventually(lambda: _polled(source, owner), what="partitions")
    source.resume_at({0: 0})
    await broker.kill()
    for _ in range(5):
        async with in_time():
            assert await source.poll() == {}
    async with in_time():
        await source.note({0: 0})  # a hint: it neither raises nor waits indefinitely
    for question in (source.bounds(frozenset({0})), source.records_at({0: 0}, repr)):
        async with in_time():
            with pytest.raises(Unavailable):
                await question
    await broker.start()
    await with_retries(lambda: world.write(world.topics.commands, 0, OutboundRecord(b"k", b"back", [])))
    seen: list[bytes | None] = []

    async def arrived() -> bool:
        for records in (await source.poll()).values():
            seen.extend(record.value for record in records)
        if not seen and owner.ours:
            source.resume_at({0: 0})  # as the way in does after a rebalance, which a restart may cause
        return bool(seen)

    assert await eventually(arrived, what="the record")
    assert seen == [b"back"]
    await source.close()


async def test_starting_without_a_broker_fails_in_time(broker: Broker, breakable_world: KafkaWorld) -> None:
    world = breakable_world
    await broker.kill()
    async with no_task_left():
        publishers = KafkaPublishers(broker.connection, timeout_s=3, batch_bytes=MAX_COMMAND_BYTES)
        publisher, source, events = publishers.of(lane_of(world, 0)), world.commands(), world.events()
        starts: list[Awaitable[Any]] = [publisher.start(), source.start(_Silent()), events.start({})]
        for start in starts:
            async with in_time():
                with pytest.raises(Unavailable):
                    await start
        for part in (publisher, source, events, publishers):
            async with in_time():
                await part.close()


async def test_an_absence_does_not_flood_the_log(
    broker: Broker, breakable_world: KafkaWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world = breakable_world
    caplog.set_level(logging.INFO)
    limit_client_logs(Limiter(first=3))
    try:
        publishers = KafkaPublishers(broker.connection, timeout_s=3, batch_bytes=MAX_COMMAND_BYTES)
        publisher, _ = await start_relay(publishers, world)
        events = world.events()
        await events.start({})
        caplog.clear()  # not later: the first lines come while the broker is being killed, and there are only three
        await broker.kill()
        with pytest.raises(Unavailable):  # three seconds of vain attempts, ten a second and client
            await publisher.publish({world.topics.events: numbered(1, 10)})
        lines = [record for record in caplog.records if record.name.startswith("aiokafka")]
        kinds = {(line.name, line.levelno, line.msg) for line in lines}
        assert lines, "nothing was told"
        assert len(lines) <= 3 * len(kinds)
        assert len(lines) < 40
        for part in (publisher, events, publishers):
            await part.close()
    finally:
        limit_client_logs(Limiter(first=10**9))


async def test_the_probe_tells_what_no_consumer_does(broker: Broker, breakable_world: KafkaWorld) -> None:
    probe = KafkaProbe(broker.connection, {breakable_world.topics.events: 4}, timeout_s=1.0)
    await with_retries(probe.ask)
    await broker.freeze()
    for _ in range(2):
        async with in_time():
            with pytest.raises(Unavailable):
                await probe.ask()
    await broker.thaw()
    await with_retries(probe.ask)
    await probe.close()


async def test_an_address_that_nobody_listens_at_is_unavailable() -> None:
    nowhere = KafkaConnection(bootstrap="127.0.0.1:1", call_timeout_s=3.0, close_timeout_s=1.0)
    async with no_task_left(), in_time():
        with pytest.raises(Unavailable):
            await KafkaProbe(nowhere, {"topic": 1}).ask()


class _Silent:
    """An owner that only remembers what it has."""

    def __init__(self) -> None:
        self.ours: set[int] = set()

    def assigned(self, partitions: frozenset[int]) -> None:
        self.ours = set(partitions)

    async def revoked(self, partitions: frozenset[int]) -> None:
        self.ours -= partitions


async def _polled(source: Any, owner: _Silent) -> bool:
    await source.poll()
    return bool(owner.ours)
