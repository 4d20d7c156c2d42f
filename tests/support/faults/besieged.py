"""A process that serves while a client sends batches that become much more than they weigh."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from aiokafka import AIOKafkaProducer

from tests.support.clients.crowds import send_crowd
from tests.support.servers.installation import Installation, Serving, installation_on
from tests.support.waiting import eventually_blocking
from tidemill.domain.lane import StreamTopics
from tidemill_devkit.stack import Stack

MEBIBYTE = 1 << 20
MAX_RSS = 400 * MEBIBYTE
LANES = 4
WAIT_S = 300
GOOD_SYMBOLS = [f"S{number}" for number in range(200)]

_UNPUBLISHED = """
select from tm.published join (
  select lane, max(position) as newest
  from (select lane, position from tm.outbox union all select lane, position from tm.pack) as stored group by lane)
as outbox using (lane)
where position < newest
"""


def besieged_installation(stack: Stack, database: str, prefix: str, folder: Path) -> Installation:
    """Return an installation whose schemas and topics are there; nothing serves yet."""
    installation = installation_on(stack, database, prefix, folder, partitions=LANES)
    installation("schemas", "register")
    installation("topics", "create")
    return installation


def commands_of(installation: Installation) -> str:
    """Return the topic of its market data commands."""
    return StreamTopics.of("market-data", prefix=installation.prefix).commands


def send_batches(
    installation: Installation, topic: str, batches: Sequence[tuple[int, Sequence[bytes]]]
) -> None:
    """Send (partition, records) to a topic, a batch each."""

    async def send() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=installation.environment["TIDEMILL_KAFKA_BOOTSTRAP"],
            max_request_size=64 * MEBIBYTE,
        ) as producer:
            for partition, records in batches:
                await send_crowd(producer, topic, partition, records)

    asyncio.run(send())


def publish_good_ones(installation: Installation, *, wait: bool = True) -> None:
    """Publish commands for all lanes; `wait` until each has its outcome."""
    lines = [
        json.dumps({"symbol": symbol, "time": "2013-02-01T00:00:00Z", "price": 1, "source": "test"})
        for symbol in GOOD_SYMBOLS
    ]
    waiting = ("--wait", "--timeout", str(WAIT_S)) if wait else ()
    installation("publish", "RecordMarketData", "-", *waiting, stdin="\n".join(lines))
    if wait:
        [(rows,)] = installation.fetch("select count(*)::int from public.market_data")
        assert rows == len(GOOD_SYMBOLS)


def parked(installation: Installation) -> dict[str, int]:
    """Return how many records are parked, by code."""
    return dict(installation.fetch("select code, count(*)::int from tm.parked group by code"))


def wait_for_parked(installation: Installation, count: int) -> None:
    """Wait until so many are parked as too big, and published."""
    eventually_blocking(
        lambda: parked(installation) == {"TOO_BIG": count},
        WAIT_S,
        f"{count} records to be parked",
    )
    eventually_blocking(lambda: not installation.fetch(_UNPUBLISHED), WAIT_S, "all of it to be published")


def peak_rss(serving: Serving) -> int:
    """Return the most memory that the process ever had, in bytes."""
    status = Path(f"/proc/{serving.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def check_unharmed(serving: Serving) -> None:
    """Check that a process has borne it: its memory, its lanes, its end."""
    assert peak_rss(serving) <= MAX_RSS, f"{peak_rss(serving) >> 20} MiB"
    events = {line["event"] for line in serving.lines()}
    assert "lanes_lost" not in events
    assert serving.well()
    assert serving.stop() == 0
