"""A real broker: shared by all, or this worker's own to be broken."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.engine.kafka import KafkaWorld, unhurried
from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.transport.kafka import KafkaConnection
from tidemill.transport.kafka.client.lookup import Lookup
from tidemill_devkit.stack import Stack


@pytest.fixture
def connection(stack: Stack) -> KafkaConnection:
    """The shared broker."""
    return unhurried(stack.kafka_bootstrap)


@pytest.fixture
async def world(connection: KafkaConnection, unique_name: Callable[[str], str]) -> AsyncIterator[KafkaWorld]:
    """A stream of four partitions on the shared broker."""
    world = KafkaWorld(connection, unique_name("goods"), 4)
    await world.open()
    yield world
    await world.close()


class Broker:
    """A broker that may be broken; its clients have short deadlines."""

    def __init__(self, stack: Stack) -> None:
        self._server = stack.kafka
        self.connection = KafkaConnection(
            bootstrap=stack.kafka_bootstrap, request_timeout_ms=2_000, call_timeout_s=4.0, close_timeout_s=1.0
        )

    async def kill(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def freeze(self) -> None:
        await asyncio.to_thread(self._server.freeze)

    async def thaw(self) -> None:
        await asyncio.to_thread(self._server.thaw)

    async def start(self) -> None:
        """Start it and return when its partitions can be asked for: it has to recover its logs first."""
        await asyncio.to_thread(self._server.start)

    async def answers(self) -> bool:
        """Whether it does; raises `Unavailable` if not."""
        lookup = Lookup(self.connection)
        try:
            async with lookup.asking("whether it is there") as consumer:
                await consumer.topics()
                return True
        finally:
            await lookup.close()


@pytest.fixture
async def broker(breakable_stack: Stack) -> AsyncIterator[Broker]:
    """A broker of this worker's own, whole at each test's start."""
    await asyncio.to_thread(breakable_stack.repair)
    yield Broker(breakable_stack)
    await asyncio.to_thread(breakable_stack.repair)


@pytest.fixture
async def breakable_world(broker: Broker, unique_name: Callable[[str], str]) -> KafkaWorld:
    """A stream of four partitions on the broker that may be broken; its topics end with the servers."""
    patient = KafkaConnection(bootstrap=broker.connection.bootstrap)
    world = KafkaWorld(patient, unique_name("goods"), 4)

    async def opened() -> bool:
        await world.open()
        return True

    # one that has just begun may not know itself for a moment
    await eventually(opened, what="topics", retry_on=(Unavailable,))
    world.connection = broker.connection
    return world
