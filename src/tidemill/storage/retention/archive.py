"""The archive on TimescaleDB: the registry of slices, their rows, and the catalogue of chunks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg

from tidemill.domain.archive.slices import (
    ArchiveState,
    LakeColumn,
    Measured,
    Refusal,
    SealMode,
    SliceId,
    Source,
)
from tidemill.domain.errors import DataError
from tidemill.retention.planner import ChunkFacts, Facts, LateFacts
from tidemill.retention.ports import Busy, Gone, Overtaken
from tidemill.retention.slices import Hold, Slice
from tidemill.retention.timescale_jobs import ContinuousAggregate, DropJob
from tidemill.retention.transition_table import Transition
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.storage.database.errors import on_tables, translate
from tidemill.storage.database.pool import Connection, Pool, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.retention import measurement
from tidemill.storage.retention.archive_rows import row_of, slice_of
from tidemill.storage.retention.digest_sql import quoted, read_sql

LOCK_WITHIN_MS: Final = 1_000
"""How long a seal waits for writers in flight, and for batches."""

UPGRADE_WITHIN_MS: Final = 100
"""How long a drop waits for readers: later readers queue behind it."""

_UPGRADES: Final = 5
_PAUSE_S: Final = 0.05

_SQL = load_statements(Path(__file__).with_name("archive.sql"))
_log = logger(__name__)


class Registry:
    """The slices, on a connection that is in a transaction."""

    def __init__(self, borrowed: Connection) -> None:
        """`borrowed`: of the caller, which commits."""
        self._borrowed = borrowed

    async def slice(self, slice_id: SliceId) -> Slice | None:
        """See `ArchiveWork`."""
        rows = await self._fetch("slice", slice_id.table, slice_id.start, slice_id.generation)
        return slice_of(rows[0]) if rows else None

    async def of_table(self, table: str) -> list[Slice]:
        """Return all slices of a table, oldest range first."""
        return [slice_of(row) for row in await self._fetch("slices_of_table", table)]

    async def of_event(self, event_id: str) -> list[Slice]:
        """See `ArchiveWork`."""
        return [slice_of(row) for row in await self._fetch("slices_of_event", event_id)]

    async def dropped_under(self, event_id: str) -> frozenset[SliceId]:
        """See `ArchiveWork`."""
        return frozenset(slice_of(row).id for row in await self._fetch("dropped_under", event_id))

    async def of_range(self, table: str, start: datetime) -> list[Slice]:
        """See `ArchiveWork`."""
        return [slice_of(row) for row in await self._fetch("slices_of_range", table, start)]

    async def holds(self, table: str) -> list[Hold]:
        """See `ArchiveWork`."""
        return [Hold(*row) for row in await self._fetch("holds", table)]

    async def add_hold(self, hold: Hold) -> None:
        """See `ArchiveWork`."""
        await self._fetch("add_hold", hold.table, hold.start, hold.end, hold.reason, hold.who, hold.since)

    async def remove_holds(self, table: str, start: datetime | None, end: datetime | None) -> list[Hold]:
        """See `ArchiveWork`."""
        return [Hold(*row) for row in await self._fetch("remove_holds", table, start, end)]

    async def views(self, table: str) -> list[ContinuousAggregate]:
        """See `ArchiveWork`."""
        return [ContinuousAggregate(*row) for row in await self._fetch("views", table)]

    async def late_unfit(self, table: str) -> str | None:
        """See `ArchiveWork`."""
        found: str | None = await self._borrowed.fetchval(_SQL["late_unfit"], table)
        return found

    async def trail(self, slice_id: SliceId) -> list[dict[str, Any]]:
        """Return what was done to a slice, oldest first."""
        rows = await self._fetch("trail_of", slice_id.table, slice_id.start, slice_id.generation)
        return [dict(row) for row in rows]

    async def store(self, step: Transition) -> None:
        """See `ArchiveWork`."""
        before, after = step.before, step.after
        stored = await self._fetch("store", *row_of(after), before.state, before.seal, before.attempt)
        if not stored and before.state is ArchiveState.LIVE:
            stored = await self._fetch("store_new", *row_of(after))
        if not stored:
            raise Overtaken(f"{before.id} is no longer {before.state}")
        place = (after.id.table, after.id.start, after.id.generation)
        why = step.why or step.action.value
        await self._fetch("trail", *place, before.state, after.state, after.event_id, step.who, why)

    async def _fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        return await self._borrowed.fetch(_SQL[statement], *arguments)


class SliceRows(Registry):
    """The registry, and the rows of its slices."""

    async def store(self, step: Transition) -> None:
        """See `ArchiveWork`."""
        await super().store(step)
        if step.freezes:
            archive_slice = step.after.id
            await self._lock(
                "freeze_slice",
                LOCK_WITHIN_MS,
                archive_slice.table,
                archive_slice.start,
                archive_slice.generation,
            )

    async def await_writers(self, archive_slice: Slice) -> None:
        """See `ArchiveWork`."""
        waiting = self._borrowed.transaction()  # a savepoint, which gives the lock back
        await waiting.start()
        try:
            await self.lock_rows(archive_slice)
        finally:
            await waiting.rollback()

    async def lock_ranges(self, table: str) -> None:
        """See `ArchiveWork`."""
        await self._lock("lock_ranges", LOCK_WITHIN_MS, table)

    async def lock_rows(self, archive_slice: Slice) -> None:
        """See `ArchiveWork`; only Tidemill changes late rows of a slice."""
        if archive_slice.source is Source.CHUNK:
            await self._lock("lock_slice", LOCK_WITHIN_MS, archive_slice.id.table, archive_slice.chunk)

    async def measure(self, archive_slice: Slice, time_column: str) -> Measured:
        """See `ArchiveWork`."""
        columns, source = archive_slice.columns, source_of(archive_slice)
        if archive_slice.source is Source.CHUNK:
            columns = await measurement.columns_with_values(
                self._borrowed, archive_slice.id.table, columns, source
            )
        return await measurement.measure(self._borrowed, columns, time_column, source)

    async def chunks_of(self, slice_id: SliceId) -> list[ChunkFacts]:
        """Return the chunks that share time with a slice's range, as this transaction sees them."""
        rows = await self._fetch("chunks", slice_id.table)
        return [
            chunk for chunk in map(_chunk, rows) if chunk.end > slice_id.start and chunk.start < slice_id.end
        ]

    async def note_writes(self, table: str, before: datetime) -> None:
        """See `ArchiveWork`."""
        await self._fetch("note_writes", table, before)

    async def drop_rows(self, archive_slice: Slice) -> None:
        """See `ArchiveWork`. Locks that block readers are released after every attempt that took too long."""
        for attempt in range(_UPGRADES):
            try:
                async with self._borrowed.transaction():  # a savepoint: the lock against writers stays
                    await self._lock("lock_ranges", UPGRADE_WITHIN_MS, archive_slice.id.table)
                    place = (archive_slice.id.table, archive_slice.id.start, archive_slice.id.generation)
                    await self._lock("drop_slice", UPGRADE_WITHIN_MS, *place)
            except Busy:
                if attempt == _UPGRADES - 1:
                    raise
                await asyncio.sleep(_PAUSE_S * 2**attempt)
            else:
                return

    async def adopt_late(self, archive_slice: Slice) -> int:
        """See `ArchiveWork`."""
        return await self._late_rows(
            archive_slice,
            "update {late} set tm_generation = $2 where tm_range_start = $1 and tm_generation is null",
        )

    async def return_late(self, archive_slice: Slice) -> int:
        """See `ArchiveWork`."""
        if not await self._borrowed.fetchval(_SQL["has_late"], archive_slice.id.table):
            return 0
        await self._late_rows(
            archive_slice,
            "update {late} set tm_generation = null where tm_range_start = $1 and tm_generation = $2",
        )
        others = [
            each
            for each in await self.of_range(archive_slice.id.table, archive_slice.id.start)
            if each.id != archive_slice.id
        ]
        if any(each.is_closed for each in others):
            return 0  # the range stays closed: they wait for the next slice
        table = quoted_name(archive_slice.id.table)
        columns = await self._borrowed.fetchval(
            _SQL["shared_columns"], table, late_table(archive_slice.id.table)
        )
        back = (
            f"with back as (delete from {{late}} where tm_range_start = $1 and $2::int is not null "
            f"returning {columns}) insert into {table} ({columns}) overriding system value select {columns} from back"
        )
        try:
            async with (
                self._borrowed.transaction()
            ):  # a savepoint: the range opens, even if the table refuses a row
                return await self._late_rows(archive_slice, back)
        except asyncpg.PostgresError as error:
            if not isinstance(translate(error), DataError):
                raise
            why = f"its late rows stay late, to be archived by themselves: the table refuses them: {error}"
            _log.warning(Log.ARCHIVE_WAITS, slice=str(archive_slice.id), reason=why)
            return 0

    async def _late_rows(self, archive_slice: Slice, statement: str) -> int:
        late = late_table(archive_slice.id.table)
        status = await self._borrowed.execute(
            statement.format(late=late), archive_slice.id.start, archive_slice.id.generation
        )
        return int(status.rsplit(" ", 1)[-1])

    async def _lock(self, statement: str, within_ms: int, *arguments: Any) -> None:
        await self._borrowed.execute("select set_config('lock_timeout', $1, true)", str(within_ms))
        try:
            await self._borrowed.execute(_SQL[statement], *arguments)
        except asyncpg.LockNotAvailableError as error:
            raise Busy(f"rows of {arguments[0]} are in use: {error}") from error
        except asyncpg.PostgresError as error:
            if error.sqlstate in {"TM004", "42P01"}:
                raise Gone(str(error)) from error
            raise


