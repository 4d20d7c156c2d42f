"""Commands in, events out: framing, versions, what makes two payloads equal, and what the registry has to say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import MetaData, Table

from tests.fakes.registry import MemoryRegistry
from tests.support.engine.codecs import (
    MARKET,
    NOON,
    RECORD,
    RECORDED,
    TICK,
    HandClock,
    body,
    market_codec,
    read,
    refused,
    single_object,
)
from tests.support.engine.schema_versions import grown, with_field, with_fields, without_field
from tests.support.engine.streams import CONNECTOR_PROFILES, MARKET_DATA, messages_of
from tests.support.faults import hostile
from tidemill.catalog.schemas import Schema
from tidemill.commands.ports import Decoded
from tidemill.contexts.connector_profiles.messages import ConnectorProfileUpdated, UpdateConnectorProfile
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.contexts.system_logs import context as system_logs
from tidemill.contexts.telemetry_events import context as telemetry_events
from tidemill.domain.context import AppendSpec, Context
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.stream import Stream
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.wire import FINGERPRINT_BYTES, prefix_of_fingerprint

UPDATE = "tidemill.connector_profiles.UpdateConnectorProfile"
PROFILES = messages_of("connector_profiles")


async def test_a_command_is_read_with_its_facts_and_its_body() -> None:
    schema = MARKET[RECORD].current
    decoded = read(await market_codec(), single_object(schema, TICK))
    assert decoded.name == RECORD
    assert decoded.fields == TICK
    assert decoded.body == body(schema, TICK)
    other = read(
        await market_codec(), single_object(schema, {**TICK, "command_id": "a longer one", "timestamp": NOON})
    )
    assert decoded.facts == other.facts
    assert decoded.facts.startswith(b"\x08AAPL")


async def test_facts_differ_where_the_payload_does() -> None:
    codec, schema = await market_codec(), MARKET[RECORD].current
    facts = {
        read(codec, single_object(schema, {**TICK, **change})).facts
        for change in ({}, {"price": 1.0}, {"open": 0.0}, {"source": "x"}, {"symbol": "AAP"})
    }
    assert len(facts) == 5


async def test_an_appended_event_is_the_command_behind_other_framing() -> None:
    codec = await market_codec()
    decoded = read(codec, single_object(MARKET[RECORD].current, TICK))
    event = codec.appended_event(decoded, MarketDataRecorded)
    assert event == single_object(MARKET[RECORDED].current, TICK)
    assert event == codec.encode_event(MarketDataRecorded(**TICK))
    assert event == codec.appended_event(decoded._replace(body=None), MarketDataRecorded)


MANY: dict[str, tuple[Context, dict[str, Any]]] = {
    "telemetry events": (
        telemetry_events,
        {"source": "s", "events": [{"time": NOON, "name": "n", "value": 1.5}, {"time": NOON, "name": "n"}]},
    ),
    "system logs": (
        system_logs,
        {"service": "s", "lines": [{"time": NOON, "level": "info", "message": "m"}] * 3},
    ),
}


@pytest.mark.parametrize(("context", "fields"), MANY.values(), ids=MANY)
async def test_an_event_of_many_records_is_the_command_after_other_framing(
    context: Context, fields: dict[str, Any]
) -> None:
    codec = await StreamCodec.open(Stream.of(context), messages_of(context.name), clock=HandClock())
    (spec,), (event,) = context.commands, context.events
    command = spec.model.model_validate(
        {"command_id": "one", "service_name": "s", "timestamp": NOON} | fields
    )
    value = await codec.encode_command(command)
    published = codec.appended_event(read(codec, value), event)
    assert published[FINGERPRINT_BYTES:] == value[FINGERPRINT_BYTES:]
    assert published[:FINGERPRINT_BYTES] != value[:FINGERPRINT_BYTES]
    assert published == codec.encode_event(event.of(command))  # type: ignore[arg-type]


async def test_an_event_of_other_types_is_encoded() -> None:
    narrow = with_field(MARKET[RECORDED].current, "price", type="float")
    codec = await market_codec(messages={**MARKET, RECORDED: grown(MARKET[RECORDED], narrow)})
    decoded = read(codec, single_object(MARKET[RECORD].current, TICK))
    assert codec.appended_event(decoded, MarketDataRecorded) == single_object(narrow, TICK)


async def test_a_decided_event_is_encoded() -> None:
    codec = await StreamCodec.open(CONNECTOR_PROFILES, PROFILES, clock=HandClock())
    event = ConnectorProfileUpdated(
        command_id="one",
        service_name="s",
        timestamp=NOON,
        profile_id="p",
        name=None,
        profile_data='{"type": "x"}',
    )
    schema = PROFILES["tidemill.connector_profiles.ConnectorProfileUpdated"].current
    assert codec.encode_event(event) == single_object(schema, event.model_dump())


async def test_a_command_written_by_hand_is_read_back() -> None:
    codec = await market_codec()
    value = await codec.encode_command(RecordMarketData(**TICK))
    assert value == single_object(MARKET[RECORD].current, TICK)
    naive = RecordMarketData(**{**TICK, "timestamp": NOON.replace(tzinfo=None)})
    with pytest.raises(UsageError, match=r"timestamp: .* has no time zone"):
        await codec.encode_command(naive)


async def test_larger_than_allowed_is_too_big() -> None:
    value = single_object(MARKET[RECORD].current, TICK)
    assert isinstance(read(await market_codec(max_bytes=len(value)), value), Decoded)
    assert refused(await market_codec(max_bytes=len(value) - 1), value).code == "TOO_BIG"


async def test_an_event_is_no_command() -> None:
    assert (
        refused(await market_codec(), single_object(MARKET[RECORDED].current, TICK)).code == "UNKNOWN_SCHEMA"
    )


# --- versions ---------------------------------------------------------------------------------------------------------

V1 = PROFILES[UPDATE].current
V0 = without_field(V1, "expected_version")
CHANGE: dict[str, Any] = {
    "command_id": "one",
    "service_name": "s",
    "timestamp": NOON,
    "correlation_id": None,
    "profile_id": "p",
    "name": "n",
    "profile_data": None,
}


async def profile_codec(*versions: Schema, registry: MemoryRegistry | None = None) -> StreamCodec:
    messages = {**PROFILES, UPDATE: grown(PROFILES[UPDATE], *versions)}
    return await StreamCodec.open(CONNECTOR_PROFILES, messages, clock=HandClock(), registry=registry)


async def test_an_older_version_gives_the_same_command() -> None:
    codec = await profile_codec(V0, V1)
    old, new = read(codec, single_object(V0, CHANGE)), read(codec, single_object(V1, CHANGE))
    assert old.fields == {**CHANGE, "expected_version": None}
    assert old == new
    assert UpdateConnectorProfile(**old.fields).name == "n"


async def test_an_older_version_is_read_strictly() -> None:
    codec = await profile_codec(V0, V1)
    assert refused(codec, single_object(V0, CHANGE) + b"\x00").code == "MALFORMED"
    assert refused(codec, single_object(V0, CHANGE)[:-1]).code == "MALFORMED"


async def test_a_repeat_is_known_after_the_schema_grew() -> None:
    before = await StreamCodec.open(CONNECTOR_PROFILES, PROFILES, clock=HandClock())
    value = single_object(V1, {**CHANGE, "expected_version": None})
    grew = with_fields(V1, {"name": "note", "type": ["null", "string"], "default": None, "doc": "."})

    class Grown(UpdateConnectorProfile):
        note: str | None = None

    Grown.__name__ = "UpdateConnectorProfile"
    spec = replace(CONNECTOR_PROFILES.commands[UPDATE], model=Grown)
    stream = replace(CONNECTOR_PROFILES, commands={**CONNECTOR_PROFILES.commands, UPDATE: spec})
    messages = {**PROFILES, UPDATE: grown(PROFILES[UPDATE], V1, grew)}
    after = await StreamCodec.open(stream, messages, clock=HandClock())
    assert read(after, value).fields["note"] is None
    assert read(after, value).facts == read(before, value).facts
    noted = read(after, single_object(grew, {**CHANGE, "expected_version": None, "note": "x"}))
    assert noted.facts != read(before, value).facts


@pytest.mark.parametrize(
    ("version", "facts"), [(None, b"\x02p\x02\x02n"), (7, b"\x02p\x02\x02n\x00\x02\x0e")]
)
async def test_trailing_defaults_are_no_facts(version: int | None, facts: bytes) -> None:
    codec = await profile_codec(V1)
    assert read(codec, single_object(V1, {**CHANGE, "expected_version": version})).facts == facts


async def test_blocks_cut_elsewhere_and_padded_decimals_are_the_same_command() -> None:
    name, event = hostile.messages()
    spec = AppendSpec(hostile.SendProbe, Table("probes", MetaData()), hostile.ProbeSent)
    stream = replace(MARKET_DATA, commands={name: spec}, events={event: hostile.ProbeSent})
    codec = await StreamCodec.open(stream, hostile.messages(), clock=HandClock())
    prefix = prefix_of_fingerprint(hostile.messages()[name].current.fingerprint)
    plain = read(codec, prefix + hostile.good_body())
    cut = read(codec, prefix + hostile.body_with("tags", b"\x01\x04\x02a\x02\x02b\x00"))
    padded = read(codec, prefix + hostile.body_with("amount", b"\x06\x00\x04\xd2"))
    assert plain == cut == padded
    assert plain.body == hostile.good_body()


# --- what is found at start -------------------------------------------------------------------------------------------


async def test_a_class_that_left_its_schema_is_found_at_start() -> None:
    changed = {**MARKET, RECORD: grown(MARKET[RECORD], without_field(MARKET[RECORD].current, "volume"))}
    with pytest.raises(ContractError, match="class and schema differ"):
        await market_codec(messages=changed)


async def test_a_command_without_a_schema_is_found_at_start() -> None:
    with pytest.raises(ContractError, match="tidemill schemas new"):
        await market_codec(messages={RECORDED: MARKET[RECORDED]})


async def test_two_meanings_of_one_fingerprint_are_found_at_start() -> None:
    current = MARKET[RECORD].current
    twin = with_field(current, "time", type={"type": "long", "logicalType": "timestamp-millis"})
    assert twin.fingerprint == current.fingerprint
    with pytest.raises(ContractError, match="share a fingerprint"):
        await market_codec(messages={**MARKET, RECORD: grown(MARKET[RECORD], twin, current)})
