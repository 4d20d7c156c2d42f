"""What the registry has to say about commands: ids fetched once, ids refused, a registry that is away."""

from __future__ import annotations

import io
import json
import struct

import pytest
from fastavro import parse_schema, schemaless_reader

from tests.fakes.registry import MemoryRegistry
from tests.support.codecs import (
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
from tests.support.schema_versions import with_field, with_fields, without_field
from tests.support.streams import MARKET_DATA
from tidemill.catalog.registration import register_schemas, subject_of
from tidemill.catalog.schemas import Schema
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.domain.errors import ContractError, Unavailable, Unreadable
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.known import REFUSED_FOR_S
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


async def test_an_id_that_appears_later_is_fetched_once() -> None:
    registry = await registered()
    codec = await market_codec(registry)
    subject = subject_of(MARKET_DATA.topics.commands, RECORD)
    venue = {"name": "venue", "type": ["null", "string"], "default": None, "doc": "."}
    newer = with_fields(MARKET[RECORD].current, venue)
    value = prefix_of_id(await registry.register(subject, newer.text)) + body(
        newer, {**TICK, "venue": "XNAS"}
    )
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


async def test_an_unknown_id_is_not_asked_for_again_for_a_while() -> None:
    registry, clock = await registered(), HandClock()
    codec = await StreamCodec.open(MARKET_DATA, MARKET, clock=clock, registry=registry)
    value = prefix_of_id(77) + b"body"
    for _ in range(3):
        await codec.prepare([value])
        assert registry.asked["find"] == 1
    clock.at_s += REFUSED_FOR_S + 1
    await codec.prepare([value])
    assert registry.asked["find"] == 2


async def test_a_flood_of_made_up_ids_is_forgotten_in_turn() -> None:
    registry = await registered()
    codec = await market_codec(registry)
    await codec.prepare([prefix_of_id(number) for number in range(1000, 6000)])
    assert len(codec._commands._refused) == 4096
    assert refused(codec, prefix_of_id(5999) + b"x").code == "UNKNOWN_SCHEMA"
    assert refused(codec, prefix_of_id(1000) + b"x").code == "UNKNOWN_SCHEMA"


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
        (RECORD, with_fields(MARKET[RECORD].current, RECURSIVE_FIELD), "stands inside itself"),
        (RECORD, with_fields(MARKET[RECORD].current, BOMB), "no bytes"),
        (RECORD, with_field(MARKET[RECORD].current, "price", type="string"), "cannot be read as double"),
        (RECORD, without_field(MARKET[RECORD].current, "symbol"), "symbol: has no default"),
        (
            RECORD,
            with_field(
                MARKET[RECORD].current, "time", type={"type": "long", "logicalType": "timestamp-millis"}
            ),
            "cannot be read as long (timestamp-micros)",
        ),
        (RECORD, with_fields(MARKET[RECORD].current, {**COUNT_FIELD, "default": "x"}), "Default value"),
        (RECORDED, MARKET[RECORDED].current, "is no message of"),
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
