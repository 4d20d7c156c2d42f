"""A cycle of the archive with compressed chunks, which only TimescaleDB's Community edition makes, and late rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands.test_many_rows import audited
from tests.support.archive.site import Archive, archive
from tests.support.engine.commands import Harness, base, codes, create_lanes, outcomes
from tests.support.engine.streams import messages_of
from tests.support.waiting import eventually
from tidemill.admin.archive.restore import Restorer
from tidemill.api import CommandBase, Context, LateRule, Retention
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.contexts.time_series import context as time_series
from tidemill.contexts.time_series import messages as series
from tidemill.contexts.time_series import time_series as series_entity
from tidemill.domain.archive.slices import Measured
from tidemill.domain.lane import Claim
from tidemill.domain.stream import Stream
from tidemill.lakehouse.copy_reader import LakeCopies
from tidemill.lakehouse.reader import LakeReader
from tidemill.retention import operator_actions
from tidemill.retention.operator_actions import Operator
from tidemill.retention.restore_plan import ranges_back
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.archived_rows import HoldingsDatabase
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.migrations.migrate import upgrade
from tidemill.storage.retention import measurement
from tidemill.storage.retention.restore_work import RestoreDatabase
from tidemill.transport.avro.codec import StreamCodec

pytestmark = pytest.mark.community

LONG_AGO = datetime(2010, 1, 5, tzinfo=UTC)
LATE_BEFORE, LATE_AFTER = LONG_AGO + timedelta(days=1), LONG_AGO + timedelta(days=2)
MINUTE, MONTH = timedelta(minutes=1), timedelta(days=30)
ROWS = 2_000
COMPRESSED, PARTIAL = 1, 8
"""Bits of a chunk's status: it has compressed rows, and others beside them."""
EDGES = (-0.0, 0.0, 1e300, 5e-324, 1 / 3)
Login = Callable[[str], str]

# The bits of every row: equal numbers are not equal bits, and a text of a float has all of them.
CONTENT = "select array_agg(rows::text order by rows::text) from {} rows"
JOB = """
select job_id from timescaledb_information.jobs
where proc_name = 'policy_compression' and format('%s.%s', hypertable_schema, hypertable_name) = $1
"""
PACKED = """
select count(*) from _timescaledb_catalog.chunk packed
join _timescaledb_catalog.hypertable h on h.id = packed.hypertable_id
where h.compression_state = 2 and not packed.dropped
"""


@dataclass(frozen=True)
class Facts:
    """A context whose chunks are compressed, and the commands that append rows of given times."""

    context: Context
    opening: Callable[[], list[CommandBase]]
    appending: Callable[[Sequence[datetime]], list[CommandBase]]


def ticks(times: Sequence[datetime]) -> list[CommandBase]:
    return [
        RecordMarketData.model_validate(
            base(symbol=f"S{index % 3}", time=time, price=EDGES[index % 5], source="s")
        )
        for index, time in enumerate(times)
    ]


def points(times: Sequence[datetime]) -> list[CommandBase]:
    lists: dict[str, Any] = {
        "column_names": ["open", "close"],
        "columns": [index % 2 for index in range(len(times))],
        "values": [(*EDGES, None)[index % 6] for index in range(len(times))],
    }
    return [series.AppendTimeSeriesPoints.model_validate(base(time_series_id="s", times=times, **lists))]


def new_series() -> list[CommandBase]:
    values = {"time_column": "date", "value_columns": '["open", "close"]', "axis": "datetime"}
    return [series_entity.messages.create.model_validate(base(time_series_id="s", **values))]


KINDS = {
    "market_data": Facts(market_data, list, ticks),
    "time_series_data_points": Facts(time_series, new_series, points),
}


def context_of(facts: Facts, late: LateRule) -> Context:
    return replace(facts.context, partitions=1, retention=policy_of(facts, late))


def policy_of(facts: Facts, late: LateRule = LateRule.DIVERT) -> Retention:
    assert facts.context.retention is not None
    quick: dict[str, Any] = {"enabled": True, "quiet": timedelta(0), "again_after": timedelta(0)}
    return replace(facts.context.retention, late=late, **quick)


