"""kcat, Kafka's console consumer and kafkajs read the events, each with the headers that are documented."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from tests.support.clients.node import run_node
from tests.support.clients.outsiders import Fields, Outsider, Place, Sending, single_object
from tests.support.servers.installation import Installation
from tests.support.waiting import HANGING_S
from tidemill.runtime.resources import schemas_dir
from tidemill_devkit.stack import MissingPrerequisiteError, console_consumer_command, kcat_command

NOON = datetime(2024, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TIMEOUT_S = HANGING_S
EVENTS = 12

Headers = dict[str, str]
Seen = dict[Place, tuple[str, Headers]]
"""Place -> key and headers, as a program printed them."""


@dataclass(frozen=True)
class Event:
    """What must be read of a command's event."""

    key: str
    partition: int
    headers: Headers


@pytest.fixture(scope="module")
def published(outsider: Outsider) -> dict[str, Event]:
    """Commands that were applied: command_id -> the event; all but the first were traced."""
    schema = schemas_dir() / "market_data" / "commands" / "RecordMarketData.avsc"
    encode, stem = single_object(schema), uuid4().hex[:8].upper()
    commands = [command(f"{stem}{number % 5}") for number in range(EVENTS)]
    traces = [[], *[[("traceparent", TRACE.encode())]] * (EVENTS - 1)]
    sending = [
        Sending(each["symbol"].encode(), encode(each), trace)
        for each, trace in zip(commands, traces, strict=True)
    ]
    outcomes = outsider.outcomes_of(outsider.send(outsider.topic("commands"), sending))
    assert {outcome["outcome"] for outcome in outcomes} == {"applied"}
    return {
        each["command_id"]: event_of(each, outcome, trace)
        for each, outcome, trace in zip(commands, outcomes, traces, strict=True)
    }


def command(symbol: str) -> Fields:
    base = {
        "command_id": str(uuid4()),
        "service_name": "outsider",
        "timestamp": NOON,
        "correlation_id": "c 7",
    }
    return base | {"symbol": symbol, "time": NOON, "price": 1.0, "source": "test"}


def event_of(sent: Fields, outcome: Fields, trace: list[tuple[str, bytes]]) -> Event:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": f"{sent['command_id']}:1",
        "ce_type": "tidemill.market_data.MarketDataRecorded",
        "ce_source": "/tidemill/market-data",
        "ce_time": f"{outcome['recorded_at']:%Y-%m-%dT%H:%M:%S.%fZ}",
        "ce_subject": sent["symbol"],
        "content-type": "application/avro",
        "ce_correlationid": "c 7",
        "ce_causationid": sent["command_id"],
        "tm_timeline": "1",
        "tm_position": str(outcome["position"]),
        "tm_sequence": str(outcome["sequence"]),
    }
    traced = {name: value.decode() for name, value in trace}
    return Event(sent["symbol"], outcome["partition"], headers | traced)


def kcat(outsider: Outsider, topic: str, count: int) -> Seen:
    del count  # it ends at the end of the topic
    where = [*_command(kcat_command), "-b", outsider.bootstrap, "-X", "isolation.level=read_committed"]
    printed = _output([*where, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", r"%p %o\t%k\t%h\n"])
    return dict(_kcat_lines(printed))


def _kcat_lines(printed: str) -> Iterator[tuple[Place, tuple[str, Headers]]]:
    for line in printed.splitlines():
        place, key, headers = line.split("\t")
        partition, offset = place.split()
        pairs = dict(header.split("=", 1) for header in headers.split(","))
        yield Place(int(partition), int(offset)), (key, pairs)


def console_consumer(outsider: Outsider, topic: str, count: int) -> Seen:
    shown = ("partition", "offset", "headers", "key")
    options = [option for name in shown for option in ("--formatter-property", f"print.{name}=true")]
    where = [
        "--bootstrap-server",
        outsider.bootstrap,
        "--topic",
        topic,
        "--isolation-level",
        "read_committed",
    ]
    command = [*_command(console_consumer_command), *where, "--from-beginning", *options]
    printed = _output([*command, "--formatter-property", "print.value=false", "--max-messages", str(count)])
    return dict(_console_lines(printed))


def _console_lines(printed: str) -> Iterator[tuple[Place, tuple[str, Headers]]]:
    for line in printed.splitlines():
        partition, offset, headers, key = line.split("\t")
        place = Place(int(partition.removeprefix("Partition:")), int(offset.removeprefix("Offset:")))
        yield place, (key, dict(header.split(":", 1) for header in headers.split(",")))


def kafkajs(outsider: Outsider, topic: str, count: int) -> Seen:
    printed = run_node("consume.js", outsider.bootstrap, topic, str(count))
    events = map(json.loads, printed.splitlines())
    return {Place(event["partition"], event["offset"]): (event["key"], event["headers"]) for event in events}


def _command(find: Callable[[], list[str]]) -> list[str]:
    try:
        return find()
    except MissingPrerequisiteError as missing:
        pytest.skip(str(missing))


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture(
    scope="module", params=[kcat, console_consumer, kafkajs], ids=["kcat", "console consumer", "kafkajs"]
)
def seen(
    request: pytest.FixtureRequest, installed: Installation, outsider: Outsider, published: dict[str, Event]
) -> Seen:
    """Every event of the topic, as one of the programs prints it."""
    [(count,)] = installed.fetch("select sum(events)::int from tm.batch")
    found: Seen = request.param(outsider, outsider.topic("events"), count)
    assert len(found) == count
    return found


def test_events_carry_the_documented_headers(seen: Seen, published: dict[str, Event]) -> None:
    ours = {
        headers["ce_causationid"]: (place, key, headers)
        for place, (key, headers) in seen.items()
        if headers["ce_causationid"] in published  # the others are another test's
    }
    assert ours.keys() == published.keys()
    for command_id, event in published.items():
        place, key, headers = ours[command_id]
        assert (key, place.partition) == (event.key, event.partition)
        assert headers == event.headers | {"tm_chain": headers["tm_chain"]}  # its value: see the next test


def test_every_lane_is_dense_and_its_chain_can_be_checked(seen: Seen) -> None:
    lanes: dict[int, list[Headers]] = {}
    for place, (_, headers) in sorted(seen.items()):
        lanes.setdefault(place.partition, []).append(headers)
    assert len(lanes) > 1
    for events in lanes.values():
        assert [int(event["tm_sequence"]) for event in events] == list(range(1, len(events) + 1))
        chain = 0
        for event in events:
            before = chain.to_bytes(8, "big", signed=True)
            digest = hashlib.blake2b(before + event["ce_id"].encode(), digest_size=8).digest()
            chain = int.from_bytes(digest, "big", signed=True)
            assert int(event["tm_chain"]) == chain
