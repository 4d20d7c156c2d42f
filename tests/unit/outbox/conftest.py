"""A process with relays, running between a database and a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.engine.relays import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    work = asyncio.create_task(made.relays.run())
    yield made
    await made.relays.stop()
    await work
    assert made.topics.open == 0, "a publisher was left open"
