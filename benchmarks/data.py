"""The commands that every side works on: the same bytes, made once per round."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.partitioner import partition_of
from tidemill.transport.avro.codec import StreamCodec

PARTITIONS = 4
SYMBOLS = 1000
START = datetime(2026, 1, 5, tzinfo=UTC)

Keyed = tuple[int, bytes, bytes]
"""Partition, key, framed value."""


async def market_data(codec: StreamCodec, count: int, seed: int) -> list[Keyed]:
    """Return `count` commands with random v4 ids over 1,000 symbols, 10 ms apart."""
    made = []
    for command in _commands(count, seed):
        key = command.symbol.encode()
        made.append((partition_of(key, PARTITIONS), key, await codec.encode_command(command)))
    return made


def _commands(count: int, seed: int) -> Iterator[RecordMarketData]:
    source = random.Random(seed)
    for number in range(count):
        yield RecordMarketData(
            command_id=str(UUID(int=source.getrandbits(128), version=4)),
            service_name="feed",
            timestamp=START + timedelta(microseconds=number),
            symbol=f"S{source.randrange(SYMBOLS):03d}",
            time=START + timedelta(milliseconds=10 * number),
            price=100 + source.random(),
            volume=source.random() * 1000,
            source="nyse",
        )
