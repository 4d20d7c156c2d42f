"""Topics on a real broker: made with every setting, left alone if they exist, checked against the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.kafka import KafkaWorld
from tidemill.domain.errors import UsageError
from tidemill.domain.lane import StreamTopics
from tidemill.transport.kafka import KafkaConnection, Topics, TopicSettings, plan_topics


async def test_what_is_created_is_as_planned_and_a_second_time_changes_nothing(
    connection: KafkaConnection, unique_name: Callable[[str], str]
) -> None:
    topics = Topics(connection)
    plans = plan_topics(StreamTopics.of(unique_name("made")), 3, TopicSettings())
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
    plans = plan_topics(world.topics, 8, TopicSettings())
    findings = await Topics(world.connection).check(plans)
    assert {(finding.topic, finding.setting) for finding in findings} == {
        *((plan.name, "partitions") for plan in plans),
        *((plan.name, "max.message.bytes") for plan in plans),
    }
    assert all(finding.vital for finding in findings)


async def test_more_copies_than_brokers_are_refused_with_the_setting_that_mends_it(
    connection: KafkaConnection, unique_name: Callable[[str], str]
) -> None:
    plans = plan_topics(StreamTopics.of(unique_name("copies")), 1, TopicSettings(replication=3))
    with pytest.raises(UsageError, match="TIDEMILL_TOPICS_REPLICATION"):
        await Topics(connection).create(plans)


async def test_what_the_broker_refuses_is_told_in_its_words(connection: KafkaConnection) -> None:
    (plan, *_) = plan_topics(StreamTopics.of("refused"), 1, TopicSettings())
    with pytest.raises(UsageError, match=r"cleanup\.policy"):
        await Topics(connection).create([replace(plan, configs={"cleanup.policy": "hoard"})])
    with pytest.raises(UsageError, match="refuses"):
        await Topics(connection).create([replace(plan, name="no good")])
