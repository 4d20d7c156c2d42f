"""A topic that only the test writes: the projector drops what it had, halts before a gap, and goes on by itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.clients.outsiders import Outsider, Sending, single_object
from tests.support.servers.installation import Installation, Serving, installation_on
from tests.support.waiting import eventually_blocking
from tidemill.runtime.resources import schemas_dir
from tidemill_devkit.stack import Stack

SYMBOL = b"ACME"
LANE = 2
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
READ_MODELS = {"latest-quotes", "daily-bars"}


@pytest.fixture
def installation(stack: Stack, database: str, topic_prefix: str, tmp_path: Path) -> Installation:
    """Four lanes; nothing takes commands in."""
    installation = installation_on(stack, database, topic_prefix, tmp_path, partitions=4)
    installation("schemas", "register")
    installation("topics", "create")
    return installation


@pytest.fixture
def projecting(installation: Installation) -> Iterator[Serving]:
    with installation.serving("projections") as serving:
        yield serving


@pytest.fixture
def outsider(stack: Stack, installation: Installation) -> Outsider:
    return Outsider(stack.kafka_bootstrap, stack.registry_url or "", installation.prefix)


def event(sequence: int) -> Sending:
    """The event with this number: at noon and so many seconds, worth the number; as the relay would send it."""
    encode = single_object(schemas_dir() / "market_data" / "events" / "MarketDataRecorded.avsc")
    time = NOON + timedelta(seconds=sequence)
    base = {"command_id": str(uuid4()), "service_name": "outsider", "timestamp": NOON}
    facts = {
        "symbol": SYMBOL.decode(),
        "time": time,
        "price": float(sequence),
        "volume": 10.0,
        "source": "test",
    }
    headers = {
        "ce_type": "tidemill.market_data.MarketDataRecorded",
        "ce_time": time.isoformat(timespec="microseconds"),
        "tm_sequence": str(sequence),
    }
    carried = [(name, value.encode()) for name, value in headers.items()]
    return Sending(SYMBOL, encode(base | facts), carried, partition=LANE)


def latest(installation: Installation) -> tuple[float, int] | None:
    """Price of the latest quote, and how many events made it."""
    rows: list[dict[str, Any]] = installation("query", "latest-quotes", "--json").json()
    return (rows[0]["price"], rows[0]["version"]) if rows else None


def ticks(installation: Installation) -> int:
    rows: list[dict[str, Any]] = installation("query", "daily-bars", "--json").json()
    return sum(row["ticks"] for row in rows)


def halts(installation: Installation) -> dict[str, str]:
    status = installation("status", "--json", expect=None).json()
    return {halt["what"]: halt["detail"] for halt in status["halts"]}


def test_a_repeat_is_dropped_a_gap_halts_and_the_missing_event_mends_it(
    installation: Installation, projecting: Serving, outsider: Outsider
) -> None:
    topic = outsider.topic("events")
    outsider.send(topic, [event(sequence) for sequence in (1, 2, 1, 4)])

    halted = {f"{name}, lane market-data/{LANE}": "expected 3, got 4" for name in READ_MODELS}
    eventually_blocking(lambda: halts(installation) == halted, what="both read models to halt")
    assert latest(installation) == (2.0, 2), "the second 1 was dropped, 4 was not folded"
    assert ticks(installation) == 2
    told = installation("status", expect=1).out
    for line in halted:
        assert f"halted {line} since" in told
    assert told.count("expected 3, got 4") == len(READ_MODELS)
    status, health = projecting.health()
    assert status == 200, "no restart would repair it: the process is well, and says what it waits for"
    shown = health["services"]["read models of market-data"]
    assert {shown[name]["halted"][str(LANE)] for name in READ_MODELS} == {"expected 3, got 4"}

    outsider.send(topic, [event(sequence) for sequence in (3, 4)])
    eventually_blocking(lambda: latest(installation) == (4.0, 4), what="the latest quote to be event 4")
    eventually_blocking(lambda: ticks(installation) == 4, what="the daily bar to have four ticks")
    eventually_blocking(lambda: not halts(installation), what="nothing to be halted")
    assert "expected" not in installation("status", expect=0).out
    assert projecting.health()[0] == 200
    assert projecting.process.poll() is None
