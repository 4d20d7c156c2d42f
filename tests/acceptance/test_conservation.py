"""Nothing is lost, nothing is made up: an outsider balances a run of the demo, and names the hop where a row is missing
or stands twice."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import cycle, product
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest import mock

import asyncpg
import pytest

from tests.acceptance import outsider, outsider_evidence
from tests.acceptance.outsider_evidence import (
    ARCHIVAL,
    LATE,
    ROLES,
    TABLES,
    Evidence,
    EvidenceIndex,
    Record,
    Row,
    read_tables,
)
from tests.support.waiting import HANGING_S
from tidemill.settings import Settings
from tidemill_devkit.demo.place import Servers, remove_run
from tidemill_devkit.demo.report import DemoReport
from tidemill_devkit.demo.run import run_demo
from tidemill_devkit.stack import Stack

T = TypeVar("T")
Change = Literal["delete", "double"]
Which = Literal["first", "middle", "last"]

CHANGES: tuple[Change, ...] = ("delete", "double")
WHICH: tuple[Which, ...] = ("first", "middle", "last")


class Nobody:
    """Watches without a word."""

    def began(self, run: str) -> None: ...

    def step(self, name: str) -> None: ...

    def done(self, name: str, result: str) -> None: ...

    def hops(self, hops: Sequence[Any]) -> None: ...


@dataclass(frozen=True)
class Run:
    """A run of the demo with one stock, and all that an outsider sees of it."""

    report: DemoReport
    database: str
    bootstrap: str
    evidence: Evidence

    @property
    def lake(self) -> str:
        return self.report.archive.lake


@pytest.fixture(scope="module")
def demo(stack: Stack) -> Iterator[Run]:
    """The demo with one stock instead of five; else as people see it."""
    settings = Settings.model_validate(
        {
            "database": {"url": stack.database_url},
            "kafka": {"bootstrap": stack.kafka_bootstrap},
            "registry": {"url": stack.registry_url},
        }
    )
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("TIDEMILL_")]:
            del os.environ[name]  # or the run's processes would take what is meant for the tests for theirs
        report = asyncio.run(run_demo(Servers(settings, owned=False, seconds=0.0), Nobody(), ("GOOG",)))
    try:
        database = stack.database_url.rpartition("/")[0] + f"/{report.database}"
        evidence = asyncio.run(
            outsider_evidence.collect(database, stack.kafka_bootstrap, report.archive.lake)
        )
        yield Run(report, database, stack.kafka_bootstrap, evidence)
    finally:
        asyncio.run(remove_run(settings, report.run))


def changed(items: Sequence[T], change: Change, which: Which) -> list[T]:
    """Return the items without one of them, or with one of them twice."""
    at = place_of(which, len(items))
    return [*items[:at], *([items[at]] * 2 if change == "double" else []), *items[at + 1 :]]


def place_of(which: Which, count: int) -> int:
    return {"first": 0, "middle": count // 2, "last": count - 1}[which]


def hops(evidence: Evidence) -> set[str]:
    return {finding.hop for finding in outsider.balance(evidence)}


def named_by_all(place: str, found: set[str]) -> bool:
    """Whether every hop that does not balance begins or ends at the place: nothing else is accused."""
    return bool(found) and all(place in re.split(" -> | [+] ", hop) for hop in found)


# --- the run ---------------------------------------------------------------------------------------------------------


def test_the_run_is_as_planned(demo: Run) -> None:
    assert demo.report.ok, [check for check in demo.report.checks if not check.ok]


def test_the_outsider_balances_it(demo: Run) -> None:
    assert outsider.balance(demo.evidence) == []
    topics = {
        name: [record for record in records if record.aggregate != ARCHIVAL]
        for name, records in demo.evidence.topics.items()
    }
    assert len(topics["command topic"]) == demo.report.records
    assert len(topics["event topic"]) == demo.report.events
    assert len(demo.evidence.tables["lake"]) == sum(each.rows for each in demo.report.archive.ranges) > 1_000
    assert len(topics["dead letter topic"]) == 18


def test_the_outsider_is_a_program_of_its_own(demo: Run) -> None:
    environment = {
        **os.environ,
        "TIDEMILL_DATABASE_URL": demo.database,
        "TIDEMILL_KAFKA_BOOTSTRAP": demo.bootstrap,
        "TIDEMILL_LAKE_ROOT": demo.lake,
    }
    arguments = [sys.executable, "-m", "tests.acceptance.outsider"]
    answer = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=HANGING_S, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["balanced"] is True


def test_the_outsider_uses_none_of_our_code() -> None:
    program = "import sys, tests.acceptance.outsider; sys.exit('tidemill' in sys.modules)"
    root = Path(__file__).parents[2]
    assert (
        subprocess.run([sys.executable, "-c", program], cwd=root, timeout=HANGING_S, check=False).returncode
        == 0
    )


# --- one record too few or too many ----------------------------------------------------------------------------------


def in_turn(*places: T) -> list[tuple[T, Change, Which]]:
    """Each place with each change, of the first, the middle and the last one there in turn."""
    cases = zip(product(places, CHANGES), cycle(WHICH), strict=False)
    return [(place, change, which) for (place, change), which in cases]


@pytest.mark.parametrize(
    ("place", "change", "which"),
    in_turn(
        *(
            (topic, aggregate)
            for topic in ROLES.values()
            for aggregate in ("market-data", "connector-profiles", ARCHIVAL)
            if (topic, aggregate) != ("dead letter topic", ARCHIVAL)  # every confirmation could be read
        )
    ),
)
def test_a_record_in_a_topic(demo: Run, place: tuple[str, str], change: Change, which: Which) -> None:
    topic, aggregate = place
    records = demo.evidence.topics[topic]
    of_one = [record for record in records if record.aggregate == aggregate]
    others = [record for record in records if record.aggregate != aggregate]
    topics = {**demo.evidence.topics, topic: [*others, *changed(of_one, change, which)]}
    found = hops(Evidence(topics, demo.evidence.tables))
    assert named_by_all(topic, found), found


# --- one row too few or too many -------------------------------------------------------------------------------------


async def tables_with(demo: Run, *statements: str) -> dict[str, Any]:
    """Return all tables as they would be after the statements; nothing stays."""
    async with AsyncExitStack() as shared:
        connection = await asyncpg.connect(demo.database, timeout=HANGING_S, command_timeout=HANGING_S)
        shared.push_async_callback(connection.close)
        transaction = connection.transaction()
        await transaction.start()
        shared.push_async_callback(transaction.rollback)
        for statement in statements:
            await connection.execute(statement)
        return await read_tables(connection) | {"lake": demo.evidence.tables["lake"]}


def without_uniqueness(table: str) -> str:
    """Return what lets a table hold a row twice."""
    return f"""
        do $$ declare name text; begin
          for name in select conname from pg_constraint
              where conrelid = '{table}'::regclass and contype in ('p', 'u') loop
            execute format('alter table {table} drop constraint %I', name);
          end loop;
          for name in select indexrelid::regclass from pg_index
              where indrelid = '{table}'::regclass and indisunique loop
            execute format('drop index %s', name);
          end loop;
        end $$"""


# `lane` is no hop that anything passes, but the map by which the outsider places rows and finds topics; a new database
# has its outbox in packs
@pytest.mark.parametrize(("name", "change", "which"), in_turn(*sorted(TABLES.keys() - {"lane", "outbox"})))
async def test_a_row_in_a_table(demo: Run, name: str, change: Change, which: Which) -> None:
    table, rows = TABLES[name], demo.evidence.tables[name]
    one = f"""(tableoid, ctid) = (
        select tableoid, ctid from {table} order by tableoid, ctid offset {place_of(which, len(rows))} limit 1)"""
    statements = [f"delete from {table} where {one}"]
    if change == "double":
        statements = [without_uniqueness(table), f"insert into {table} select * from {table} where {one}"]
    tables = await tables_with(demo, *statements)
    assert len(tables[name]) == len(rows) + (1 if change == "double" else -1)
    found = hops(Evidence(demo.evidence.topics, tables))
    assert named_by_all(name, found), found


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("change", CHANGES)
def test_a_row_of_an_outbox_in_rows(demo: Run, change: Change, which: Which) -> None:
    """The demo has none: what its packs hold, as rows."""
    packed = EvidenceIndex(demo.evidence).outbox
    numbers = {(row["aggregate"], row["partition"]): row["lane"] for row in demo.evidence.tables["lane"]}
    rows: list[Row] = [{**row, "lane": numbers[row["place"]]} for row in packed]
    in_rows = demo.evidence.tables | {"pack": [], "outbox": rows}
    assert hops(Evidence(demo.evidence.topics, in_rows)) == set()
    found = hops(Evidence(demo.evidence.topics, {**in_rows, "outbox": changed(rows, change, which)}))
    assert named_by_all("outbox", found), found


@pytest.mark.parametrize("which", WHICH)
async def test_a_row_that_came_late(demo: Run, which: Which) -> None:
    """The demo has none. One that is moved there counts as before; one that is there as well, or gone, is missed."""
    tables = demo.evidence.tables
    assert tables["late"] == []
    cold = {row["command_id"] for row in tables["lake"]}
    rows = [row for row in tables["market_data"] if row["command_id"] not in cold]
    row = rows[place_of(which, len(rows))]
    hot, columns, one = TABLES["market_data"], ", ".join(row.keys()), f"command_id = '{row['command_id']}'"
    steps = (
        f"insert into {LATE} (tm_range_start, {columns}) select time, {columns} from {hot} where {one}",
        f"delete from {hot} where {one}",
        f"delete from {LATE} where {one}",
    )
    doubled, moved, deleted = [
        hops(Evidence(demo.evidence.topics, await tables_with(demo, *steps[:count]))) for count in (1, 2, 3)
    ]
    assert moved == set()
    assert named_by_all("late", doubled), doubled
    assert named_by_all("late", deleted), deleted


@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("change", CHANGES)
def test_a_row_in_the_lake(demo: Run, change: Change, which: Which) -> None:
    rows = {"lake": changed(demo.evidence.tables["lake"], change, which)}
    assert named_by_all("lake", hops(Evidence(demo.evidence.topics, demo.evidence.tables | rows)))


# --- as many as there should be, but others --------------------------------------------------------------------------


async def test_a_price_that_was_edited(demo: Run) -> None:
    edited = "update public.market_data set price = price + 1 where time = (select max(time) from public.market_data)"
    tables = await tables_with(demo, edited)
    assert hops(Evidence(demo.evidence.topics, tables)) == {"event topic -> market_data + late + lake"}


async def test_an_outcome_that_was_edited(demo: Run) -> None:
    edited = "update tm.log set code = 'NOT_FOUND' where code = 'WRONG_KEY'"
    tables = await tables_with(demo, edited)
    assert hops(Evidence(demo.evidence.topics, tables)) == {"log -> outcome topic"}


def test_a_dead_letter_with_another_byte(demo: Run) -> None:
    topic = "dead letter topic"
    first, *others = demo.evidence.topics[topic]
    edited = replace(first, value=b"\x02" + (first.value or b"")[1:])
    found = hops(Evidence({**demo.evidence.topics, topic: [edited, *others]}, demo.evidence.tables))
    assert found == {"parked -> dead letter topic"}


def test_two_events_in_the_wrong_order(demo: Run) -> None:
    def swapped(records: list[Record]) -> list[Record]:
        first, second, *others = sorted(
            records, key=lambda each: (each.aggregate, each.partition, each.offset)
        )
        return [replace(first, offset=second.offset), replace(second, offset=first.offset), *others]

    topics = {**demo.evidence.topics, "event topic": swapped(demo.evidence.topics["event topic"])}
    assert named_by_all("event topic", hops(Evidence(topics, demo.evidence.tables)))
