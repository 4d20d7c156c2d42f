"""Events as projectors get them."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.registry import MemoryRegistry
from tests.support.engine.schema_versions import grown, with_field, with_fields
from tests.support.engine.streams import CONNECTOR_PROFILES, MARKET_DATA, messages_of
from tidemill.catalog.registration import register_schemas
from tidemill.contexts.connector_profiles.messages import (
    ConnectorProfileDeactivated,
    ConnectorProfileRegistered,
    ConnectorProfileUpdated,
)
from tidemill.contexts.market_data.messages import MarketDataRecorded
from tidemill.domain.carried_fields import unvalidated
from tidemill.domain.checks import NotBelow
from tidemill.domain.errors import ContractError, Unavailable
from tidemill.domain.messages import EventBase
from tidemill.projections.ports import EventRecord
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.events import AvroEventCodec
from tidemill.transport.avro.reader.forms import Form

PROFILES = messages_of("connector_profiles")
DEACTIVATED = "tidemill.connector_profiles.ConnectorProfileDeactivated"
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
BASE: dict[str, Any] = {"command_id": "one", "service_name": "s", "timestamp": NOON, "correlation_id": None}
EVENTS: list[EventBase] = [
    ConnectorProfileRegistered(**BASE, profile_id="p", name="n", profile_data="{}"),
    ConnectorProfileUpdated(**BASE, profile_id="p", name="m", profile_data=None),
    ConnectorProfileDeactivated(**BASE, profile_id="p"),
    ConnectorProfileRegistered(**BASE, profile_id="q", name="m", profile_data="{}"),
]


def record(value: bytes, sequence: int = 1) -> EventRecord:
    return EventRecord(partition=3, offset=100, sequence=sequence, at=NOON, event_type="any", value=value)


async def open_codecs(registry: MemoryRegistry | None = None) -> tuple[StreamCodec, AvroEventCodec]:
    writer = await StreamCodec.open(CONNECTOR_PROFILES, PROFILES, clock=SystemClock(), registry=registry)
    reader = await AvroEventCodec.open(CONNECTOR_PROFILES, PROFILES, clock=SystemClock(), registry=registry)
    return writer, reader


async def open_market() -> tuple[StreamCodec, AvroEventCodec]:
    messages = messages_of("market_data")
    writer = await StreamCodec.open(MARKET_DATA, messages, clock=SystemClock())
    return writer, await AvroEventCodec.open(MARKET_DATA, messages, clock=SystemClock())


MARKET = asyncio.run(open_market())


@pytest.mark.parametrize("with_registry", [False, True])
async def test_events_of_all_classes_come_back_in_order(with_registry: bool) -> None:
    registry = MemoryRegistry() if with_registry else None
    if registry is not None:
        await register_schemas(registry, CONNECTOR_PROFILES.topics, PROFILES)
    writer, reader = await open_codecs(registry)
    records = [record(writer.encode_event(event), number) for number, event in enumerate(EVENTS, start=1)]
    await reader.prepare([each.value for each in records])
    recorded = reader.decode(records)
    assert [each.event for each in recorded] == EVENTS
    assert [(each.at, each.order) for each in recorded] == [(NOON, (3, number)) for number in (1, 2, 3, 4)]
    assert reader.decode([]) == []


async def test_an_event_of_a_newer_version_is_read() -> None:
    registry = MemoryRegistry()
    await register_schemas(registry, CONNECTOR_PROFILES.topics, PROFILES)
    _, reader = await open_codecs(registry)
    newer = with_fields(
        PROFILES[DEACTIVATED].current, {"name": "why", "type": "string", "default": "", "doc": "."}
    )
    messages = {DEACTIVATED: grown(PROFILES[DEACTIVATED], PROFILES[DEACTIVATED].current, newer)}
    newest = (await register_schemas(registry, CONNECTOR_PROFILES.topics, messages))[-1]
    body = Form(newer, base=4).write({**BASE, "profile_id": "p", "why": "spring cleaning"})
    value = b"\x00" + newest.schema_id.to_bytes(4, "big") + body
    registry.away = True
    with pytest.raises(Unavailable):
        await reader.prepare([value])
    registry.away = False
    await reader.prepare([value])
    assert reader.decode([record(value)])[0].event == ConnectorProfileDeactivated(**BASE, profile_id="p")


@pytest.mark.parametrize(
    "damage", [lambda value: value[:-1], lambda value: value + b"\x00", lambda _: b"\xc3\x01"]
)
async def test_an_event_that_cannot_be_read_says_which(damage: object) -> None:
    writer, reader = await open_codecs()
    assert callable(damage)
    value = damage(writer.encode_event(EVENTS[0]))
    with pytest.raises(ContractError, match=r"event 7 of partition 3 \(offset 100\) cannot be read"):
        reader.decode([record(value, 7)])


async def test_an_event_that_its_class_refuses_says_why() -> None:
    writer, reader = await open_codecs()
    value = writer.encode_event(EVENTS[0].model_copy(update={"service_name": ""}))
    with pytest.raises(ContractError, match="ConnectorProfileRegistered: the class refuses"):
        reader.decode([record(value)])


async def test_an_event_schema_that_left_its_class_is_found_at_start() -> None:
    broken = with_field(PROFILES[DEACTIVATED].current, "profile_id", type="long")
    messages = {**PROFILES, DEACTIVATED: grown(PROFILES[DEACTIVATED], broken)}
    with pytest.raises(ContractError, match="class and schema differ"):
        await AvroEventCodec.open(CONNECTOR_PROFILES, messages, clock=SystemClock())


# --- field by field ---------------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["one", "", "a" * 201, "a\tb", "\x7f", "\u00e9"]) | st.text(max_size=3)
NUMBERS = st.floats() | st.sampled_from([math.nan, math.inf, -0.0])
TICKS = st.fixed_dictionaries(
    {
        "command_id": TEXTS,
        "service_name": TEXTS,
        "correlation_id": st.none() | TEXTS,
        "symbol": TEXTS,
        "price": NUMBERS,
        "open": st.none() | NUMBERS,
        "source": TEXTS,
    }
)


@settings(max_examples=300)
@given(st.lists(TICKS, min_size=1, max_size=3))
def test_field_by_field_the_same_events_are_refused(ticks: list[dict[str, Any]]) -> None:
    writer, reader = MARKET
    plain = {"timestamp": NOON, "time": NOON, "high": None, "low": None, "volume": 1.5}
    events = [unvalidated(MarketDataRecorded, {**plain, **tick}) for tick in ticks]
    records = [record(writer.encode_event(event), number) for number, event in enumerate(events, start=1)]
    columns = reader.decode_columns(records, {MarketDataRecorded})
    try:
        expected = reader.decode(records)
    except ContractError:
        assert columns is None
    else:
        assert columns is not None
        assert repr(columns.recorded()) == repr(expected)


async def test_events_of_several_schemas_or_with_rules_of_their_own_are_read_one_by_one() -> None:
    writer, reader = await open_codecs()
    records = [record(writer.encode_event(event)) for event in EVENTS]
    assert reader.decode_columns(records, set(map(type, EVENTS))) is None
    alike = reader.decode_columns([records[0], records[3]], set(map(type, EVENTS)))
    assert alike is not None
    assert [each.event for each in alike.recorded()] == [EVENTS[0], EVENTS[3]]

    class Checked(MarketDataRecorded):
        checks = (NotBelow("high", "low"),)

    stream = replace(MARKET_DATA, events=dict.fromkeys(MARKET_DATA.events, Checked))
    checking = await AvroEventCodec.open(stream, messages_of("market_data"), clock=SystemClock())
    tick = Checked(**BASE, symbol="IBM", time=NOON, price=1.0, source="test")
    tick_record = record(MARKET[0].encode_event(MarketDataRecorded(**vars(tick))))
    assert checking.decode_columns([tick_record], {Checked}) is None
    assert checking.decode([tick_record])[0].event == tick
