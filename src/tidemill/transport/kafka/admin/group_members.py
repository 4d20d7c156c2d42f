"""The members of the consumer groups that read command topics: another program in one holds lanes back."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupCoordinatorNotAvailableError

from tidemill.admin.rows import GroupMember
from tidemill.transport.kafka.client.client import KafkaConnection, admin_client
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.errors import answering
from tidemill.transport.kafka.client.start import start


async def members_of(connection: KafkaConnection, topics: Collection[str]) -> list[GroupMember]:
    """Return the members of the group of each topic, which has the topic's name. Raises `Unavailable`.

    A group that may not be described has none.
    """
    admin = admin_client(connection)
    try:
        async with answering("looking at consumer groups", connection.call_timeout_s):
            await start(admin)
            described = await asyncio.gather(*(_described(admin, topic) for topic in topics))
    finally:
        await hard_close(admin, connection.close_timeout_s)
    return [
        member
        for answers in described
        for answer in answers
        for group in answer.groups
        for member in _members(group)
    ]


async def _described(admin: Any, group: str) -> Sequence[Any]:
    """Ask for one group alone: of several in an answer the client reads all but the first wrongly (aiokafka 0.14)."""
    try:
        answers: Sequence[Any] = await admin.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:
        return ()  # nobody has joined a group of this broker yet, or its coordinator is moving
    return answers


def _members(group: Any) -> Iterator[GroupMember]:
    code, name, _, _, _, members, *_ = group
    for member in members if code == 0 else ():
        _, client_id, host, _, assignment = member
        held = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []
        partitions = sorted(tp.partition for tp in held if tp.topic == name)
        yield GroupMember(name, name, client_id, host.removeprefix("/"), partitions)
