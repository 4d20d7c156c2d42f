"""The archive without Kafka: the keeper on a real database, an archiver that copies for it, a lake in a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.engine.commands import create_lanes
from tidemill.archiver.copy_plan import CopyPlan, plan
from tidemill.commands.internal_commands import InternalCommandWriter
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.archive.messages import (
    ArchivalConfirmation,
    ArchivalEvent,
    ArchivalFile,
    ArchivalResult,
    ArchivalStatus,
)
from tidemill.domain.archive.policy import Retention
from tidemill.domain.lane import Claim
from tidemill.lakehouse.copy_reader import LakeCopies
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader
from tidemill.retention.confirmations import ConfirmationEffect, fold
from tidemill.retention.grouping import Round
from tidemill.retention.slices import AnswerLimits, Slice
from tidemill.retention.stream import EVENT, archive_stream
from tidemill.retention.worker import READ_TIMEOUT_S, ArchiveWorker
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.retention.arrow_reader import read
from tidemill.storage.retention.work import RetentionDatabase

TABLE = "public.market_data"
_FROZEN = """
(select chunk from (select format('%I.%I', chunk_schema, chunk_name) as chunk from timescaledb_information.chunks
    where hypertable_name = 'market_data') known
  where _timescaledb_functions.chunk_status(chunk::regclass) & 4 <> 0) frozen
"""
THAW = f"select _timescaledb_functions.unfreeze_chunk(chunk::regclass) from {_FROZEN}"
"""What the table's owner can do to write behind a seal all the same; where nothing is frozen, nothing."""
YEAR = timedelta(days=365)
STREAM = archive_stream("tidemill")
assert market_data.retention is not None
POLICY = replace(market_data.retention, quiet=timedelta(0), again_after=timedelta(0))


def plain_event(event: ArchivalEvent) -> bytes:
    """Return an event as its JSON."""
    return event.model_dump_json().encode()