@dataclass
class CompressedTable:
    """A table with compression, the archive that its rows leave for, and commands that arrive for it.

    The table's owner compresses; commands and archive have the logins of their processes.
    """

    facts: Facts
    owner: Pool
    archive: Archive
    service: Pool
    stream_end: int = 0

    @property
    def table(self) -> str:
        return self.archive.policy.table_name

    async def send(self, *commands: CommandBase, late: LateRule = LateRule.DIVERT) -> Any:
        """Apply commands as their owner, under a policy for late rows."""
        stream = Stream.of(context_of(self.facts, late))
        codec = await StreamCodec.open(stream, messages_of(self.facts.context.name), clock=SystemClock())
        harness = Harness(stream, CommandDatabase(self.service), codec=codec)
        harness.topic.ends[0] = self.stream_end
        await harness.claim()
        records = [
            harness.topic.record(command, value=await codec.encode_command(command)) for command in commands
        ]
        self.stream_end = harness.topic.ends[0]
        return await harness.apply(*records)

    async def append(self, *times: datetime, late: LateRule = LateRule.DIVERT) -> Any:
        return await self.send(*self.facts.appending(times), late=late)

    async def fill(self) -> None:
        old = [LONG_AGO + index * MINUTE for index in range(ROWS)]
        assert set(outcomes(await self.send(*self.facts.opening(), *self.facts.appending(old)))) == {
            "applied"
        }

    async def run_policy(self) -> None:
        """Run the job of the policy here and now; it fails if it fails."""
        await self.owner.execute(f"call run_job({await self.owner.fetchval(JOB, self.table)})")

    async def compressed(self) -> list[bool]:
        """Return of each chunk whether it is compressed, the oldest first."""
        return [chunk.compressed for chunk in (await self.archive.store.facts(self.table)).chunks]

    async def statuses(self) -> list[int]:
        """Return the status of each chunk in TimescaleDB's catalogue, the oldest first."""
        chunks = (await self.archive.store.facts(self.table)).chunks
        asked = "select _timescaledb_functions.chunk_status($1::text::regclass)"
        return [await self.owner.fetchval(asked, chunk.chunk) for chunk in chunks]

    async def size(self) -> int:
        return sum(chunk.size_bytes for chunk in (await self.archive.store.facts(self.table)).chunks)

    async def content(self) -> list[str]:
        return list(await self.owner.fetchval(CONTENT.format(self.table)) or [])

    async def measured_plain(self) -> Measured:
        """Measure the same rows in a table that TimescaleDB does not know."""
        async with self.owner.acquire() as connection, connection.transaction():
            await connection.execute(f"create temporary table plain on commit drop as table {self.table}")
            shape = await measurement.columns_of(connection, self.table)
            return await measurement.measure(
                connection, shape.columns, self.archive.policy.time_column, "plain"
            )

    async def sealed(self) -> Measured:
        """Return what was measured of the chunk when it was sealed."""
        measured = (await self.archive.slices())[0].sealed
        assert measured is not None
        return measured

    async def around(self) -> None:
        """Answer what is requested, and do what follows from it."""
        await self.archive.answer()
        await self.archive.settle()

    async def bring_back(self) -> None:
        """Restore everything that left."""

        async def claim() -> Claim:
            assert self.archive.claim is not None
            return self.archive.claim

        copies = LakeCopies(LakeReader([str(self.archive.lake)]))
        restorer = Restorer(RestoreDatabase(self.archive.pool), copies, claim, "ada")
        facts = await self.archive.store.facts(self.table)
        for back in ranges_back(facts, LONG_AGO - MONTH, LONG_AGO + MONTH):
            await restorer.bring(self.archive.policy, back, MONTH, lambda rows: None)

    async def findings(self) -> list[Any]:
        return list((await audited(self.owner, context_of(self.facts, LateRule.DIVERT))).findings)


@pytest.fixture(params=KINDS)
def facts(request: pytest.FixtureRequest) -> Facts:
    return KINDS[request.param]


@pytest.fixture
async def table(database: str, tmp_path: Path, login: Login, facts: Facts) -> AsyncIterator[CompressedTable]:
    """A table that a migration gave its compression. Jobs run when a test says so."""
    policy, stream = policy_of(facts), Stream.of(context_of(facts, LateRule.DIVERT))
    async with archive(database, tmp_path / "lake", policy) as outsider:
        await outsider.pool.fetchval("select _timescaledb_functions.stop_background_workers()")
        contexts = {facts.context.name: None}
        await upgrade(database, contexts=contexts, features=facts.context.community)
        async with outsider.pool.acquire() as connection:
            await create_lanes(connection, stream)
        pools = [
            await create_pool(login(role), application_name="test", size=4)
            for role in ("tidemill_service", "tidemill_retention")
        ]
        world = Archive(login("tidemill_archiver"), pools[1], outsider.lake, policy=policy)
        await world.own()
        yield CompressedTable(facts, outsider.pool, world, pools[0])
        for pool in pools:
            await close_pool(pool)


