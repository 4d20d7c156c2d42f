"""Commands that append many rows, on the real database: every row is counted, before and after the upgrade."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.engine.commands import Harness, codes, create_lanes, outcomes
from tests.support.engine.many_rows import CREATE, command_of, meters, series
from tidemill.admin.audit.balance import Audit, Outside, audit
from tidemill.admin.audit.run import appended_tables
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.context import Context
from tidemill.domain.stream import Stream
from tidemill.outbox.ports import OutboxItem
from tidemill.storage.admin.inspection import OperationsDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import ClosedGenerations, GenerationStore
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.database.table_sql import table_name
from tidemill.storage.migrations.migrate import downgrade, upgrade
from tidemill.storage.outbox.reader import OutboxDatabase

SERIES, METERS = series(), meters()


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, application_name="tidemill-tests", size=8)
    for statement in CREATE.values():
        await made.execute(statement)
    for context in (SERIES, METERS):
        async with made.acquire() as connection:
            await create_lanes(connection, Stream.of(context))
    yield made
    await close_pool(made)


async def claimed(pool: Pool, context: Context, closed: ClosedGenerations | None = None) -> Harness:
    harness = Harness(Stream.of(context), CommandDatabase(pool, closed))
    await harness.claim()
    return harness


async def audited(pool: Pool, *contexts: Context) -> Audit:
    """Balance what the database holds."""
    catalog = StreamCatalog(
        {context.aggregate: ContextStream(context, Stream.of(context)) for context in contexts}
    )
    tables = [
        spec.appends_to for context in contexts for spec in context.commands if spec.appends_to is not None
    ]
    rows = await OperationsDatabase(pool).audit_rows([*dict.fromkeys(tables)])
    return audit(rows, Outside({}, {}, {}), appended_tables(catalog, table_name))


def applied(result: Audit) -> list[tuple[int | None, int]]:
    return [(table.applied, table.rows) for table in result.tables]


async def relayed(pool: Pool, harness: Harness) -> list[OutboxItem]:
    stored = await OutboxDatabase(pool).read(harness.lane_of(0), 0, 1000, 1 << 20)
    return [item for item in stored if isinstance(item, OutboxItem)]


async def test_rows_are_counted_wherever_they_are_told(pool: Pool) -> None:
    harness = await claimed(pool, SERIES)
    done = await harness.send(*(command_of(SERIES, range(size)) for size in (3, 1, 0, 500)))
    assert outcomes(done) == {"applied": 4}
    assert await pool.fetchval("select count(*) from series_points") == 504
    counted = "select array_agg(rows order by position) from tm."
    assert await pool.fetchval(f"{counted}log") == [3, None, 0, 500]
    assert await pool.fetchval(f"{counted}outbox") == [3, None, 0, 500]
    assert [item.rows for item in await relayed(pool, harness)] == [3, None, 0, 500]
    assert await pool.fetchval("select max(rows) from tm.batch") == 504
    result = await audited(pool, SERIES)
    assert (result.findings, applied(result)) == ([], [(504, 504)])
    await pool.execute("delete from series_points where ctid = (select min(ctid) from series_points)")
    (finding,) = (await audited(pool, SERIES)).findings
    assert (finding.hop, finding.expected, finding.found) == ("rows", 504, 503)


async def test_a_repeat_is_told_the_rows_of_the_first_from_any_generation(pool: Pool) -> None:
    closed = ClosedGenerations()
    harness = await claimed(pool, SERIES, closed)
    generations = GenerationStore(pool, closed)
    records = [harness.topic.record(command_of(SERIES, range(size))) for size in (3, 1, 0)]
    await harness.apply(*records)
    for _ in range(2):
        done = await harness.apply(*(harness.topic.again(record) for record in records))
        assert outcomes(done) == {"duplicate": 3}
        assert [row.rows for _, row in done.outcomes] == [3, 1, None]
        await generations.roll_if_due(max_age=timedelta(0), max_ids=1)
    assert await pool.fetchval("select count(*) from series_points") == 4


async def test_a_decision_writes_its_row_and_its_facts_together(pool: Pool) -> None:
    harness = await claimed(pool, METERS)
    commands = [command_of(METERS, [0, 1, 2], 2), command_of(METERS, [0], 4), command_of(METERS, [], 3)]
    assert codes(await harness.send(*commands)) == [None, "FULL", None]
    assert await pool.fetchval("select total from meters") == 5
    assert await pool.fetchval("select count(*) from meter_readings") == 3
    result = await audited(pool, METERS)
    assert (result.findings, applied(result)) == ([], [(3, 3)])


async def test_commands_of_before_the_upgrade_count_one_row_each(pool: Pool, database: str) -> None:
    """What the version before wrote has no counts; later commands have, and the ledger's totals join both."""
    await downgrade(database, targets=["core_0006"])
    lane_id = await pool.fetchval("select lane from tm.lane where aggregate = 'series'")
    for position in (1, 2, 3):
        await pool.execute(*_of_before(lane_id, position))
    await upgrade(database)
    await pool.expire_connections()
    assert applied(await audited(pool, SERIES)) == [(3, 3)]
    harness = await claimed(pool, SERIES)
    harness.topic.ends[0] = 3
    await harness.send(command_of(SERIES, range(10)), command_of(SERIES, [0]))
    result = await audited(pool, SERIES)
    assert (result.findings, applied(result)) == ([], [(14, 14)])
    generations = GenerationStore(pool)
    await generations.roll_if_due(max_age=timedelta(0), max_ids=1)
    await generations.drop_expired(timedelta(0))
    assert await pool.fetchval("select rows from tm.ledger_total where lane = $1", lane_id) == 14
    await harness.send(command_of(SERIES, [0, 1]))
    result = await audited(pool, SERIES)
    assert (result.findings, applied(result)) == ([], [(16, 16)])


def _of_before(lane_id: int, position: int) -> tuple[Any, ...]:
    """A command of one row, as the version before writes it, with its row."""
    return (
        """
        with own as (select $1::smallint as lane, $2::bigint as place, $3::uuid as id),
        ledger as (
          insert into tm.batch
          select lane, 1, place, 1, 1, place - 1, place, place - 1, 0, place, place, 0, 1, 0, 0, 0, 1, now(), null
          from own),
        logged as (
          insert into tm.log (lane, gen, position, command_id, digest, outcome, events, sequence, at, type, service)
          select lane, 1, place, id, 0, 'a', 1, place, now(), 'tidemill.series.RecordSeries', 'tests' from own),
        sent as (
          insert into tm.outbox (lane, gen, position, item, outcome, command_id, service, sequence, at, seconds,
                                 record_offset, event_type, payload, chain)
          select lane, 1, place, 0, 'a', id, 'tests', place, now(), 0, place - 1, 'x', 'x', 0 from own)
        insert into public.series_points select now(), 's', 1, id from own
        """,
        lane_id,
        position,
        uuid4(),
    )
