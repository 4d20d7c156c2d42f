"""The same stream in memory and on a real broker: every suite of this folder runs on both."""

from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.engine.kafka import KafkaWorld, MemoryWorld, World, unhurried

PARTITIONS = 4


@pytest.fixture(params=["memory", "kafka"])
async def world(request: pytest.FixtureRequest, unique_name: Callable[[str], str]) -> AsyncIterator[World]:
    """A stream of four partitions that nobody else has."""
    if request.param == "memory":
        yield MemoryWorld("goods", PARTITIONS)
        return
    connection = unhurried(request.getfixturevalue("stack").kafka_bootstrap)
    world = KafkaWorld(connection, unique_name("goods"), PARTITIONS)
    await world.open()
    yield world
    await world.close()