async def test_a_compressed_chunk_leaves_and_comes_back_with_the_rows_that_came_for_it_late(
    table: CompressedTable,
) -> None:
    await table.fill()
    plain, size, content = await table.measured_plain(), await table.size(), await table.content()
    await table.run_policy()
    assert await table.compressed() == [True]
    assert await table.size() < size
    assert await table.content() == content, "readers see the same bits"

    await table.append(LATE_BEFORE)
    assert (await table.archive.hot(), await table.archive.late()) == (ROWS + 1, 0), (
        "an open range takes rows"
    )
    with_late = await table.measured_plain()
    assert with_late.row_count == plain.row_count + 1
    await table.archive.settle()
    assert await table.archive.states() == ["requested"]
    assert await table.sealed() == with_late, "the digest is that of the uncompressed rows"
    (request,) = await table.archive.requests()
    assert request.chunks[0].compressed

    await table.append(LATE_AFTER)
    assert (await table.archive.hot(), await table.archive.late()) == (ROWS + 1, 1)
    await table.around()
    await table.around()
    assert await table.archive.states() == ["dropped", "dropped"]
    assert (await table.archive.hot(), await table.archive.late()) == (0, 0)
    assert await table.owner.fetchval(PACKED) == 0, "the compressed rows left with their chunk"
    assert await table.findings() == []

    await table.bring_back()
    restored = await table.content()
    assert (len(restored), set(content) < set(restored)) == (ROWS + 2, True)
    assert await table.findings() == []
    await table.run_policy()
    assert await table.compressed() == [False], "what is restored stays as it is"
    await table.archive.let_pass(MONTH)
    await table.archive.settle()
    assert (set(await table.archive.states()), await table.archive.hot()) == ({"dropped"}, 0)


async def test_a_late_row_that_may_not_wait_is_taken_before_the_seal_and_refused_after_it(
    table: CompressedTable,
) -> None:
    await table.fill()
    await table.run_policy()
    assert codes(await table.append(LATE_BEFORE, late=LateRule.REJECT)) == [None]
    await table.archive.settle()
    now = table.archive.clock.now()
    commands = [*table.facts.appending([LATE_AFTER]), *table.facts.appending([now])]
    assert codes(await table.send(*commands, late=LateRule.REJECT)) == ["RANGE_CLOSED", None]
    assert (await table.archive.hot(), await table.archive.late()) == (ROWS + 2, 0)
    await table.around()
    assert (await table.archive.states(), await table.archive.hot()) == (["dropped"], 1)
    assert await table.findings() == []


async def test_rows_that_came_late_are_compressed_by_the_next_run_and_change_no_digest(
    table: CompressedTable,
) -> None:
    await table.fill()
    await table.run_policy()
    await table.append(LATE_BEFORE)
    plain = await table.measured_plain()
    assert await table.statuses() == [COMPRESSED | PARTIAL]
    await table.run_policy()
    assert await table.statuses() == [COMPRESSED]
    await table.archive.settle()
    assert await table.sealed() == plain
    await table.around()
    assert await table.archive.states() == ["dropped"]


async def test_a_released_chunk_takes_its_late_rows_back_although_it_is_compressed(
    table: CompressedTable,
) -> None:
    await table.fill()
    await table.run_policy()
    await table.archive.settle()
    await table.append(LATE_AFTER)
    (archive_slice,) = await table.archive.slices()
    assert table.archive.claim is not None
    released = await operator_actions.release(
        table.archive.store, table.archive.claim, archive_slice.id, Operator("ada", "a law suit")
    )
    assert released.returned == 1
    assert (await table.archive.hot(), await table.archive.late()) == (ROWS + 1, 0)
    assert (await table.compressed(), await table.findings()) == ([True], [])


async def test_the_policy_leaves_a_sealed_chunk_alone_and_does_not_fail(table: CompressedTable) -> None:
    await table.fill()
    await table.archive.settle()
    await table.run_policy()
    assert await table.compressed() == [False]
    await table.around()
    assert await table.archive.states() == ["dropped"]


async def test_the_scheduler_compresses_what_is_old_and_nothing_else(table: CompressedTable) -> None:
    await table.fill()
    await table.append(table.archive.clock.now())
    await table.owner.fetchval("select _timescaledb_functions.start_background_workers()")
    await eventually(_compressed(table), what="the scheduler runs the policy")
    assert await table.compressed() == [True, False]


def _compressed(table: CompressedTable) -> Callable[[], Any]:
    async def oldest() -> bool:
        return (await table.compressed())[0]

    return oldest


async def test_the_status_counts_compressed_rows_among_those_that_are_here(table: CompressedTable) -> None:
    await table.fill()
    await table.run_policy()
    (found,) = await HoldingsDatabase(table.service).holdings([table.table])
    assert found.hot_bytes > await table.size(), "with its indexes"
