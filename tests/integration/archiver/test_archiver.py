"""The archiver on real Kafka, real TimescaleDB and a folder: what was asked for is there, once, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

from tests.support.archive import fidelity
from tests.support.archive.archival import MESSAGES
from tests.support.archive.archivers import RetentionSide, request_for
from tests.support.servers.databases import execute
from tests.support.waiting import HANGING_S, eventually
from tidemill.archiver.archiver import Archiver, ArchiverTimeouts
from tidemill.archiver.copier import Copier
from tidemill.archiver.ports import Lake
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent, ArchivalStatus
from tidemill.domain.archive.slices import LakeColumn, LakeType, Measured
from tidemill.domain.errors import Unavailable
from tidemill.lakehouse.iceberg import IcebergLake, open_catalog
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader
from tidemill.runtime.clock import SystemClock
from tidemill.storage.database.pool import Connection
from tidemill.storage.retention.chunk_reader import DatabaseChunks
from tidemill.transport.avro.archival import ArchivalCodec
from tidemill.transport.kafka.retention.archival import KafkaConfirmations, KafkaRequests

pytestmark = pytest.mark.slow

COMPLETED, FAILED, IN_PROGRESS = ArchivalStatus.COMPLETED, ArchivalStatus.FAILED, ArchivalStatus.IN_PROGRESS
READINGS = "public.readings"


class Losing:
    """Confirmations of which the final ones do not get through."""

    def __init__(self, real: KafkaConfirmations) -> None:
        self._real = real

    async def start(self) -> None:
        await self._real.start()

    async def send(self, confirmation: ArchivalConfirmation) -> None:
        if confirmation.status is not IN_PROGRESS:
            raise Unavailable("kafka", "the answer is lost")
        await self._real.send(confirmation)

    async def close(self) -> None:
        await self._real.close()


class Site:
    """What an archiver here is made of."""

    def __init__(self, retention_side: RetentionSide, reading_url: str, lake: Lake, root: Path) -> None:
        self.retention_side = retention_side
        self.lake = lake
        self.root = root
        self.reader = DatabaseChunks(reading_url, batch_bytes=1 << 16)

    @asynccontextmanager
    async def archiving(self, *, losing: bool = False, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
        world, clock = self.retention_side.world, SystemClock()
        codec = await ArchivalCodec.open(world.topics, MESSAGES, clock=clock)
        requests = KafkaRequests(
            world.connection, codec, topic=world.topics.events, group=f"group-{world.topics.events}"
        )
        confirmations = KafkaConfirmations(world.connection, codec, topic=world.topics.commands)
        archiver = Archiver(
            requests,
            Losing(confirmations) if losing else confirmations,
            Copier(self.reader, self.lake),
            clock,
            archiver_id="archiver-1",
            **options,
        )
        await archiver.start()
        work = asyncio.create_task(archiver.run())
        try:
            yield work
        finally:
            await archiver.stop()
            await asyncio.wait({work}, timeout=HANGING_S)

    def files(self) -> list[Path]:
        return sorted(self.root.rglob("*.parquet"))

    def duckdb(self, query: str) -> list[tuple[Any, ...]]:
        """Ask DuckDB about all readings in the lake."""
        with duckdb.connect() as session:
            session.execute(f"create view readings as select * from '{self.root}/{READINGS}/**/*.parquet'")
            return session.execute(query).fetchall()


@pytest.fixture
def site(retention_side: RetentionSide, reading_url: str, tmp_path: Path) -> Site:
    return Site(retention_side, reading_url, LakeWriter(str(tmp_path)), tmp_path)


@pytest.fixture
async def readings(session: Connection, reading_role: str) -> Connection:
    """A hypertable of three days with 1000 rows each."""
    await session.execute(
        "create table readings (time timestamptz not null, sensor int, value numeric(12,3))"
    )
    await session.execute(
        "select create_hypertable('readings', 'time', chunk_time_interval => interval '1 day')"
    )
    await session.execute(
        "insert into readings select timestamptz '2024-05-01 00:00+00' + interval '86.4 s' * n, n % 7, n / 8.0 "
        "from generate_series(0, 2999) n"
    )
    await session.execute(f"grant select on readings to {reading_role}")
    return session


# --- what arrives ----------------------------------------------------------------------------------------------------


async def test_what_was_asked_for_is_in_files_that_others_read(readings: Connection, site: Site) -> None:
    asked = await request_for(readings, READINGS, "time", "event-1")
    assert [chunk.row_count for chunk in asked.chunks] == [1000, 1000, 1000]
    await site.retention_side.announce(asked)
    async with site.archiving():
        [answer] = await site.retention_side.settled(1)
    assert (answer.status, answer.event_id, answer.replayed) == (COMPLETED, "event-1", False)
    assert answer.lakehouse_path == f"{site.root}/{READINGS}"
    for chunk, result in zip(asked.chunks, answer.chunks, strict=True):
        told = (result.chunk_name, result.row_count, result.digest, result.min_time, result.max_time)
        assert told == (chunk.chunk_name, chunk.row_count, chunk.digest, chunk.min_time, chunk.max_time)
    read_back = LakeReader([str(site.root)])
    columns = (
        LakeColumn("time", "timestamp with time zone", LakeType.INSTANT, nullable=False),
        LakeColumn("sensor", "integer", LakeType.INT32, nullable=True),
        LakeColumn("value", "numeric(12,3)", LakeType.DECIMAL, nullable=True, precision=12, scale=3),
    )
    for result in answer.chunks:
        found = read_back.read_back([file.path for file in result.files], columns, "time")
        assert found == Measured(result.row_count or 0, result.digest or "", result.min_time, result.max_time)
    summary = "select count(*), sum(value), min(sensor), count(distinct time) from readings"
    assert site.duckdb(summary) == [tuple(await readings.fetchrow(summary) or ())]
    every = "select epoch_us(time), sensor, value from readings order by 1"
    ours = await readings.fetch(
        every.replace("epoch_us(time)", "(extract(epoch from time) * 1000000)::bigint")
    )
    assert site.duckdb(every) == [tuple(row) for row in ours]
    assert ds.dataset(site.files(), format="parquet").count_rows() == 3000
    assert site.duckdb(f"select count(*) from '{site.root / READINGS}/*.parquet'") == [(3000,)]
    assert pd.read_parquet(site.root / READINGS).shape == (3000, 3)
    assert pl.scan_parquet(site.root / READINGS).collect().shape == (3000, 3)


@pytest.mark.parametrize("lake_format", ["parquet", "iceberg"])
async def test_every_type_that_a_copy_holds(
    database: str,
    session: Connection,
    retention_side: RetentionSide,
    reading_url: str,
    reading_role: str,
    tmp_path: Path,
    lake_format: str,
) -> None:
    for statement in (*fidelity.PREPARATION, fidelity.create_sql("every_type")):
        await session.execute(statement)
    await session.execute(
        "select create_hypertable('every_type', 'at', chunk_time_interval => interval '1 day')"
    )
    for statement in fidelity.insert_sql("every_type"):
        await session.execute(statement)
    await session.execute(f"grant select on every_type to {reading_role}")
    lake: Lake = LakeWriter(str(tmp_path))
    catalog: Any = None
    if lake_format == "iceberg":
        await session.execute("create schema lake")
        catalog = open_catalog(database, str(tmp_path), schema="lake")
        lake = IcebergLake(catalog, str(tmp_path))
    site = Site(retention_side, reading_url, lake, tmp_path)
    asked = await request_for(session, "public.every_type", "at", "event-1")
    assert len(asked.chunks) >= 2
    await retention_side.announce(asked)
    async with site.archiving():
        [answer] = await retention_side.settled(1)
    assert (answer.status, answer.error_code, answer.lake_format) == (COMPLETED, None, lake_format)
    assert [result.digest for result in answer.chunks] == [chunk.digest for chunk in asked.chunks]
    rows = sum(chunk.row_count or 0 for chunk in asked.chunks)
    if catalog is not None:
        table = catalog.load_table(("public", "every_type"))
        assert table.current_snapshot().snapshot_id == answer.snapshot_id
        scanned = table.scan().to_arrow()
        assert (scanned.num_rows, scanned.num_columns) == (rows, len(asked.columns))
        plain = ds.dataset(site.files(), format="parquet").to_table()
        for name in ("int8", "float8", "text", "bytea", "numeric38"):
            assert sorted(map(repr, scanned[name].to_pylist())) == sorted(map(repr, plain[name].to_pylist()))
        catalog.close()
    with duckdb.connect() as outsider:
        count = outsider.execute(f"select count(*) from '{tmp_path}/public.every_type/**/*.parquet'")
        assert count.fetchall() == [(rows,)]


# --- what comes again ------------------------------------------------------------------------------------------------


async def test_a_request_that_comes_again_is_answered_from_the_copy(readings: Connection, site: Site) -> None:
    asked = await request_for(readings, READINGS, "time", "event-1")
    await site.retention_side.announce(b"noise", asked, asked, asked.model_copy(update={"attempt": 2}))
    async with site.archiving():
        first, second = await site.retention_side.settled(2)
        before = [(path, path.stat().st_mtime_ns) for path in site.files()]
    assert (first.replayed, second.replayed) == (False, True)
    assert first.chunks == second.chunks
    assert len(before) == 3
    async with site.archiving():  # another process, which remembers nothing: the records were done
        await site.retention_side.announce(asked.model_copy(update={"attempt": 3}))
        *_, third = await site.retention_side.settled(3)
    assert (third.attempt, third.replayed) == (3, True)
    assert [(path, path.stat().st_mtime_ns) for path in site.files()] == before


async def test_a_crash_between_upload_and_answer_leaves_one_copy(readings: Connection, site: Site) -> None:
    await site.retention_side.announce(await request_for(readings, READINGS, "time", "event-1"))
    async with site.archiving(losing=True) as work:
        await asyncio.wait({work}, timeout=HANGING_S)
        with pytest.raises(Unavailable, match="lost"):
            work.result()
    before = [(path, path.stat().st_mtime_ns) for path in site.files()]
    assert len(before) == 3
    assert {answer.status for answer in await site.retention_side.answers()} == {IN_PROGRESS}
    async with site.archiving():
        [answer] = await site.retention_side.settled(1)
    assert (answer.status, answer.replayed) == (COMPLETED, True)
    assert [(path, path.stat().st_mtime_ns) for path in site.files()] == before


async def test_a_superseding_request_leaves_only_its_own_copies(readings: Connection, site: Site) -> None:
    await site.retention_side.announce(await request_for(readings, READINGS, "time", "event-1"))
    async with site.archiving():
        await site.retention_side.settled(1)
        await readings.execute("insert into readings values ('2024-05-02 12:00+00', 9, 9)")
        again = await request_for(
            readings, READINGS, "time", "event-2", chunks=slice(1, 2), supersedes=("event-1",)
        )
        await site.retention_side.announce(again)
        await site.retention_side.settled(2)
    assert [path.name.split("-event-")[1][0] for path in site.files()] == ["1", "2", "1"]
    assert site.duckdb("select count(*) from readings") == [(3001,)]


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_a_chunk_that_changed_since_it_was_measured_fails_alone(
    readings: Connection, site: Site
) -> None:
    asked = await request_for(readings, READINGS, "time", "event-1")
    await readings.execute("update readings set value = value + 1 where time = '2024-05-02 12:00+00'")
    await site.retention_side.announce(asked)
    async with site.archiving():
        [answer] = await site.retention_side.settled(1)
    assert answer.status is COMPLETED
    assert [result.error_code for result in answer.chunks] == [None, "DIGEST_DIFFERS", None]
    assert len(site.files()) == 2
    assert site.duckdb("select count(*) from readings") == [(2000,)]


@pytest.mark.parametrize(
    "statement",
    [
        "select * from no_such_table",
        "select * from secrets",
        "delete from readings returning *",
        "with gone as (delete from readings returning *) select * from gone",
        "create table mine ()",
        "this is no SQL",
    ],
)
async def test_what_the_login_may_not_read_is_refused_and_nothing_changes(
    readings: Connection, site: Site, statement: str
) -> None:
    await readings.execute("create table secrets (word text)")
    asked = await request_for(readings, READINGS, "time", "event-1")
    first = asked.chunks[0].model_copy(update={"read_sql": statement})
    await site.retention_side.announce(asked.model_copy(update={"chunks": (first, asked.chunks[1])}))
    async with site.archiving():
        [answer] = await site.retention_side.settled(1)
    assert [result.error_code for result in answer.chunks] == ["READ_REFUSED", None]
    assert await readings.fetchval("select count(*) from readings") == 3000
    assert len(site.files()) == 1


async def test_a_database_that_is_away_is_said_and_may_be_asked_again(
    readings: Connection, site: Site
) -> None:
    asked = await request_for(readings, READINGS, "time", "event-1")
    there, site.reader = site.reader, DatabaseChunks("postgresql://nobody@127.0.0.1:1/nowhere")
    await site.retention_side.announce(asked)
    async with site.archiving():
        [answer] = await site.retention_side.settled(1)
    assert (answer.status, answer.error_code, answer.retryable) == (FAILED, "DATABASE_AWAY", True)
    site.reader = there
    async with site.archiving():
        await site.retention_side.announce(asked.model_copy(update={"attempt": 2}))
        assert (await site.retention_side.settled(2))[1].status is COMPLETED


# --- while it copies -------------------------------------------------------------------------------------------------


async def test_it_reads_no_faster_than_it_may_and_says_that_it_is_alive(
    readings: Connection, site: Site, database: str
) -> None:
    await asyncio.to_thread(
        execute,
        database,
        "insert into readings select timestamptz '2024-06-01 00:00+00' + interval '1 s' * n, n, n "
        "from generate_series(0, 49999) n",
    )
    asked = await request_for(readings, READINGS, "time", "event-1", chunks=slice(3, 4))
    await site.retention_side.announce(asked.model_copy(update={"max_bytes_per_second": 1_000_000}))
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with site.archiving(timeouts=ArchiverTimeouts(heartbeat_s=0.3)):
        [answer] = await site.retention_side.settled(1)
    elapsed = loop.time() - began
    assert answer.status is COMPLETED
    assert answer.chunks[0].row_count == 50_000
    size = 50_000 * (8 + 4 + 4)  # at least, in memory
    assert elapsed >= size / 1_000_000 - 0.2
    assert len(await site.retention_side.answers(IN_PROGRESS)) >= 2


async def test_a_drain_in_the_middle_leaves_nothing_half_done(readings: Connection, site: Site) -> None:
    asked = await request_for(readings, READINGS, "time", "event-1")
    await site.retention_side.announce(asked)
    reading: Callable[[], object] = lambda: list(site.root.rglob(".*.tmp")) or site.files()
    async with site.archiving(max_bytes_per_second=1_000):
        await eventually(reading, what="the first file")
    assert {answer.status for answer in await site.retention_side.answers()} == {IN_PROGRESS}
    assert not list(site.root.rglob(".*"))
    async with site.archiving():
        [answer] = await site.retention_side.settled(1)
    assert answer.status is COMPLETED
    assert site.duckdb("select count(*) from readings") == [(3000,)]
    assert isinstance(asked, ArchivalEvent)
