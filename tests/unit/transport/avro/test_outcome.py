"""Outcome messages: written by hand, so compared with what fastavro writes and reads."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from fastavro import parse_schema, schemaless_reader
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.registry import MemoryRegistry
from tests.support.counting import counted_calls
from tests.support.engine.schema_versions import without_field
from tests.support.engine.streams import MARKET_DATA, messages_of
from tidemill.catalog.registration import register_schemas
from tidemill.domain.errors import ContractError, Unreadable
from tidemill.domain.lane import Lane
from tidemill.domain.messages import Outcome
from tidemill.outbox.ports import OutboxItem
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.outcome import FIELDS, NAME, AvroOutcomeCodec

OUTCOME = messages_of("outcome")
LANE = Lane(id=9, aggregate="market-data", partition=63, partitions=64, topics=MARKET_DATA.topics)
MAX_CALLS = 15
COMMAND_ID = str(UUID(int=1))
NOON = datetime(2024, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
APPLIED = OutboxItem(
    position=1042,
    item=0,
    outcome=b"a",
    original=None,
    code=None,
    detail=None,
    command_id=COMMAND_ID,
    service="quotes",
    correlation="c",
    sequence=1000,
    at=NOON,
    seconds=0.25,
    record_offset=2000,
    key=b"AAPL",
    event_type="tidemill.market_data.MarketDataRecorded",
    payload=b"payload",
    chain=1,
    trace=None,
)


async def open_codec(registry: MemoryRegistry | None = None) -> AvroOutcomeCodec:
    return await AvroOutcomeCodec.open(MARKET_DATA.topics, OUTCOME, clock=SystemClock(), registry=registry)


async def test_an_applied_command() -> None:
    codec = await open_codec()
    [value] = codec.encode(LANE, [APPLIED])
    assert value[:10] == b"\xc3\x01" + OUTCOME[NAME].current.fingerprint
    assert codec.decode(value) == {
        "success": True,
        "transaction_id": "market-data/63/1042",
        "affected_rows": 1,
        "execution_time": 0.25,
        "error_message": None,
        "command_id": COMMAND_ID,
        "service_name": "quotes",
        "correlation_id": "c",
        "outcome": "applied",
        "original": None,
        "code": None,
        "aggregate": "market-data",
        "partition": 63,
        "record_offset": 2000,
        "position": 1042,
        "sequence": 1000,
        "recorded_at": NOON,
    }


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            APPLIED._replace(event_type=None, payload=None),
            {"success": True, "affected_rows": 0, "transaction_id": "market-data/63/1042"},
        ),
        (
            APPLIED._replace(outcome=b"r", code="INVALID", detail="price: ünknown", event_type=None),
            {
                "success": False,
                "affected_rows": 0,
                "outcome": "rejected",
                "code": "INVALID",
                "error_message": "price: ünknown",
                "transaction_id": None,
            },
        ),
        (
            APPLIED._replace(outcome=b"d", original=b"a", event_type=None),
            {"success": True, "outcome": "duplicate", "original": "applied", "affected_rows": 0},
        ),
        (
            APPLIED._replace(
                outcome=b"d", original=b"r", code="NOT_FOUND", detail="no such", event_type=None
            ),
            {"success": False, "outcome": "duplicate", "original": "rejected", "code": "NOT_FOUND"},
        ),
        (
            APPLIED._replace(
                outcome=b"p",
                code="MALFORMED",
                command_id=None,
                service=None,
                correlation=None,
                event_type=None,
            ),
            {"success": False, "outcome": "parked", "command_id": None, "service_name": None},
        ),
        (APPLIED._replace(client_id="order 17"), {"command_id": "order 17"}),
        (
            APPLIED._replace(rows=10_000),
            {"affected_rows": 10_000, "execution_time": 0.25, "command_id": COMMAND_ID},
        ),
        (APPLIED._replace(rows=0), {"affected_rows": 0, "success": True}),
        (
            APPLIED._replace(outcome=b"d", original=b"a", event_type=None, rows=10_000),
            {"outcome": "duplicate", "affected_rows": 10_000},
        ),
    ],
)
async def test_other_dispositions(item: OutboxItem, expected: dict[str, object]) -> None:
    codec = await open_codec()
    decoded = codec.decode(codec.encode(LANE, [item])[0])
    assert {name: decoded[name] for name in expected} == expected


TEXTS = st.none() | st.text(max_size=100)
ITEMS = st.builds(
    OutboxItem,
    position=st.integers(0, 2**63 - 1),
    item=st.just(0),
    outcome=st.sampled_from([outcome.letter for outcome in Outcome]),
    original=st.none() | st.sampled_from([b"a", b"r"]),
    code=TEXTS,
    detail=TEXTS,
    command_id=st.none() | st.uuids().map(str),
    service=TEXTS,
    correlation=TEXTS,
    sequence=st.integers(0, 2**63 - 1),
    at=st.datetimes(timezones=st.just(UTC)),
    seconds=st.floats(allow_nan=False),
    record_offset=st.integers(0, 2**63 - 1),
    key=st.none(),
    event_type=TEXTS,
    payload=st.none(),
    chain=st.just(0),
    rows=st.none() | st.integers(0, 2**31 - 1),
    trace=st.none(),
)


@given(st.lists(ITEMS, max_size=5), st.integers(0, 2**31 - 1))
async def test_fastavro_reads_what_is_written(items: list[OutboxItem], partition: int) -> None:
    codec = await open_codec()
    parsed = parse_schema(json.loads(OUTCOME[NAME].current.text))
    for item, value in zip(items, codec.encode(replace(LANE, partition=partition), items), strict=True):
        buffer = io.BytesIO(value[10:])
        read = schemaless_reader(buffer, parsed, None)
        assert buffer.read() == b""
        assert isinstance(read, dict)
        assert tuple(read) == FIELDS
        assert read == codec.decode(value)
        assert (read["position"], read["error_message"]) == (item.position, item.detail)
        assert (read["recorded_at"], read["execution_time"]) == (item.at, item.seconds)


async def test_with_a_registry_the_id_stands_in_front() -> None:
    registry = MemoryRegistry()
    with pytest.raises(ContractError, match="tidemill schemas register"):
        await open_codec(registry)
    [registration] = await register_schemas(registry, MARKET_DATA.topics, OUTCOME)
    codec = await open_codec(registry)
    [value] = codec.encode(LANE, [APPLIED])
    assert value[:5] == b"\x00" + registration.schema_id.to_bytes(4, "big")
    assert codec.decode(value)["sequence"] == 1000
    with pytest.raises(Unreadable):
        codec.decode(value[:-1])


async def test_another_schema_is_refused_at_start() -> None:
    changed = replace(OUTCOME[NAME], current=without_field(OUTCOME[NAME].current, "sequence"))
    with pytest.raises(ContractError, match="must have the fields"):
        await AvroOutcomeCodec.open(MARKET_DATA.topics, {NAME: changed}, clock=SystemClock())


async def test_an_outcome_costs_a_handful_of_calls() -> None:
    codec = await open_codec()
    calls: dict[int, int] = {}
    for count in (100, 1_100):
        items = [
            APPLIED._replace(position=number, command_id=str(UUID(int=number))) for number in range(count)
        ]
        with counted_calls() as counted:
            assert len(codec.encode(LANE, items)) == count
        calls[count] = counted()
    assert (calls[1_100] - calls[100]) / 1_000 < MAX_CALLS
