"""How the topics of a stream must be, and which differences matter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidemill.domain.errors import UsageError
from tidemill.domain.lane import StreamTopics, TopicRole
from tidemill.transport.kafka.topics import (
    TopicPlan,
    TopicSettings,
    TopicState,
    compare,
    plan_topics,
)

TOPICS = StreamTopics.of("goods")
PLANS = {plan.role: plan for plan in plan_topics(TOPICS, 8, TopicSettings(replication=3))}
DAY_MS = 24 * 60 * 60 * 1000


def as_planned(plan: TopicPlan) -> TopicState:
    return TopicState(plan.name, plan.partitions, plan.replication, {**plan.configs, "segment.bytes": "1"})


def test_events_are_kept_for_ever_and_the_rest_is_not() -> None:
    kept = {role: plan.configs["retention.ms"] for role, plan in PLANS.items()}
    assert kept == {
        TopicRole.COMMANDS: str(7 * DAY_MS),
        TopicRole.EVENTS: "-1",
        TopicRole.OUTCOMES: str(7 * DAY_MS),
        TopicRole.DEAD_LETTERS: str(30 * DAY_MS),
    }
    assert {plan.configs["retention.bytes"] for plan in PLANS.values()} == {"-1"}


def test_a_command_fits_into_every_topic_that_may_carry_it() -> None:
    limits = {role: int(plan.configs["max.message.bytes"]) for role, plan in PLANS.items()}
    assert limits[TopicRole.COMMANDS] < min(limits[TopicRole.EVENTS], limits[TopicRole.DEAD_LETTERS])
    with pytest.raises(UsageError):
        TopicSettings(max_command_bytes=1_000, max_event_bytes=1_000)


@pytest.mark.parametrize(("replication", "wanted"), [(1, "1"), (2, "2"), (3, "2"), (5, "2")])
def test_a_record_is_acknowledged_when_two_copies_exist_where_there_are_two(
    replication: int, wanted: str
) -> None:
    for plan in plan_topics(TOPICS, 1, TopicSettings(replication=replication)):
        assert plan.configs["min.insync.replicas"] == wanted
        assert plan.configs["unclean.leader.election.enable"] == "false"


def test_no_clock_of_a_client_decides_what_is_kept() -> None:
    assert {plan.configs["message.timestamp.type"] for plan in PLANS.values()} == {"LogAppendTime"}


def test_what_is_as_planned_has_no_findings() -> None:
    assert compare(list(PLANS.values()), {plan.name: as_planned(plan) for plan in PLANS.values()}) == []


@pytest.mark.parametrize(
    ("role", "setting", "value", "vital"),
    [
        (TopicRole.EVENTS, "retention.ms", "604800000", True),
        (TopicRole.EVENTS, "retention.bytes", "1000000", True),
        (TopicRole.EVENTS, "cleanup.policy", "compact", True),
        (TopicRole.EVENTS, "max.message.bytes", "1000", True),
        (TopicRole.COMMANDS, "max.message.bytes", "2000000", True),
        (TopicRole.COMMANDS, "retention.ms", "1000", False),
        (TopicRole.OUTCOMES, "min.insync.replicas", "1", False),
        (TopicRole.DEAD_LETTERS, "message.timestamp.type", "CreateTime", False),
    ],
)
def test_a_setting_that_differs_is_found(role: TopicRole, setting: str, value: str, vital: bool) -> None:
    plan = PLANS[role]
    state = as_planned(plan)
    (finding,) = compare([plan], {plan.name: replace(state, configs={**state.configs, setting: value})})
    assert (finding.setting, finding.found, finding.wanted) == (setting, value, plan.configs[setting])
    assert finding.vital is vital
    assert setting in str(finding)
    assert value in str(finding)


def test_a_missing_topic_and_another_partition_count_say_what_to_do() -> None:
    plan = PLANS[TopicRole.COMMANDS]
    (missing,) = compare([plan], {plan.name: None})
    (other,) = compare([plan], {plan.name: replace(as_planned(plan), partitions=4)})
    assert "tidemill topics create" in str(missing)
    assert "4 partitions instead of 8" in str(other)
    assert missing.vital
    assert other.vital
