"""How the topics of a stream must be, and which differences matter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidemill.catalog.topics import TopicOptions, TopicPlan, TopicState, compare_topics, plan_topics
from tidemill.domain.errors import UsageError
from tidemill.domain.lane import StreamTopics, TopicRole

TOPICS = StreamTopics.of("goods")
PLANS = {plan.role: plan for plan in plan_topics(TOPICS, 8, TopicOptions(replication=3))}
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


def limit_of(role: TopicRole, settings: TopicOptions) -> int:
    plans = {plan.role: plan for plan in plan_topics(TOPICS, 8, settings)}
    return int(plans[role].configs["max.message.bytes"])


def test_a_command_topic_takes_the_batches_of_any_stock_producer_and_of_the_largest_command() -> None:
    assert limit_of(TopicRole.COMMANDS, TopicOptions()) == 1_048_588
    large = TopicOptions(max_command_bytes=6 << 20, max_event_bytes=8 << 20)
    assert limit_of(TopicRole.COMMANDS, large) > (6 << 20) + 100_000
    assert limit_of(TopicRole.EVENTS, large) == limit_of(TopicRole.DEAD_LETTERS, large) == 8 << 20


def test_a_command_is_smaller_than_what_may_become_of_it() -> None:
    with pytest.raises(UsageError):
        TopicOptions(max_command_bytes=1_000, max_event_bytes=1_000)


@pytest.mark.parametrize(("replication", "wanted"), [(1, "1"), (2, "2"), (3, "2"), (5, "2")])
def test_a_record_is_acknowledged_when_two_copies_exist_where_there_are_two(
    replication: int, wanted: str
) -> None:
    for plan in plan_topics(TOPICS, 1, TopicOptions(replication=replication)):
        assert plan.configs["min.insync.replicas"] == wanted
        assert plan.configs["unclean.leader.election.enable"] == "false"


def test_no_clock_of_a_client_decides_what_is_kept() -> None:
    assert {plan.configs["message.timestamp.type"] for plan in PLANS.values()} == {"LogAppendTime"}


def test_what_is_as_planned_has_no_findings() -> None:
    assert (
        compare_topics(list(PLANS.values()), {plan.name: as_planned(plan) for plan in PLANS.values()}) == []
    )


@pytest.mark.parametrize(
    ("role", "setting", "value", "vital"),
    [
        (TopicRole.EVENTS, "retention.ms", "604800000", True),
        (TopicRole.EVENTS, "retention.bytes", "1000000", True),
        (TopicRole.EVENTS, "cleanup.policy", "compact", True),
        (TopicRole.EVENTS, "max.message.bytes", "1000", True),
        (TopicRole.COMMANDS, "max.message.bytes", "262144", True),
        (TopicRole.COMMANDS, "retention.ms", "1000", False),
        (TopicRole.OUTCOMES, "min.insync.replicas", "1", False),
        (TopicRole.DEAD_LETTERS, "message.timestamp.type", "CreateTime", False),
    ],
)
def test_a_setting_that_differs_is_found(role: TopicRole, setting: str, value: str, vital: bool) -> None:
    plan = PLANS[role]
    state = as_planned(plan)
    (finding,) = compare_topics(
        [plan], {plan.name: replace(state, configs={**state.configs, setting: value})}
    )
    assert (finding.setting, finding.found, finding.wanted) == (setting, value, plan.configs[setting])
    assert finding.vital is vital
    assert setting in str(finding)
    assert value in str(finding)


def test_a_limit_that_is_too_low_says_what_raises_it_and_a_larger_one_is_as_good() -> None:
    plan = PLANS[TopicRole.COMMANDS]

    def found(limit: str) -> list[str]:
        state = as_planned(plan)
        state = replace(state, configs={**state.configs, "max.message.bytes": limit})
        return [str(finding) for finding in compare_topics([plan], {plan.name: state})]

    (told,) = found("262144")
    assert told == (
        f"{plan.name}: max.message.bytes is 262144, at least 1048588 is needed: run `tidemill topics create`, "
        "which raises it"
    )
    assert found("2000000") == []


def test_a_missing_topic_and_another_partition_count_say_what_to_do() -> None:
    plan = PLANS[TopicRole.COMMANDS]
    (missing,) = compare_topics([plan], {plan.name: None})
    (other,) = compare_topics([plan], {plan.name: replace(as_planned(plan), partitions=4)})
    assert "tidemill topics create" in str(missing)
    assert "4 partitions instead of 8" in str(other)
    assert missing.vital
    assert other.vital
