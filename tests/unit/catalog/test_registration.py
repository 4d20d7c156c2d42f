"""Putting the schemas of a stream into a registry."""

from __future__ import annotations

import pytest

from tests.fakes.registry import MemoryRegistry
from tests.support.engine.schema_versions import grown, with_field, with_fields
from tests.support.engine.streams import MARKET_DATA, messages_of
from tidemill.catalog.registration import Registration, register_schemas
from tidemill.domain.errors import ContractError, Unavailable

TOPICS = MARKET_DATA.topics
MESSAGES = {**messages_of("market_data"), **messages_of("outcome")}
COMMAND = "tidemill.market_data.RecordMarketData"
COMMANDS = f"tidemill.market-data.commands.v1-{COMMAND}"
EVENTS = "tidemill.market-data.events.v1-tidemill.market_data.MarketDataRecorded"
OUTCOMES = "tidemill.market-data.outcomes.v1-tidemill.outcome.CommandOutcome"


async def test_each_message_gets_its_subject_and_its_guard() -> None:
    registry = MemoryRegistry()
    done = await register_schemas(registry, TOPICS, MESSAGES)
    assert done == [Registration(COMMANDS, 1, 1), Registration(EVENTS, 1, 2), Registration(OUTCOMES, 1, 3)]
    assert registry.levels == {
        COMMANDS: "BACKWARD_TRANSITIVE",
        EVENTS: "FULL_TRANSITIVE",
        OUTCOMES: "FULL_TRANSITIVE",
    }
    assert await register_schemas(registry, TOPICS, MESSAGES) == done


async def test_all_versions_are_registered_oldest_first() -> None:
    registry, first = MemoryRegistry(), MESSAGES[COMMAND].current
    second = with_fields(first, {"name": "venue", "type": "string", "default": "", "doc": "."})
    done = await register_schemas(registry, TOPICS, {COMMAND: grown(MESSAGES[COMMAND], first, second)})
    assert [(each.version, each.schema_id) for each in done] == [(1, 1), (2, 2)]
    assert await registry.id_of(COMMANDS, second.text) == 2


async def test_what_the_registry_refuses_is_said() -> None:
    registry, first = MemoryRegistry(), MESSAGES[COMMAND].current
    await register_schemas(registry, TOPICS, MESSAGES)
    wrong = with_field(first, "price", type="string")
    with pytest.raises(ContractError, match="refuses"):
        await register_schemas(registry, TOPICS, {COMMAND: grown(MESSAGES[COMMAND], wrong)})


async def test_a_registry_that_is_away_is_said() -> None:
    registry = MemoryRegistry()
    registry.away = True
    with pytest.raises(Unavailable):
        await register_schemas(registry, TOPICS, MESSAGES)
