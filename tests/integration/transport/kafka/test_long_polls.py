"""A consumer that has been quiet asks seldom, and still gets at once what comes or begins to flow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition

from tests.support.engine.kafka import KafkaWorld
from tests.support.waiting import HANGING_S, eventually
from tidemill.transport.kafka.client import long_polls
from tidemill.transport.kafka.client.client import manual_consumer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.fetch_buffer import Fetching
from tidemill.transport.kafka.client.lookup import assign
from tidemill.transport.kafka.client.start import start
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord

HELD_S = 10 * HANGING_S


@pytest.fixture
async def fetching(world: KafkaWorld, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fetching]:
    """Of partition 0; partition 1 is paused. It is quiet at once, and then a request outlasts the test."""
    monkeypatch.setattr(long_polls, "QUIET_S", 0.0)
    monkeypatch.setattr(long_polls, "LONG_S", HELD_S)
    consumer = manual_consumer(replace(world.connection, request_timeout_ms=int(2 * HELD_S * 1000)))
    await start(consumer)
    first, second = TopicPartition(world.topics.commands, 0), TopicPartition(world.topics.commands, 1)
    made = assign(consumer, {first: 0, second: 0})
    made.pause([second])
    while not made._polls._is_long or not held(made):
        await made.fetch({first})
    yield made
    await hard_close(consumer, 5)


def held(fetching: Fetching) -> list[Any]:
    """The requests that wait at the broker for as long as this test may take."""
    connections = fetching._consumer._client._conns.items()
    waiting = [
        request for (_, group), one in connections if group == "fetches" for _, request, _ in one._requests
    ]
    return [request for request in waiting if request.max_wait_time > HANGING_S * 1000]


async def values(fetching: Fetching, partition: TopicPartition) -> list[bytes]:
    async def arrived() -> list[bytes]:
        fetched = await fetching.fetch({partition})
        return [record.value for record in fetched.records.get(partition, [])]

    return await eventually(arrived, what=f"records of {partition}")


def record(value: bytes) -> OutboundRecord:
    return OutboundRecord(b"k", value, [])


async def test_a_record_is_not_held_up_by_a_long_request(world: KafkaWorld, fetching: Fetching) -> None:
    first = TopicPartition(world.topics.commands, 0)
    await world.write(first.topic, 0, record(b"one"))
    assert await values(fetching, first) == [b"one"]
    assert not held(fetching)
    await world.write(first.topic, 0, record(b"two"))
    assert await values(fetching, first) == [b"two"]


async def test_a_partition_that_begins_to_flow_does_not_wait_for_a_long_request(
    world: KafkaWorld, fetching: Fetching
) -> None:
    second = TopicPartition(world.topics.commands, 1)
    await world.write(second.topic, 1, record(b"one"), record(b"two"))
    fetching.seek(second, 1)
    fetching.resume([second])
    assert not held(fetching)
    assert await values(fetching, second) == [b"two"]


async def test_a_reader_that_waits_is_woken(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_polls, "LOOK_S", HELD_S)
    waiting = asyncio.create_task(fetching.fetch({TopicPartition("none", 0)}))
    await eventually(lambda: fetching._consumer._fetcher._fetch_waiters, what="the reader to wait")
    fetching.wake()
    async with asyncio.timeout(HANGING_S):
        assert (await waiting).records == {}


async def test_other_questions_of_a_consumer_do_not_wait_for_a_long_request(
    world: KafkaWorld, fetching: Fetching
) -> None:
    first = TopicPartition(world.topics.commands, 0)
    async with asyncio.timeout(HANGING_S):
        assert await fetching._consumer.end_offsets([first]) == {first: 0}
    assert held(fetching)


async def test_a_request_that_is_given_up_is_no_error(
    world: KafkaWorld, fetching: Fetching, caplog: pytest.LogCaptureFixture
) -> None:
    second = TopicPartition(world.topics.commands, 1)
    fetching.resume([second])
    await world.write(second.topic, 1, record(b"one"))
    assert await values(fetching, second) == [b"one"]
    assert [entry.getMessage() for entry in caplog.records if entry.levelname in {"WARNING", "ERROR"}] == []
