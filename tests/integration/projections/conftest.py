"""A market on the real parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.engine.market import Market, open_market
from tidemill_devkit.stack import Stack


@pytest.fixture
async def market(database: str, stack: Stack, unique_name: Callable[[str], str]) -> AsyncIterator[Market]:
    async with open_market(database, stack.kafka_bootstrap, unique_name("market")) as market:
        yield market
