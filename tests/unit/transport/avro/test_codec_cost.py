"""What strictness costs: measured against fastavro's bare functions in the same run."""

from __future__ import annotations

import gc
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any
from uuid import UUID

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer

from tests.support.engine.streams import MARKET_DATA, messages_of
from tidemill.commands.ports import Decoded
from tidemill.contexts.market_data.messages import MarketDataRecorded
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec

RECORDS = 50
ROUNDS = 400
"""A round takes some milliseconds: on a busy machine, too, some of so many go by without a neighbour in the caches."""
ALLOWED = {
    "appended": 1.0,
    "encoded": 1.3,
}  # 1.3 is the promise; who repeats a command's bytes is far below it


def traced() -> bool:
    """Whether coverage or a debugger looks at every line."""
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    return sys.gettrace() is not None or (
        monitoring is not None and monitoring.get_tool(monitoring.COVERAGE_ID) is not None
    )


def seconds(work: Callable[[], Any]) -> float:
    """Of CPU: what else runs on the machine does not count."""
    start = process_time()
    work()
    return process_time() - start


@pytest.mark.skipif(
    traced(), reason="a tracer slows our Python and not fastavro's C: nothing could be compared"
)
@pytest.mark.parametrize("way", ALLOWED)
async def test_strict_decode_and_event_cost_at_most_what_is_promised(way: str) -> None:
    codec = await StreamCodec.open(MARKET_DATA, messages_of("market_data"), clock=SystemClock())
    schema = messages_of("market_data")["tidemill.market_data.RecordMarketData"].current
    parsed = parse_schema(json.loads(schema.text))
    bodies = [written(parsed, command(number)) for number in range(RECORDS)]
    values = [b"\xc3\x01" + schema.fingerprint + body for body in bodies]

    def bare() -> list[bytes]:
        return [written(parsed, schemaless_reader(io.BytesIO(body), parsed, None)) for body in bodies]

    event = MarketDataRecorded(**{name: command(0)[name] for name in MarketDataRecorded.model_fields})

    def strict() -> list[bytes]:
        return [
            codec.appended_event(decoded, MarketDataRecorded)
            if way == "appended"
            else codec.encode_event(event)
            for decoded in codec.decode(values)
            if isinstance(decoded, Decoded)
        ]

    assert len(strict()) == RECORDS
    gc.disable()
    try:
        rounds = [(seconds(bare), seconds(strict)) for _ in range(ROUNDS)]
    finally:
        gc.enable()
    ours, theirs = min(each[1] for each in rounds), min(each[0] for each in rounds)
    figures = (
        f"strict {ours / RECORDS * 1e6:.2f} us, bare {theirs / RECORDS * 1e6:.2f} us: {ours / theirs:.2f}"
    )
    assert ours <= ALLOWED[way] * theirs, figures


def written(parsed: Any, fields: Any) -> bytes:
    buffer = io.BytesIO()
    schemaless_writer(buffer, parsed, fields)
    return buffer.getvalue()


def command(number: int) -> dict[str, Any]:
    at = datetime(2013, 3, 1, tzinfo=UTC) + timedelta(seconds=number)
    return {
        "command_id": str(UUID(int=number << 64)),
        "service_name": "quotes",
        "timestamp": at,
        "correlation_id": None,
        "symbol": "AAPL",
        "time": at,
        "price": 430.47 + number,
        "open": 438.0,
        "high": 438.18,
        "low": 429.98,
        "volume": 19730300.0,
        "source": "bokeh",
    }
