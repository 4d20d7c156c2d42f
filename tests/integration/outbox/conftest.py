"""A stream of four lanes on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.engine.kafka import KafkaWorld, unhurried
from tests.support.engine.real_relays import RealWorld
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill_devkit.stack import Stack

PARTITIONS = 4


@pytest.fixture
async def world(stack: Stack, database: str, unique_name: Callable[[str], str]) -> AsyncIterator[RealWorld]:
    """Lanes and topics of this test alone; whatever runs is ended."""
    pool = await create_pool(database, application_name="tidemill-tests", size=6)
    kafka = KafkaWorld(unhurried(stack.kafka_bootstrap), unique_name("goods"), PARTITIONS)
    await kafka.open()
    made = RealWorld(pool, kafka)
    await made.open()
    yield made
    await made.close()
    await kafka.close()
    await close_pool(pool)