class ArchiveDatabase:
    """The queries of retention outside the lane's transactions."""

    def __init__(self, pool: Pool) -> None:
        """`pool`: of a login that may lock and drop slices, if that is needed."""
        self._pool = pool
        self._name: str | None = None

    async def database_name(self) -> str:
        """Return the name of this database."""
        if self._name is None:
            async with connection(self._pool) as borrowed:
                self._name = str(await borrowed.fetchval(_SQL["database_name"]))
        return self._name

    async def seal_mode(self) -> SealMode:
        """See `ArchiveStore`."""
        async with connection(self._pool) as borrowed:
            return SealMode.FREEZE if await borrowed.fetchval(_SQL["can_freeze"]) else SealMode.LOCK

    async def facts(self, table: str) -> Facts:
        """See `ArchiveStore`."""
        async with connection(self._pool) as borrowed, borrowed.transaction(isolation="repeatable_read"):
            registry = Registry(borrowed)
            slices = await registry.of_table(table)
            chunks = map(_chunk, await borrowed.fetch(_SQL["chunks"], table))
            return Facts(
                table,
                tuple(chunks),
                tuple(await _late(borrowed, table, slices)),
                tuple(slices),
                tuple(await registry.holds(table)),
                await borrowed.fetchval(_SQL["registry"]),
                late_unfit=await registry.late_unfit(table),
                views=tuple(await registry.views(table)),
                drop_jobs=tuple(DropJob(*row) for row in await borrowed.fetch(_SQL["drop_jobs"], table)),
            )

    async def shape(
        self, archive_slice: Slice, bytes_per_s: int | None = None
    ) -> tuple[tuple[LakeColumn, ...], tuple[Refusal, ...]]:
        """See `ArchiveStore`."""
        async with connection(self._pool) as borrowed, borrowed.transaction(isolation="repeatable_read"):
            with on_tables():
                columns, refused = await measurement.columns_of(borrowed, archive_slice.id.table)
                if refused:
                    return columns, tuple(refused)
                source = source_of(archive_slice)
                values = await measurement.preflight(borrowed, columns, source, bytes_per_s=bytes_per_s)
            return columns, tuple(values)

    async def measure(
        self, archive_slice: Slice, time_column: str, bytes_per_s: int | None = None
    ) -> Measured:
        """See `ArchiveStore`."""
        async with connection(self._pool) as borrowed, borrowed.transaction(isolation="repeatable_read"):
            source = source_of(archive_slice)
            with on_tables():
                return await measurement.measure(
                    borrowed, archive_slice.columns, time_column, source, bytes_per_s=bytes_per_s
                )

    def read_sql(self, archive_slice: Slice) -> str:
        """See `ArchiveStore`."""
        return read_sql(archive_slice.columns, source_of(archive_slice))

    async def trail(self, slice_id: SliceId) -> list[dict[str, Any]]:
        """Return what was done to a slice, oldest first."""
        async with connection(self._pool) as borrowed:
            return await Registry(borrowed).trail(slice_id)

    async def is_connected(self, application_name: str) -> bool:
        """Return whether a process of that name has a connection to this database."""
        async with connection(self._pool) as borrowed:
            return bool(await borrowed.fetchval(_SQL["is_connected"], application_name))

    async def check_vectors(self) -> None:
        """Check that this server computes the published digests. Raises `ContractError`."""
        async with connection(self._pool) as borrowed, borrowed.transaction():
            await measurement.check_vectors(borrowed)


