"""The topics of a stream: how each must be set up, making them, and finding what differs.

Everything that matters is set explicitly, because a broker's defaults are somebody else's decision. Time is the
broker's (`LogAppendTime`): by the client's, a wrong clock would have a command deleted before it was read, or refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from aiokafka.admin import NewTopic
from aiokafka.errors import (
    InvalidReplicationFactorError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from tidemill.domain.errors import Unavailable, UsageError
from tidemill.domain.lane import StreamTopics, TopicRole
from tidemill.transport.kafka.catalog.topic_configs import configs_of, set_configs
from tidemill.transport.kafka.client.client import KafkaConnection, admin_client
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.start import start

STOCK_BATCH_BYTES: Final = 1_048_588
"""What a broker takes as one batch by default, and so what every producer keeps to, compressed or not: librdkafka fills
batches up to 1,000,000 bytes, Java's client up to 1 MiB."""

_RECORD_ROOM_BYTES: Final = 128 << 10
"""What a command's key and headers, and Kafka's framing, may add to its value."""

_LIMIT: Final = "max.message.bytes"
_FOR_EVER: Final = "-1"
_READY_POLL_S: Final = 0.05
_VITAL: Final = frozenset({"partitions", _LIMIT, "cleanup.policy", "retention.bytes", "retention.ms"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """What an installation decides about its topics. Raises `UsageError` unless a command is smaller than an event.

    `max_command_bytes`: the largest value of a command, which intake holds it to: Kafka bounds batches, and those of
    commands are their producers'. `max_event_bytes`: the largest batch of what the relay sends. Events are kept for
    ever.
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
    """A topic as it must be. `configs`: Kafka's names and values; `max.message.bytes` may be larger."""

    name: str
    role: TopicRole
    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference. `vital`: records can be lost or lanes cannot work; anything else can wait.

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
                f"{self.topic} has {self.found} partitions instead of {self.wanted}: the count of a topic never "
                "changes; set the number it was created with"
            )
        if self.setting == _LIMIT:
            return (
                f"{self.topic}: {self.setting} is {self.found}, at least {self.wanted} is needed: run "
                "`tidemill topics create`, which raises it"
            )
        return f"{self.topic}: {self.setting} is {self.found} instead of {self.wanted}: alter the topic"


def plan_topics(topics: StreamTopics, partitions: int, settings: TopicSettings) -> list[TopicPlan]:
    """Return the plans of a stream's four topics."""
    return [
        TopicPlan(name, role, partitions, settings.replication, _configs(role, settings))
        for role, name in topics.named().items()
    ]


def _configs(role: TopicRole, settings: TopicSettings) -> dict[str, str]:
    retention = {
        TopicRole.COMMANDS: _ms(settings.command_retention),
        TopicRole.EVENTS: _FOR_EVER,
        TopicRole.OUTCOMES: _ms(settings.outcome_retention),
        TopicRole.DEAD_LETTERS: _ms(settings.dead_letter_retention),
    }
    # a dead letter is a command with headers of ours, and the relay packs all it sends alike
    largest = settings.command_batch_bytes if role is TopicRole.COMMANDS else settings.max_event_bytes
    return {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        _LIMIT: str(largest),
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(min(2, settings.replication)),
        "retention.bytes": "-1",
        "retention.ms": retention[role],
        "unclean.leader.election.enable": "false",
    }


def _ms(period: timedelta) -> str:
    return str(period // timedelta(milliseconds=1))


def compare(plans: Sequence[TopicPlan], states: Mapping[str, TopicState | None]) -> list[Finding]:
    """Return the differences between what must be and what is, in the order of `plans`."""
    return [finding for plan in plans for finding in _differences(plan, states.get(plan.name))]


def _differences(plan: TopicPlan, state: TopicState | None) -> list[Finding]:
    if state is None:
        return [Finding(plan.name, "topic", "exists", None, vital=True)]
    wanted = {
        "partitions": str(plan.partitions),
        "replication": str(plan.replication),
        **plan.configs,
    }
    found = {"partitions": str(state.partitions), "replication": str(state.replication), **state.configs}
    return [
        Finding(plan.name, name, value, found.get(name, "not set"), vital=_is_vital(plan.role, name))
        for name, value in wanted.items()
        if not _suits(name, found.get(name), value)
    ]


def _suits(setting: str, found: str | None, wanted: str) -> bool:
    """A topic may take more at once than it must: what a record may be is bounded by who reads and writes it."""
    if setting == _LIMIT and found is not None:
        return int(found) >= int(wanted)
    return found == wanted


def _is_vital(role: TopicRole, setting: str) -> bool:
    """Events must stay; other topics may be kept for another time than planned."""
    return setting in _VITAL and (role is TopicRole.EVENTS or setting != "retention.ms")


class Topics:
    """Makes and looks at topics. Every call has a deadline and raises `Unavailable`."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection

    async def create(self, plans: Sequence[TopicPlan]) -> list[str]:
        """Make the topics that do not exist and return their names; when it returns, every partition has a leader.

        An existing topic is left as it is: see `check` and `raise_limits`. Raises `UsageError` if the broker refuses
        one.
        """
        wanted = [
            NewTopic(plan.name, plan.partitions, plan.replication, topic_configs=dict(plan.configs))
            for plan in plans
        ]
        async with self._admin("creating topics") as admin:
            response = await admin.create_topics(wanted)
            made = [name for name, code, *detail in response.topic_errors if _was_made(name, code, detail)]
            await _wait_for_leaders(
                admin, {plan.name: plan.partitions for plan in plans if plan.name in made}
            )
        return made

    async def raise_limits(self, plans: Sequence[TopicPlan]) -> list[Finding]:
        """Let existing topics take batches as large as planned; return what was raised, once it is in force.

        A larger limit stays, and so does every other setting. Raises `UsageError` if the broker refuses.
        """
        low = [finding for finding in await self.check(plans) if finding.setting == _LIMIT]
        if low:
            async with self._admin("raising the limits of topics") as admin:
                await set_configs(admin, {finding.topic: {_LIMIT: finding.wanted} for finding in low})
                await _wait_for_limits(admin, {finding.topic: finding.wanted for finding in low})
        return low

    async def check(self, plans: Sequence[TopicPlan]) -> list[Finding]:
        """Return what differs from `plans`."""
        return compare(plans, await self.describe([plan.name for plan in plans]))

    async def describe(self, names: Sequence[str]) -> dict[str, TopicState | None]:
        """Return the topics as they are, None for one that does not exist."""
        async with self._admin("looking at topics") as admin:
            found = {
                topic["topic"]: topic for topic in await admin.describe_topics(list(names)) if _exists(topic)
            }
            configs = await configs_of(admin, list(found))
        states = {
            name: TopicState(
                name,
                len(topic["partitions"]),
                min(len(p["replicas"]) for p in topic["partitions"]),
                configs[name],
            )
            for name, topic in found.items()
        }
        return {name: states.get(name) for name in names}

    async def delete(self, names: Sequence[str]) -> None:
        """Delete topics for good; for tests and demonstrations, never part of a service's life."""
        async with self._admin("deleting topics") as admin:
            await admin.delete_topics(list(names))

    @asynccontextmanager
    async def _admin(self, doing: str) -> AsyncIterator[Any]:
        admin = admin_client(self._connection)
        try:
            async with answering(doing, self._connection.call_timeout_s):
                await start(admin)
                yield admin
        finally:
            await hard_close(admin, self._connection.close_timeout_s)


def _was_made(name: str, code: int, detail: Sequence[str | None]) -> bool:
    error = for_code(code)
    if error is TopicAlreadyExistsError:
        return False
    if error is InvalidReplicationFactorError:
        raise UsageError(
            f"{name}: there are fewer brokers than copies wanted; set TIDEMILL_TOPICS_REPLICATION lower"
        )
    if error is TopicAuthorizationFailedError:
        raise UsageError(f"{name}: the right to create it is missing: grant it to our principal")
    if error is NoError:
        return True
    said = f"creating {name}: {error.__name__}, {next((text for text in detail if text), error.__doc__)}"
    if error.retriable:
        raise Unavailable("kafka", said)
    raise UsageError(f"{said}; the broker refuses it")


def _exists(topic: Mapping[str, Any]) -> bool:
    return topic["error_code"] == 0 and bool(topic["partitions"])


async def _wait_for_leaders(admin: Any, partitions: Mapping[str, int]) -> None:
    """Return when every partition can be written to; a new topic is not known to all brokers at once."""
    while partitions:
        described = {topic["topic"]: topic for topic in await admin.describe_topics(list(partitions))}
        ready = {name for name, topic in described.items() if _leaders(topic) == partitions[name]}
        if ready == partitions.keys():
            return
        await asyncio.sleep(_READY_POLL_S)


def _leaders(topic: Mapping[str, Any]) -> int:
    return sum(
        1 for partition in topic["partitions"] if partition["error_code"] == 0 and partition["leader"] >= 0
    )


async def _wait_for_limits(admin: Any, limits: Mapping[str, str]) -> None:
    """Return when the broker that answers knows the new limits."""
    while True:
        configs = await configs_of(admin, list(limits))
        if all(configs[topic][_LIMIT] == limit for topic, limit in limits.items()):
            return
        await asyncio.sleep(_READY_POLL_S)
