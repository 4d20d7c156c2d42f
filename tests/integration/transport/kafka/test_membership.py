"""A member that its group does not answer any more is given up; an outage is no reason to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.integration.transport.kafka.conftest import Broker
from tests.support.engine.kafka import KafkaWorld
from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.transport.kafka.commands.source import KafkaCommandSource

pytestmark = pytest.mark.slow

SESSION_S = 6.0
MAX_SILENCE_S = 6.0


class Member:
    """Reads the commands of a world as a service does, and is told what is its own."""

    def __init__(self, world: KafkaWorld, max_silence_s: float = MAX_SILENCE_S) -> None:
        topic = world.topics.commands
        self.source = KafkaCommandSource(
            replace(world.connection, session_s=SESSION_S),
            topic=topic,
            group=f"g-{topic}",
            max_silence_s=max_silence_s,
        )
        self.ours: frozenset[int] = frozenset()

    def assigned(self, partitions: frozenset[int]) -> None:
        self.ours = partitions

    async def revoked(self, partitions: frozenset[int]) -> None:
        self.ours -= partitions

    async def read(self) -> None:
        while True:
            await self.source.poll()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncio.Task[None]]:
        await self.source.start(self)
        reading = asyncio.create_task(self.read())
        try:
            yield reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            await self.source.close()

    async def has(self, partitions: int) -> None:
        await eventually(lambda: len(self.ours) == partitions, what=f"{partitions} partitions")


async def test_a_member_that_finds_its_group_no_more_says_so_and_the_next_one_takes_over(
    world: KafkaWorld,
) -> None:
    member = Member(world, max_silence_s=3.0)
    async with member.reading() as reading:
        await member.has(4)
        coordinator = member.source._consumer._coordinator
        await coordinator._coordinator_lookup_lock.acquire()  # as if the search for it never ended
        coordinator.coordinator_dead()
        await asyncio.wait({reading}, timeout=4 * MAX_SILENCE_S)
        with pytest.raises(Unavailable, match="has not answered this member"):
            reading.result()
    another = Member(world)
    async with another.reading():
        await another.has(4)


@pytest.mark.breaks_servers
async def test_a_member_waits_for_a_broker_that_is_away_for_longer_than_its_max_silence(
    broker: Broker, breakable_world: KafkaWorld
) -> None:
    member = Member(breakable_world)
    async with member.reading() as reading:
        await member.has(4)
        await broker.freeze()
        await asyncio.wait({reading}, timeout=1.5 * MAX_SILENCE_S)
        await broker.thaw()
        await asyncio.wait({reading}, timeout=MAX_SILENCE_S / 2)  # three looks
        assert not reading.done(), reading
        await member.has(4)
