"""The topics of a stream: their settings, and the differences from them.

Everything that matters is set explicitly, because a broker's defaults are not under Tidemill's control. Time is the
broker's (`LogAppendTime`): with the client's, a wrong clock could delete a command before it was read, or have it
refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from tidemill.domain.errors import UsageError
from tidemill.domain.lane import StreamTopics, TopicRole

STOCK_BATCH_BYTES: Final = 1_048_588
"""What a broker takes as one batch by default, and so the limit of every producer, compressed or not: librdkafka fills
batches up to 1,000,000 bytes, Java's client up to 1 MiB."""

_RECORD_ROOM_BYTES: Final = 128 << 10
"""What a command's key and headers, and Kafka's framing, may add to its value."""

REPLY_PARTITIONS: Final = 16
"""Of the topic for replies: processes beyond that read each other's replies, too."""

_REPLIES_KEPT: Final = timedelta(hours=1)

SIZE_LIMIT: Final = "max.message.bytes"
_FOR_EVER: Final = "-1"
_VITAL: Final = frozenset({"partitions", SIZE_LIMIT, "cleanup.policy", "retention.bytes", "retention.ms"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicOptions:
    """An installation's settings of its topics. Raises `UsageError` unless a command is smaller than an event.

    `max_command_bytes`: the largest value of a command, which the intake enforces: Kafka limits batches, and those of
    commands are made by producers. `max_event_bytes`: the largest batch of the relay. Events are kept without
    end.
    """

    replication: int = 1
    command_retention: timedelta = timedelta(days=7)
    outcome_retention: timedelta = timedelta(days=7)
    dead_letter_retention: timedelta = timedelta(days=30)
    max_command_bytes: int = 256 << 10
    max_event_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        """An event may carry the whole of its command."""
        if self.max_command_bytes >= self.max_event_bytes:
            raise UsageError(
                f"commands of up to {self.max_command_bytes} bytes need events that may be larger than that, not "
                f"{self.max_event_bytes} bytes: raise the limit of events"
            )

    @property
    def command_batch_bytes(self) -> int:
        """Return the largest batch of commands that their topic takes: any stock producer's, and the largest record."""
        return max(STOCK_BATCH_BYTES, self.max_command_bytes + _RECORD_ROOM_BYTES)


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """The expected settings of a topic. `configs`: Kafka's names and values; `max.message.bytes` may be larger."""

    name: str
    role: TopicRole
    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicState:
    """The present settings of a topic."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicFinding:
    """A difference. `vital`: records can be lost or lanes cannot work; anything else is a warning.

    `found` is None if the topic does not exist.
    """

    topic: str
    setting: str
    wanted: str
    found: str | None
    vital: bool

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.topic} does not exist: run `tidemill topics create`"
        if self.setting == "partitions":
            return (
                f"{self.topic} has {self.found} partitions instead of {self.wanted}: the count of a topic must "
                "not change; set the number it was created with"
            )
        if self.setting == SIZE_LIMIT:
            return (
                f"{self.topic}: {self.setting} is {self.found}, at least {self.wanted} is needed: run "
                "`tidemill topics create`, which raises it"
            )
        return f"{self.topic}: {self.setting} is {self.found} instead of {self.wanted}: alter the topic"


def plan_topics(topics: StreamTopics, partitions: int, settings: TopicOptions) -> list[TopicPlan]:
    """Return the plans of a stream's four topics."""
    return [
        TopicPlan(name, role, partitions, settings.replication, _configs(role, settings))
        for role, name in topics.named().items()
    ]


def plan_replies(name: str, settings: TopicOptions) -> TopicPlan:
    """Return the plan of the topic in which HTTP processes receive outcomes; each reads one partition of it.

    What it holds is needed for seconds, and is nowhere relied upon.
    """
    configs = _configs(TopicRole.OUTCOMES, settings) | {"retention.ms": _ms(_REPLIES_KEPT)}
    return TopicPlan(name, TopicRole.OUTCOMES, REPLY_PARTITIONS, settings.replication, configs)


def reply_topic(prefix: str) -> str:
    """Return the name of the topic for replies to HTTP processes."""
    return f"{prefix}.replies.http"


def _configs(role: TopicRole, settings: TopicOptions) -> dict[str, str]:
    retention = {
        TopicRole.COMMANDS: _ms(settings.command_retention),
        TopicRole.EVENTS: _FOR_EVER,
        TopicRole.OUTCOMES: _ms(settings.outcome_retention),
        TopicRole.DEAD_LETTERS: _ms(settings.dead_letter_retention),
    }
    # a dead letter is a command with further headers, and the relay packs all records in the same way
    largest = settings.command_batch_bytes if role is TopicRole.COMMANDS else settings.max_event_bytes
    return {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        SIZE_LIMIT: str(largest),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(min(2, settings.replication)),
        "retention.bytes": "-1",
        "retention.ms": retention[role],
        "unclean.leader.election.enable": "false",
    }


def _ms(period: timedelta) -> str:
    return str(period // timedelta(milliseconds=1))


def compare_topics(plans: Sequence[TopicPlan], states: Mapping[str, TopicState | None]) -> list[TopicFinding]:
    """Return the differences between `plans` and the present topics, in the order of `plans`."""
    return [finding for plan in plans for finding in _differences(plan, states.get(plan.name))]


def _differences(plan: TopicPlan, state: TopicState | None) -> list[TopicFinding]:
    if state is None:
        return [TopicFinding(plan.name, "topic", "exists", None, vital=True)]
    wanted = {
        "partitions": str(plan.partitions),
        "replication": str(plan.replication),
        **plan.configs,
    }
    found = {"partitions": str(state.partitions), "replication": str(state.replication), **state.configs}
    return [
        TopicFinding(plan.name, name, value, found.get(name, "not set"), vital=_is_vital(plan.role, name))
        for name, value in wanted.items()
        if not _suits(name, found.get(name), value)
    ]


def _suits(setting: str, found: str | None, wanted: str) -> bool:
    """A topic may take more than it must: Tidemill's own readers and writers limit records."""
    if setting == SIZE_LIMIT and found is not None:
        return int(found) >= int(wanted)
    return found == wanted


def _is_vital(role: TopicRole, setting: str) -> bool:
    """Events must stay; other topics may have another retention than planned."""
    return setting in _VITAL and (role is TopicRole.EVENTS or setting != "retention.ms")
