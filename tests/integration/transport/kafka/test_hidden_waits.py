"""What holds lanes up without a trace in the database: an open transaction, another program in the consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.engine.kafka import KafkaWorld
from tests.support.waiting import eventually
from tidemill.runtime.clock import SystemClock
from tidemill.transport.kafka.admin.inspection import Inspector
from tidemill.transport.kafka.client.client import group_consumer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.start import start
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord


@pytest.fixture
async def inspector(world: KafkaWorld) -> AsyncIterator[Inspector]:
    made = Inspector(lambda: world.connection)
    yield made
    await made.close()


async def test_the_true_end_and_the_age_of_what_an_open_transaction_hides(
    world: KafkaWorld, inspector: Inspector
) -> None:
    topic = world.topics.commands
    await world.write(topic, 1, OutboundRecord(b"k", b"open", []), record_state="open")
    await world.write(topic, 1, OutboundRecord(b"k", b"behind", []))
    bounds = await inspector.bounds({topic: 4})
    ends = await inspector.ends({topic: 4})
    assert ([end for _, end in bounds[topic]], ends[topic]) == ([0, 0, 0, 0], [0, 2, 0, 0])
    written = await inspector.written_at({(topic, 1): 0, (topic, 2): 0})
    assert list(written) == [(topic, 1)]
    assert abs(written[topic, 1] - SystemClock().now()) < timedelta(days=1)
    later = await inspector.written_at({(topic, 1): 1})
    assert later[topic, 1] >= written[topic, 1]


async def test_the_members_of_a_group_are_named_with_what_they_hold(
    world: KafkaWorld, inspector: Inspector
) -> None:
    topic = world.topics.commands
    assert await inspector.members([topic]) == []
    connection = replace(world.connection, client_id="a-stranger")
    consumer = group_consumer(connection, group=topic)
    await start(consumer)
    consumer.subscribe([topic])
    reading = asyncio.create_task(consumer.getmany(timeout_ms=1_000_000_000))
    try:
        held = await eventually(lambda: _held(inspector, topic), what="the member to hold partitions")
        assert held == [("a-stranger", topic, [0, 1, 2, 3])]
    finally:
        reading.cancel()
        await hard_close(consumer, 5)


async def _held(inspector: Inspector, topic: str) -> list[tuple[str, str, list[int]]]:
    members = await inspector.members([topic, f"{topic}.nobody", f"{topic}.somebody"])
    return [(one.client_id, one.group, list(one.partitions)) for one in members if one.partitions]
