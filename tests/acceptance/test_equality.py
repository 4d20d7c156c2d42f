"""The tool that compares two deployments as subscribers and SQL see them finds what was planted, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer

from benchmarks import equality
from benchmarks.equality import Difference, Picture, Side, differences, main, read_tables, read_topics
from tests.acceptance.conftest import make_deployment
from tests.support.clients.clients import Client, Outgoing
from tests.support.clients.journeys import Deployment
from tests.support.servers.databases import execute
from tidemill_devkit.stack import Stack

OUTCOMES = parse_schema(json.loads(equality.OUTCOME.read_text()))
FINGERPRINTED = b"\xc3\x01" + bytes(8)
SEALED = b"tms1:7:" + b"A" * 40


def outcome(code: str | None = None, seconds: float = 0.1) -> bytes:
    """Return the value of an outcome as a topic has it."""
    fields = {
        "success": code is None,
        "affected_rows": 1,
        "execution_time": seconds,
        "outcome": "applied",
        "aggregate": "goods",
        "partition": 0,
        "record_offset": 3,
        "position": 4,
        "sequence": 4,
        "recorded_at": 0,
        "code": code,
    }
    body = BytesIO()
    schemaless_writer(body, OUTCOMES, fields)
    return FINGERPRINTED + body.getvalue()


def record(number: int, value: bytes = b"\x02goods", **headers: bytes) -> Outgoing:
    """Return a record of partition 0 with headers as an event has them."""
    own = {"ce_type": b"goods.Sold", "ce_time": b"now", "tm_sequence": b"%d" % number}
    return Outgoing(b"k%d" % (number % 2), value, 0, [*(own | headers).items()])


OUTCOME_TYPE = b"tidemill.outcome.CommandOutcome"
RECORDS: Sequence[Outgoing] = [
    *(record(number) for number in range(1, 4)),
    record(4, SEALED),
    record(5, outcome(), ce_type=OUTCOME_TYPE),
]

Plant = Callable[[list[Outgoing]], None]


def change(at: int, new: Outgoing) -> Plant:
    return lambda records: records.__setitem__(at, new)


def swap(records: list[Outgoing]) -> None:
    records[1], records[2] = records[2], records[1]


TOPIC_PLANTS: dict[str, Plant] = {
    "a record is missing": lambda records: records.__delitem__(2),
    "a record is there twice": lambda records: records.insert(2, records[2]),
    "two records have changed places": swap,
    "a record stands in another partition": change(2, RECORDS[2]._replace(partition=1)),
    "a key is another one": change(2, RECORDS[2]._replace(key=b"k9")),
    "a key is null": change(2, RECORDS[2]._replace(key=None)),
    "a value differs in one bit": change(2, RECORDS[2]._replace(value=b"\x02good\x72")),
    "a value is null": change(2, RECORDS[2]._replace(value=None)),
    "a header has another value": change(2, record(3, tm_sequence=b"4")),
    "a header is missing": change(2, RECORDS[2]._replace(headers=RECORDS[2].headers[:-1])),
    "a header is there twice": change(2, RECORDS[2]._replace(headers=[*RECORDS[2].headers] * 2)),
    "headers have another order": change(2, RECORDS[2]._replace(headers=[*RECORDS[2].headers][::-1])),
    "an outcome has another code": change(4, record(5, outcome("INVALID"), ce_type=OUTCOME_TYPE)),
    "a ciphertext is longer": change(3, record(4, SEALED + b"A")),
}


@pytest.fixture
def left(stack: Stack, unique_name: Callable[[str], str]) -> Side:
    """A side with one topic of two partitions; it has no database."""
    side = Side("", stack.kafka_bootstrap, unique_name("left"))
    fill(side, RECORDS)
    return side


def fill(side: Side, records: Sequence[Outgoing]) -> None:
    client, topic = Client(side.kafka), f"{side.prefix}.goods.events.v1"
    client.create(topic, 2)
    client.send(topic, records)


def found_in_topics(left: Side, right: Side) -> list[Difference]:
    return list(differences(Picture(read_topics(left), {}), Picture(read_topics(right), {})))


def test_what_differs_by_time_prefix_and_encryption_is_alike(
    left: Side, unique_name: Callable[[str], str]
) -> None:
    right = replace(left, prefix=unique_name("right"))
    topic = b"%s.goods.commands.v1"
    fill(
        right,
        [
            *(record(number, ce_time=b"later") for number in range(1, 4)),
            record(4, SEALED.replace(b"A", b"B")),
            record(5, outcome(seconds=9.0), ce_type=OUTCOME_TYPE),
            record(6, origin=topic % right.prefix.encode()),
        ],
    )
    Client(left.kafka).send(
        f"{left.prefix}.goods.events.v1", [record(6, origin=topic % left.prefix.encode())]
    )
    assert found_in_topics(left, right) == []


@pytest.mark.parametrize("plant", TOPIC_PLANTS.values(), ids=TOPIC_PLANTS.keys())
def test_what_is_planted_in_a_topic_is_found(
    left: Side, unique_name: Callable[[str], str], plant: Plant
) -> None:
    records = [*RECORDS]
    plant(records)
    right = replace(left, prefix=unique_name("right"))
    fill(right, records)
    assert found_in_topics(left, right)


def test_a_topic_that_one_side_lacks_is_found(left: Side, unique_name: Callable[[str], str]) -> None:
    right = replace(left, prefix=unique_name("right"))
    fill(right, RECORDS)
    Client(left.kafka).create(f"{left.prefix}.goods.outcomes.v1", 1)
    assert [difference.place for difference in found_in_topics(left, right)] == ["goods.outcomes.v1/0"]


ROWS = (
    """insert into public.market_data (time, symbol, price, volume, source, command_id) values
       ('2026-01-05', 'A', 0.1, 0, 'nyse', '00000000-0000-4000-8000-000000000001'),
       ('2026-01-06', 'B', 2, null, 'nyse', '00000000-0000-4000-8000-000000000002')""",
    """insert into tm.lane
       (aggregate, partition, partitions, command_topic, event_topic, outcome_topic, dead_letter_topic)
       values ('goods', 0, 1, 'c', 'e', 'o', 'd')""",
    """insert into tm.log (lane, gen, position, digest, outcome, events, sequence, at, type)
       select lane, gen, 1, -1, 'a', 1, 1, now(), 'goods.Sell' from tm.lane, tm.generation where aggregate = 'goods'""",
)
TABLE_PLANTS = {
    "a row is missing": "delete from public.market_data where symbol = 'A'",
    "a row is there twice": "insert into public.market_data select * from public.market_data where symbol = 'A'",
    "a number is the next one": "update public.market_data set price = 0.1::float8 + 1.4e-17 where symbol = 'A'",
    "zero is negative": "update public.market_data set volume = -0.0::float8 where symbol = 'A'",
    "null is a value": "update public.market_data set volume = 'NaN' where symbol = 'B'",
    "a text is longer by a blank": "update public.market_data set source = 'nyse ' where symbol = 'A'",
    "a time is a microsecond later": "update public.market_data set time = time + interval '1 microsecond'",
    "a table has one more column": "alter table public.market_data add column more int",
    "a table is not there": "drop table public.daily_bars cascade",
    "another outcome was decided": "update tm.log set outcome = 'r'",
    "a digest has another bit": "update tm.log set digest = digest # 4",
    "a lane is at another position": """insert into tm.batch (lane, gen, batch, epoch, timeline, from_offset, to_offset,
        position, sequence, chain, applied, rejected, duplicate, parked, events, at)
        select lane, gen, 9, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, now() from tm.lane, tm.generation""",
}


@pytest.mark.parametrize("plant", TABLE_PLANTS.values(), ids=TABLE_PLANTS.keys())
def test_what_is_planted_in_a_table_is_found(database: str, plant: str) -> None:
    execute(database, *ROWS)
    side = Side(database, "", "t")
    before, same = (Picture({}, asyncio.run(read_tables(side))) for _ in range(2))
    assert not [*differences(before, same)]
    execute(database, plant)
    after = Picture({}, asyncio.run(read_tables(side)))
    assert [*differences(before, after)]


# --- two deployments --------------------------------------------------------------------------------------------------


def odd(deployment: Deployment) -> list[Outgoing]:
    """Return commands of which a tenth is none: repeats, reused ids, garbage, in a wrong partition, invalid."""
    ticks = deployment.ticks(40)
    repeats = [tick.record() for tick in ticks[:3]]
    reused = [replace(tick, price=99.0).record() for tick in ticks[3:5]]
    wrong = [tick.record(partition=1 - index % 2) for index, tick in enumerate(deployment.ticks(1))]
    garbage = [Outgoing(b"S0", b"garbage", 0), Outgoing(b"S0", ticks[0].value[:-1], 0)]
    invalid = [replace(tick, price=-1.0).record() for tick in deployment.ticks(1)]
    return [tick.record() for tick in ticks] + repeats + reused + wrong + garbage + invalid


@pytest.fixture
def pair(
    stack: Stack,
    new_database: Callable[[], Any],
    unique_name: Callable[[str], str],
    tmp_path: Path,
    exit_stack: ExitStack,
) -> tuple[Deployment, Deployment]:
    """Two deployments of which nobody serves yet."""

    def made(name: str) -> Deployment:
        (folder := tmp_path / name).mkdir()
        database = exit_stack.enter_context(new_database())
        return make_deployment(stack, database, unique_name(name), 2, folder, exit_stack)

    return made("left"), made("right")


def test_two_deployments_that_were_fed_alike_are_alike(
    pair: tuple[Deployment, Deployment], capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = pair
    records = odd(left)
    for deployment in pair:
        deployment.start("all")
    left.client.send(left.topics.commands, records)
    for first in range(0, len(records), 10):  # in other batches
        right.client.send(right.topics.commands, records[first : first + 10])
    for deployment in pair:
        deployment.await_consumed(len(records))
        deployment("audit", "--wait", "300", expect=None)
    sides = [
        [name, deployment.installation.database, deployment.client.bootstrap, deployment.installation.prefix]
        for name, deployment in zip(("--left", "--right"), pair, strict=True)
    ]
    assert main([*sides[0], *sides[1]]) == 0, capsys.readouterr().out

    (deployment := right).send(right.ticks(1, 0))
    deployment.await_consumed(len(records) + 1)
    assert main([*sides[0], *sides[1], "--json"]) == 1
    places = {difference["place"] for difference in json.loads(capsys.readouterr().out.partition("\n")[2])}
    assert {"market-data.commands.v1/0", "public.market_data", "tm.log"} <= places
