"""What the registry has to say about commands: ids fetched once, ids refused, a registry that is unavailable."""

from __future__ import annotations

import io
import json
import struct

import pytest
from fastavro import parse_schema, schemaless_reader

from tests.fakes.registry import MemoryRegistry
from tests.support.engine.codecs import (
    MARKET,
    RECORD,
    RECORDED,
    TICK,
    HandClock,
    body,
    market_codec,
    read,
    refused,
    registered,
    single_object,
)
from tests.support.engine.schema_versions import with_fields
from tests.support.engine.streams import MARKET_DATA
from tidemill.catalog.registration import register_schemas, subject_of
from tidemill.catalog.schemas import Schema
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.domain.errors import ContractError, Unavailable, Unreadable
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.lookups import FIRST_PAUSE_S, MAX_AT_ONCE, PER_S, Lookups
from tidemill.transport.avro.wire import prefix_of_id


async def test_with_a_registry_both_framings_are_read_and_ids_are_written() -> None:
    registry = await registered()
    codec = await market_codec(registry)
    schema_id = await registry.id_of(
        subject_of(MARKET_DATA.topics.commands, RECORD), MARKET[RECORD].current.text
    )
    assert schema_id is not None
    by_id = prefix_of_id(schema_id) + body(MARKET[RECORD].current, TICK)
    assert read(codec, by_id) == read(codec, single_object(MARKET[RECORD].current, TICK))
    event = codec.appended_event(read(codec, by_id), MarketDataRecorded)
    event_id = struct.unpack(">bI", event[:5])[1]
    found = await registry.find(event_id)
    assert found is not None
    assert found.subjects == {subject_of(MARKET_DATA.topics.events, RECORDED)}
    assert schemaless_reader(io.BytesIO(event[5:]), parse_schema(json.loads(found.text)), None) == TICK
    assert await codec.encode_command(RecordMarketData(**TICK)) == by_id


async def test_known_ids_are_read_while_the_registry_is_away() -> None:
    registry = await registered()
    codec = await market_codec(registry)
    value = await codec.encode_command(RecordMarketData(**TICK))
    registry.away = True
    await codec.prepare([value, None, b"", single_object(MARKET[RECORD].current, TICK)])
    assert read(codec, value).fields == TICK


def with_venue() -> Schema:
    return with_fields(
        MARKET[RECORD].current, {"name": "venue", "type": ["null", "string"], "default": None, "doc": "."}
    )


async def test_an_id_that_appears_later_is_fetched_once() -> None:
    registry = await registered()
    codec = await market_codec(registry)
    subject = subject_of(MARKET_DATA.topics.commands, RECORD)
    newer = with_venue()
    value = prefix_of_id(await registry.register(subject, newer.text)) + body(newer, {**TICK, "venue": None})
    assert refused(codec, value).code == "UNKNOWN_SCHEMA"
    asked = registry.asked["find"]
    for _ in range(3):
        await codec.prepare([value] * 100)
    assert registry.asked["find"] == asked + 1
    assert read(codec, value).fields == TICK


async def test_an_unknown_id_while_the_registry_is_away_pauses() -> None:
    registry = await registered()
    codec = await market_codec(registry)
    registry.away = True
    with pytest.raises(Unavailable, match="registry"):
        await codec.prepare([prefix_of_id(77) + b"body"])
    registry.away = False
    await codec.prepare([prefix_of_id(77) + b"body"])
    assert refused(codec, prefix_of_id(77) + b"body").code == "UNKNOWN_SCHEMA"


async def test_a_no_is_believed_for_a_second_and_then_for_longer() -> None:
    registry, clock = await registered(), HandClock()
    codec = await StreamCodec.open(MARKET_DATA, MARKET, clock=clock, registry=registry)
    value, asked_at = prefix_of_id(77) + b"body", []
    for second in range(200):
        before = registry.asked["find"]
        await codec.prepare([value])
        asked_at += [second] * (registry.asked["find"] - before)
        clock.at_s += 1
    assert asked_at == [0, 1, 3, 7, 15, 31, 63, 123, 183]


