"""Servers that die, freeze and come back under a running relay: it pauses, and goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from tests.support.engine.kafka import KafkaWorld
from tests.support.engine.real_relays import RealWorld
from tests.support.waiting import eventually
from tidemill.runtime.telemetry.log_events import Log
from tidemill.storage.database.pool import Timeouts, close_pool, create_pool
from tidemill.transport.kafka import KafkaConnection
from tidemill_devkit.stack import Stack

INCIDENTS = {Log.RELAY_WAITS, Log.RELAY_RESTARTED}

pytestmark = [pytest.mark.breaks_servers, pytest.mark.slow]


@pytest.fixture
async def world(
    breakable_stack: Stack, breakable_database: str, unique_name: Callable[[str], str]
) -> AsyncIterator[RealWorld]:
    """Lanes and topics on servers of this test alone."""
    patience = Timeouts(connect_s=2, command_s=3)
    pool = await create_pool(breakable_database, application_name="tidemill-tests", size=6, timeouts=patience)
    kafka = KafkaWorld(KafkaConnection(bootstrap=breakable_stack.kafka_bootstrap), unique_name("goods"), 2)
    await kafka.open()
    made = RealWorld(pool, kafka)
    await made.open()
    yield made
    await made.close()
    await kafka.close()
    await close_pool(pool)


@pytest.mark.parametrize("how", ["kill", "freeze"])
@pytest.mark.parametrize("server", ["kafka", "postgres"])
async def test_a_server_goes_and_comes_back(
    world: RealWorld, breakable_stack: Stack, server: str, how: str
) -> None:
    broken = breakable_stack.servers[server]
    relays = await world.process()
    await world.claim(relays, *world.lanes)
    for scribe in world.scribes:
        await world.store(scribe.applied(500).rejected(20).batch(), scribe.applied(500, events=2).batch())
    with capture_logs() as told:
        relays.wake([lane.id for lane in world.lanes])
        await asyncio.to_thread(broken.kill if how == "kill" else broken.freeze)
        await eventually(lambda: INCIDENTS & {entry["event"] for entry in told}, what="a relay noticed")
    await asyncio.to_thread(breakable_stack.repair)
    await world.sent(relays, *world.scribes)
    for scribe in world.scribes:
        await world.store(scribe.applied(10).batch())
    await world.sent(relays, *world.scribes)
    await world.check(*world.scribes)
