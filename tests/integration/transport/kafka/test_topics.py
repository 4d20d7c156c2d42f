"""Topics on a real broker: made with every setting, left alone if they exist, checked against the plan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.clients.clients import Client
from tests.support.engine.kafka import KafkaWorld
from tests.support.waiting import eventually
from tidemill.admin.records.outgoing import Outgoing, RecordPlace
from tidemill.catalog.topics import TopicOptions, plan_topics
from tidemill.domain.errors import UsageError
from tidemill.domain.lane import StreamTopics
from tidemill.transport.kafka import KafkaConnection, Topics
from tidemill.transport.kafka.admin.producer import KeyedProducer


async def test_what_is_created_is_as_planned_and_a_second_time_changes_nothing(
    connection: KafkaConnection, unique_name: Callable[[str], str]
) -> None:
    topics = Topics(connection)
    plans = plan_topics(StreamTopics.of(unique_name("made")), 3, TopicOptions())
    names = [plan.name for plan in plans]
    assert [finding.found for finding in await topics.check(plans)] == [None] * 4
    assert sorted(await topics.create(plans)) == sorted(names)
    assert await topics.check(plans) == []
    assert await topics.create(plans) == []
    states = await topics.describe([*names, "missing-for-ever"])
    assert states["missing-for-ever"] is None
    assert {state.partitions for state in states.values() if state} == {3}
    await topics.delete(names)


async def test_differences_are_found(world: KafkaWorld) -> None:
    plans = plan_topics(world.topics, 8, TopicOptions(max_command_bytes=1 << 20, max_event_bytes=2 << 20))
    findings = await Topics(world.connection).check(plans)
    assert {(finding.topic, finding.setting) for finding in findings} == {
        *((plan.name, "partitions") for plan in plans),
        *((plan.name, "max.message.bytes") for plan in plans),
    }
    assert all(finding.vital for finding in findings)


async def test_limits_that_are_too_low_are_raised_and_nothing_else_is_touched(
    connection: KafkaConnection, unique_name: Callable[[str], str]
) -> None:
    topics, client = Topics(connection), Client(connection.bootstrap)
    plans = plan_topics(StreamTopics.of(unique_name("raised")), 1, TopicOptions())
    commands, events, *_ = names = [plan.name for plan in plans]
    await topics.create(plans)
    await asyncio.to_thread(client.configure, commands, "max.message.bytes", "262144")
    await asyncio.to_thread(client.configure, commands, "retention.ms", "1234567")
    await asyncio.to_thread(client.configure, events, "max.message.bytes", "3000000")

    async def limits(*wanted: str) -> bool:
        """A setting is seen a moment after it was acknowledged."""
        states = await topics.describe([commands, events])
        return tuple(state and state.configs["max.message.bytes"] for state in states.values()) == wanted

    await eventually(lambda: limits("262144", "3000000"), what="what was set to be seen")
    raised = await topics.raise_limits(plans)
    assert [(each.topic, each.found, each.wanted) for each in raised] == [(commands, "262144", "1048588")]
    await eventually(lambda: limits("1048588", "3000000"), what="what was raised to be seen")
    assert await topics.raise_limits(plans) == []
    states = await topics.describe(names)
    assert (found := states[commands]) is not None
    assert found.configs["max.message.bytes"] == "1048588"
    assert found.configs["retention.ms"] == "1234567", "what an operator has set stays"
    assert (other := states[events]) is not None
    assert other.configs["max.message.bytes"] == "3000000", "a limit is never lowered"
    await topics.delete(names)


async def test_a_limit_that_the_broker_refuses_is_told_in_its_words(world: KafkaWorld) -> None:
    (plan, *_) = plan_topics(world.topics, world.partitions, TopicOptions())
    configs = {**plan.configs, "max.message.bytes": str(1 << 40)}
    with pytest.raises(UsageError, match=r"max\.message\.bytes=1099511627776 of .* the broker refuses it"):
        await Topics(world.connection).raise_limits([replace(plan, configs=configs)])


async def test_a_batch_as_stock_producers_fill_it_is_taken(
    connection: KafkaConnection, unique_name: Callable[[str], str]
) -> None:
    topics, name = Topics(connection), StreamTopics.of(unique_name("stock"))
    plans = plan_topics(name, 1, TopicOptions())
    await topics.create(plans)
    async with KeyedProducer(connection, name.commands, batch_bytes=1 << 20) as producer:
        await producer.open()
        whole = (1 << 20) - 100  # with Kafka's bytes around it one batch of a MiB
        assert await producer.send([Outgoing(b"k", bytes(whole))]) == [RecordPlace(0, 0)]
    await topics.delete([plan.name for plan in plans])


async def test_more_copies_than_brokers_are_refused_with_the_setting_that_mends_it(
    connection: KafkaConnection, unique_name: Callable[[str], str]
) -> None:
    plans = plan_topics(StreamTopics.of(unique_name("copies")), 1, TopicOptions(replication=3))
    with pytest.raises(UsageError, match="TIDEMILL_TOPICS_REPLICATION"):
        await Topics(connection).create(plans)


async def test_what_the_broker_refuses_is_told_in_its_words(connection: KafkaConnection) -> None:
    (plan, *_) = plan_topics(StreamTopics.of("refused"), 1, TopicOptions())
    with pytest.raises(UsageError, match=r"cleanup\.policy"):
        await Topics(connection).create([replace(plan, configs={"cleanup.policy": "hoard"})])
    with pytest.raises(UsageError, match="refuses"):
        await Topics(connection).create([replace(plan, name="no good")])