def source_of(archive_slice: Slice) -> str:
    """Return the FROM item of the slice's rows."""
    if archive_slice.source is Source.CHUNK:
        return archive_slice.chunk  # as the catalogue quotes it
    start = archive_slice.id.start.isoformat()
    return (
        f"(select * from {late_table(archive_slice.id.table)} "
        f"where tm_range_start = '{start}' and tm_generation = {archive_slice.id.generation})"
    )


def late_table(table: str) -> str:
    """Return where late rows of `schema.table` are, quoted."""
    return f"tm_late.{quoted(table.replace('.', '__'))}"


def quoted_name(table: str) -> str:
    """Return `schema.table` quoted."""
    schema, _, name = table.partition(".")
    return f"{quoted(schema)}.{quoted(name)}"


async def _late(borrowed: Connection, table: str, slices: Sequence[Slice]) -> list[LateFacts]:
    if not await borrowed.fetchval(_SQL["has_late"], table):
        return []
    ends: dict[
        datetime, datetime
    ] = {}  # a later chunk may begin where an archived one did, and end elsewhere
    for each in slices:
        ends[each.id.start] = max(each.id.end, ends.get(each.id.start, each.id.end))
    with on_tables():
        rows = await borrowed.fetch(
            f"select tm_range_start, count(*) as rows, max(tm_at) as last, sum(pg_column_size(late.*)) as bytes "
            f"from {late_table(table)} as late where tm_generation is null group by 1 order by 1"
        )
    return [
        LateFacts(row[0], ends[row[0]], row["rows"], int(row["bytes"]), row["last"])
        for row in rows
        if row[0] in ends
    ]


def _chunk(row: asyncpg.Record) -> ChunkFacts:
    return ChunkFacts(
        row["chunk"],
        row["range_start"],
        row["range_end"],
        row["size_bytes"],
        row["is_compressed"],
        row["last_write"],
    )