@pytest.mark.parametrize("mistake", ["registered late", "under another subject first"])
async def test_a_schema_that_is_registered_a_moment_late_parks_no_command_for_longer(mistake: str) -> None:
    registry, clock = await registered(), HandClock()
    codec = await StreamCodec.open(MARKET_DATA, MARKET, clock=clock, registry=registry)
    newer, subject = with_venue(), subject_of(MARKET_DATA.topics.commands, RECORD)
    schema_id = len(registry._ids) + 1
    if mistake == "under another subject first":
        schema_id = await registry.register("market-data-value", newer.text)
    value = prefix_of_id(schema_id) + body(newer, {**TICK, "venue": None})
    await codec.prepare([value])
    assert refused(codec, value).code == "UNKNOWN_SCHEMA"
    assert await registry.register(subject, newer.text) == schema_id
    clock.at_s += FIRST_PAUSE_S
    await codec.prepare([value])
    assert read(codec, value).fields == TICK


async def test_a_flood_of_made_up_ids_is_no_flood_of_requests() -> None:
    registry, clock = await registered(), HandClock()
    codec = await StreamCodec.open(MARKET_DATA, MARKET, clock=clock, registry=registry)
    made_up = [prefix_of_id(number) + b"x" for number in range(1000, 6000)]
    await codec.prepare(made_up)
    assert registry.asked["find"] == MAX_AT_ONCE
    assert {refused(codec, value).code for value in made_up} == {"UNKNOWN_SCHEMA"}
    assert any("was not asked" in refused(codec, value).detail for value in made_up)
    for _ in range(10):
        await codec.prepare(made_up)
        clock.at_s += 1
    assert registry.asked["find"] <= MAX_AT_ONCE + 10 * PER_S
    newer = with_venue()
    subject = subject_of(MARKET_DATA.topics.commands, RECORD)
    value = prefix_of_id(await registry.register(subject, newer.text)) + body(newer, {**TICK, "venue": None})
    await codec.prepare([value])
    assert read(codec, value).fields == TICK, "a second later there is room for one that is right"


async def test_what_was_refused_is_forgotten_in_turn() -> None:
    clock = HandClock()
    lookups = Lookups(clock)
    for number in range(5000):
        lookups.refuse(prefix_of_id(number), "no")
    assert len(lookups) == 4096
    assert lookups.why(prefix_of_id(0)) is None
    assert lookups.why(prefix_of_id(4999)) == "no"


async def test_ids_that_no_registry_gives_out_are_not_asked_for() -> None:
    registry = await registered()
    codec = await market_codec(registry)
    values = [b"\x00\xff\xff\xff\xff" + b"body", b"\x00\x00", b"\xc3\x01" + bytes(8)]
    await codec.prepare(values)
    assert registry.asked["find"] == 0
    assert [each.code for each in codec.decode(values) if isinstance(each, Unreadable)] == [
        "UNKNOWN_SCHEMA",
        "MALFORMED",
        "UNKNOWN_SCHEMA",
    ]


COUNT_FIELD = {"name": "x", "type": "int", "default": 0}
RECURSIVE_FIELD = {"name": "link", "type": ["null", RECORD], "default": None}
BOMB = {"name": "bomb", "type": {"type": "array", "items": "null"}, "default": []}


@pytest.mark.parametrize(
    ("subject", "schema", "why"),
    [
        (
            "elsewhere",
            with_fields(MARKET[RECORD].current, {"name": "x", "type": "int", "default": 0}),
            "not registered",
        ),
        (RECORD, with_fields(MARKET[RECORD].current, RECURSIVE_FIELD), "contains itself"),
        (RECORD, with_fields(MARKET[RECORD].current, BOMB), "no bytes"),
        (RECORD, with_fields(MARKET[RECORD].current, {**COUNT_FIELD, "default": "x"}), "Default value"),
    ],
)
async def test_a_registered_schema_that_may_not_be_used(subject: str, schema: Schema, why: str) -> None:
    registry = MemoryRegistry()
    await register_schemas(registry, MARKET_DATA.topics, MARKET)
    registry.levels.clear()
    codec = await market_codec(registry)
    schema_id = await registry.register(subject_of(MARKET_DATA.topics.commands, subject), schema.text)
    value = prefix_of_id(schema_id) + body(MARKET[RECORD].current, TICK)
    await codec.prepare([value])
    fault = refused(codec, value)
    assert fault.code == "UNKNOWN_SCHEMA"
    assert why in fault.detail


async def test_an_unregistered_event_is_found_at_start() -> None:
    with pytest.raises(ContractError, match="run `tidemill schemas register`"):
        await market_codec(MemoryRegistry())