@dataclass
class Archive:
    """Everything that an archive is made of, in one process. `pool` is the outsider's too."""

    database: str
    pool: Pool
    lake: Path
    claim: Claim | None = None
    clock: SystemClock = field(default_factory=SystemClock)
    policy: Retention = POLICY
    read_timeout_s: float = READ_TIMEOUT_S

    @property
    def store(self) -> RetentionDatabase:
        """The database as the keeper sees it."""
        writer = InternalCommandWriter(CommandDatabase(self.pool), SystemClock())
        return RetentionDatabase(self.pool, writer, plain_event)

    @property
    def archive_worker(self) -> ArchiveWorker:
        """A keeper that has just been made: nothing is remembered between rounds."""
        copies = LakeCopies(LakeReader([str(self.lake)]))
        return ArchiveWorker(
            [self.policy],
            store=self.store,
            copies=copies,
            claim=lambda: self.claim,
            clock=self.clock,
            read_timeout_s=self.read_timeout_s,
        )

    async def own(self, owner: str = "test") -> Claim:
        """Claim the archive's lane."""
        commands = CommandDatabase(self.pool)
        (self.claim,) = await commands.claim(STREAM.aggregate, [0], owner)
        await commands.compared([self.claim])
        return self.claim

    async def round(self) -> Round:
        """Do what is due once."""
        return await self.archive_worker.round()

    async def settle(self, *, most: int = 20) -> None:
        """Do what is due until nothing is."""
        for _ in range(most):
            if not (await self.round()).moved:
                return
        raise AssertionError("the archive never settles")

    async def let_pass(self, time: timedelta) -> None:
        """Make everything that the registry remembers older."""
        await self.pool.execute(
            """
            update tm.archive set since = since - $1::interval, sealed_at = sealed_at - $1::interval,
              deadline = deadline - $1::interval, restore_until = restore_until - $1::interval,
              verified = verified || jsonb_build_object('at', (verified->>'at')::timestamptz - $1::interval)
            """,
            time,
        )

    async def fill(self, *years: int, rows: int = 20) -> None:
        """Write rows of these years, as a batch of long ago did."""
        for year in years:
            await self.pool.execute(
                """
                insert into public.market_data (time, symbol, price, volume, source, command_id)
                select $1::timestamptz + i * interval '7 days 3.000017 seconds', 'S' || i % 3, i / 7.0,
                       nullif(i, 3), 'test', gen_random_uuid()
                from generate_series(1, $2) i
                """,
                datetime(year, 1, 5, tzinfo=UTC),
                rows,
            )

    async def frozen(self) -> list[str]:
        """Return the chunks that TimescaleDB keeps as they are."""
        return [row[0] for row in await self.pool.fetch(f"select chunk from {_FROZEN} order by chunk")]

    async def thaw(self) -> None:
        """Take back what freezes sealed chunks."""
        await self.pool.execute(THAW)

    async def slices(self) -> list[Slice]:
        """Return the registry."""
        return list((await self.store.facts(self.policy.table_name)).slices)

    async def states(self) -> list[str]:
        """Return the state of every slice, oldest range first."""
        return [each.state.value for each in await self.slices()]

    async def events(self) -> list[ArchivalEvent]:
        """Return what was announced, in order."""
        rows = await self.pool.fetch(
            "select payload from tm.outbox where event_type = $1 order by sequence", EVENT
        )
        return [ArchivalEvent.model_validate_json(row[0]) for row in rows]

    async def requests(self) -> list[ArchivalEvent]:
        """Return the requests among them."""
        return [event for event in await self.events() if event.status is ArchivalStatus.PENDING]

    def copy(self, event: ArchivalEvent) -> ArchivalConfirmation:
        """Copy what an event asks for, and say so."""
        asked = plan(event)
        return ArchivalConfirmation(
            event_id=event.event_id,
            status=ArchivalStatus.COMPLETED,
            completed_at=self.clock.now(),
            lakehouse_path=str(self.lake),
            chunks=tuple(self._copy_one(asked, number) for number in range(len(asked.tasks))),
        )

    def _copy_one(self, asked: CopyPlan, number: int) -> ArchivalResult:
        task = asked.tasks[number]
        batches = read(self.database, task.chunk.read_sql or "")
        manifest = LakeWriter(str(self.lake)).write(
            task.slice, asked.event.event_id, asked.columns, asked.time_column, batches
        )
        files = tuple(
            ArchivalFile(
                path=file.path, size_bytes=file.size_bytes, row_count=file.row_count, sha256=file.sha256
            )
            for file in manifest.files
        )
        return ArchivalResult(
            chunk_name=task.chunk.chunk_name,
            generation=task.chunk.generation,
            status=ArchivalStatus.COMPLETED,
            row_count=manifest.measured.row_count,
            digest=manifest.measured.digest,
            files=files,
        )

    async def confirm(self, confirmation: ArchivalConfirmation) -> ConfirmationEffect:
        """Hand a confirmation to the archive, as its stream does."""
        assert self.claim is not None
        async with self.store.transaction(self.claim) as work:
            slices = await work.of_event(confirmation.event_id)
            folded = fold(confirmation, slices, work.at, AnswerLimits.of(self.policy))
            for step in folded.steps:
                await work.store(step)
        return folded

    async def answer(self) -> None:
        """Copy and confirm the newest request."""
        await self.confirm(self.copy((await self.requests())[-1]))

    async def hot(self) -> int:
        """Return how many rows are in the hypertable."""
        return int(await self.pool.fetchval(f"select count(*) from {self.policy.table_name}"))

    async def late(self) -> int:
        """Return how many rows wait as late."""
        name = self.policy.table_name.replace(".", "__")
        return int(await self.pool.fetchval(f"select count(*) from tm_late.{name}"))


@asynccontextmanager
async def archive(
    database: str, lake: Path, policy: Retention = POLICY, *, has_lanes: bool = False
) -> AsyncIterator[Archive]:
    """Return an archive whose lane is owned. `has_lanes`: its lane was made with the topics."""
    pool = await create_pool(database, application_name="test", size=8)
    if not has_lanes:
        async with pool.acquire() as connection:
            await create_lanes(connection, STREAM)
    made = Archive(database, pool, lake, policy=policy)
    await made.own()
    try:
        yield made
    finally:
        await close_pool(pool)
