"""One command of the built-in contexts as bytes, and a codec to read it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastavro import parse_schema, schemaless_writer

from tests.fakes.registry import MemoryRegistry
from tests.support.engine.streams import MARKET_DATA, messages_of
from tidemill.catalog.registration import register_schemas
from tidemill.catalog.schemas import MessageSchema, Schema
from tidemill.commands.ports import Decoded
from tidemill.domain.errors import Unreadable
from tidemill.domain.stream import Stream
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.wire import prefix_of_fingerprint

RECORD = "tidemill.market_data.RecordMarketData"
RECORDED = "tidemill.market_data.MarketDataRecorded"
MARKET = messages_of("market_data")
NOON = datetime(2024, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
TICK: dict[str, Any] = {
    "command_id": "one",
    "service_name": "quotes",
    "timestamp": NOON,
    "correlation_id": "c",
    "symbol": "AAPL",
    "time": NOON,
    "price": 430.47,
    "open": None,
    "high": 438.18,
    "low": None,
    "volume": None,
    "source": "test",
}


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now(self) -> datetime:
        return NOON

    def monotonic_s(self) -> float:
        return self.at_s


async def market_codec(
    registry: MemoryRegistry | None = None, messages: Mapping[str, MessageSchema] = MARKET, **options: Any
) -> StreamCodec:
    return await StreamCodec.open(MARKET_DATA, messages, clock=HandClock(), registry=registry, **options)


async def registered(
    messages: Mapping[str, MessageSchema] = MARKET, stream: Stream = MARKET_DATA
) -> MemoryRegistry:
    registry = MemoryRegistry()
    await register_schemas(registry, stream.topics, messages)
    return registry


def body(schema: Schema, fields: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    schemaless_writer(buffer, parse_schema(json.loads(schema.text)), fields)
    return buffer.getvalue()


def single_object(schema: Schema, fields: dict[str, Any]) -> bytes:
    return prefix_of_fingerprint(schema.fingerprint) + body(schema, fields)


def read(codec: StreamCodec, value: bytes) -> Decoded:
    [decoded] = codec.decode([value])
    assert isinstance(decoded, Decoded), decoded
    return decoded


def refused(codec: StreamCodec, value: bytes) -> Unreadable:
    [decoded] = codec.decode([value])
    assert isinstance(decoded, Unreadable), decoded
    return decoded
