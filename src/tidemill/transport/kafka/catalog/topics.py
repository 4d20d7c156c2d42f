"""Topics on a broker: `catalog.ports.TopicStore`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.admin import NewTopic
from aiokafka.errors import (
    InvalidReplicationFactorError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from tidemill.catalog.topics import SIZE_LIMIT, TopicFinding, TopicPlan, TopicState, compare_topics
from tidemill.domain.errors import Unavailable, UsageError
from tidemill.transport.kafka.catalog.topic_configs import configs_of, set_configs
from tidemill.transport.kafka.client.client import KafkaConnection, admin_client
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.start import start

_READY_POLL_S: Final = 0.05
_HIDDEN: Final = TopicAuthorizationFailedError.errno


class Topics:
    """Creates and inspects topics. Every call has a deadline and raises `Unavailable`."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection

    async def create(self, plans: Sequence[TopicPlan]) -> list[str]:
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

    async def raise_limits(self, plans: Sequence[TopicPlan]) -> list[TopicFinding]:
        low = [finding for finding in await self.check(plans) if finding.setting == SIZE_LIMIT]
        if low:
            async with self._admin("raising the limits of topics") as admin:
                await set_configs(admin, {finding.topic: {SIZE_LIMIT: finding.wanted} for finding in low})
                await _wait_for_limits(admin, {finding.topic: finding.wanted for finding in low})
        return low

    async def check(self, plans: Sequence[TopicPlan]) -> list[TopicFinding]:
        return compare_topics(plans, await self.describe([plan.name for plan in plans]))

    async def describe(self, names: Sequence[str]) -> dict[str, TopicState | None]:
        """Return the present topics, None for one that does not exist."""
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
        """Delete topics permanently; for tests and demonstrations, never called by a service."""
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
        raise UsageError(f"{name}: there are fewer brokers than copies: lower TIDEMILL_TOPICS_REPLICATION")
    if error is TopicAuthorizationFailedError:
        raise UsageError(f"{name}: the right to create it is missing: grant it to Tidemill's principal")
    if error is NoError:
        return True
    said = f"creating {name}: {error.__name__}, {next((text for text in detail if text), error.__doc__)}"
    if error.retriable:
        raise Unavailable("kafka", said)
    raise UsageError(f"{said}; the broker refuses it")


def _exists(topic: Mapping[str, Any]) -> bool:
    return topic["error_code"] == 0 and bool(topic["partitions"])


async def _wait_for_leaders(admin: Any, partitions: Mapping[str, int]) -> None:
    """Return when every partition can be written to; brokers learn of a new topic one by one."""
    while partitions:
        described = {topic["topic"]: topic for topic in await admin.describe_topics(list(partitions))}
        _demand_visible(described)
        ready = {name for name, topic in described.items() if _leaders(topic) == partitions[name]}
        if ready == partitions.keys():
            return
        await asyncio.sleep(_READY_POLL_S)


def _demand_visible(described: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `UsageError`: a broker hides a topic from who may create it and has no other right on it."""
    hidden = [name for name, topic in described.items() if topic["error_code"] == _HIDDEN]
    if hidden:
        raise UsageError(
            f"{', '.join(hidden)}: created, and hidden from the login that created it: grant Describe on it to "
            "Tidemill's principal, or Read or Write, which include that"
        )


def _leaders(topic: Mapping[str, Any]) -> int:
    return sum(
        1 for partition in topic["partitions"] if partition["error_code"] == 0 and partition["leader"] >= 0
    )


async def _wait_for_limits(admin: Any, limits: Mapping[str, str]) -> None:
    """Return when the broker that answers knows the new limits."""
    while True:
        configs = await configs_of(admin, list(limits))
        if all(configs[topic][SIZE_LIMIT] == limit for topic, limit in limits.items()):
            return
        await asyncio.sleep(_READY_POLL_S)
