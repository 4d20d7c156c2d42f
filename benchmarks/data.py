"""The commands that every side works on: the same bytes, made once.

Made from the schema's file alone, by fastavro and Kafka's own hash, and by nothing of Tidemill's code: an older version
gets the same ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
from aiokafka.partitioner import murmur2
from fastavro.schema import fingerprint, to_parsing_canonical_form

PARTITIONS = 4
SYMBOLS = 1000
START = datetime(2026, 1, 5, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[1]
_COMMAND = Path("schemas") / "market_data" / "commands" / "RecordMarketData.avsc"
_MARKER = b"\xc3\x01"

Keyed = tuple[int, bytes, bytes]
"""Partition, key, framed value."""


def market_data(count: int, seed: int, *, checkout: Path = ROOT) -> list[Keyed]:
    """Return `count` commands with random v4 ids over 1,000 symbols, 10 ms apart, as the schema of `checkout` has them.

    Framed in Avro's single-object encoding.
    """
    raw = json.loads((checkout / _COMMAND).read_text())
    schema = fastavro.parse_schema(raw)
    frame = _MARKER + bytes.fromhex(fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO"))
    made = []
    for command in _commands(count, seed):
        key = command["symbol"].encode()
        body = BytesIO()
        fastavro.schemaless_writer(body, schema, command)
        made.append((partition_of(key), key, frame + body.getvalue()))
    return made


@cache
def partition_of(key: bytes) -> int:
    """Return the partition that Kafka's default partitioner chooses."""
    return int(murmur2(key) & 0x7FFFFFFF) % PARTITIONS


def _commands(count: int, seed: int) -> Iterator[dict[str, Any]]:
    source = random.Random(seed)
    for number in range(count):
        yield {
            "command_id": str(UUID(int=source.getrandbits(128), version=4)),
            "service_name": "feed",
            "timestamp": START + timedelta(microseconds=number),
            "symbol": f"S{source.randrange(SYMBOLS):03d}",
            "time": START + timedelta(milliseconds=10 * number),
            "price": 100 + source.random(),
            "volume": source.random() * 1000,
            "source": "nyse",
        }
