"""Rebuilding a read model beside the live one: `projections.ports.RebuildTargets`.

The rows are built in schema `tm_shadow`, in a table of the live one's name with its indexes, under an
incarnation with its own checkpoints. A swap drops the live table and moves the new one into its schema, in one
transaction with the checkpoints. The login must own the tables: that is the role that migrates.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import asyncpg

from tidemill.domain.errors import TidemillError, TransientError, UsageError
from tidemill.domain.projection import Projection
from tidemill.projections.ports import Checkpoint, Comparison, RebuildTargetLost, RowDifference, View
from tidemill.storage.database import difference_sql, table_sql
from tidemill.storage.database.errors import DRIVER_ERRORS, translated
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.read_models.rows import read_checkpoints, recorded

_SQL = load_statements(Path(__file__).with_name("projections.sql"))

COPY_TIMEOUT_S: Final = 3600.0
"""How long copying or comparing all rows of a read model may take."""

LOCK_TIMEOUT_S: Final = 2
"""How long a swap waits for a lock; readers of the table queue behind it."""

HOLD_TIMEOUT_S: Final = 60
"""How long a swap may hold its locks while the last events are folded."""

SWAP_LIMITS: Final = (
    f"set local lock_timeout = '{LOCK_TIMEOUT_S}s'; "
    f"set local idle_in_transaction_session_timeout = '{HOLD_TIMEOUT_S}s'"
)


class TableRebuildTarget:
    """The rebuild of one projection's table; lives as long as its connection's lock."""

    is_exact = False
    corrected: Comparison | None = None

    def __init__(self, borrowed: Connection, projection: Projection, live: int, view: View) -> None:
        """`live` is the incarnation beside which `view` is built."""
        self._borrowed = borrowed
        self._projection = projection
        self._live = live
        self._analyzed = False
        self.view = view

    async def live(self) -> Mapping[int, Checkpoint]:
        with self._working():
            return await self._standing()

    async def _standing(self) -> Mapping[int, Checkpoint]:
        return await read_checkpoints(self._borrowed, self._projection, self._live)

    async def take_snapshot(self) -> Mapping[int, Checkpoint]:
        table = self._projection.table
        copy = f"create unlogged table {difference_sql.snapshot_name(table)} as table {table_sql.table_name(table)}"
        with self._working():
            async with self._borrowed.transaction(isolation="repeatable_read"):
                checkpoints = await self._standing()
                await self._borrowed.execute(copy, timeout=COPY_TIMEOUT_S)
        return checkpoints

    async def compare(self, examples: int) -> Comparison:
        with self._working():
            compared = await self._compared(examples, snapshot=True)
            if not compared.differing:
                await self._borrowed.execute(_SQL["note_verified"], self._projection.name)
        return compared

    async def _compared(self, examples: int, *, snapshot: bool) -> Comparison:
        """Compare the rebuilt rows with those of the snapshot, or the live ones."""
        table = self._projection.table
        count = difference_sql.count_differences(table, snapshot=snapshot)
        counts = await self._borrowed.fetchrow(count, timeout=COPY_TIMEOUT_S)
        rows, differing = counts or (0, 0)
        if not differing:
            return Comparison(rows, 0, [])
        show = difference_sql.select_differences(table, snapshot=snapshot)
        found = await self._borrowed.fetch(show, examples, timeout=COPY_TIMEOUT_S)
        names = [column.name for column in table.columns]
        return Comparison(rows, differing, [_difference(row, names) for row in found])

    @asynccontextmanager
    async def swap(self) -> AsyncIterator[Mapping[int, Checkpoint]]:
        projection, table = self._projection, self._projection.table
        with self._working():
            await self._analyze()
            async with self._borrowed.transaction():
                await self._borrowed.execute(SWAP_LIMITS)
                held = await self._borrowed.fetch(_SQL["hold_checkpoints"], projection.name)
                live = {partition: Checkpoint(sequence, offset) for partition, sequence, offset in held}
                yield live
                await self._check_caught_up(live)
                await self._borrowed.execute(
                    _SQL["adopt_incarnation"], projection.name, self.view.incarnation
                )
                await self._borrowed.execute(f"drop table {table_sql.table_name(table)}")
                await self._borrowed.execute(
                    f"alter table {table_sql.view_name(table, live=False)} "
                    f"set schema {table_sql.quoted(table.schema or 'public')}"
                )
                await self._borrowed.execute(_SQL["drop_other_checkpoints"], projection.name)
                await self._borrowed.execute(_SQL["forget_halts"], projection.name)

    async def _analyze(self) -> None:
        """Update the planner's statistics before the first query; a second try need not."""
        if not self._analyzed:
            shadow = table_sql.view_name(self._projection.table, live=False)
            await self._borrowed.execute(f"analyze {shadow}", timeout=COPY_TIMEOUT_S)
            self._analyzed = True

    @contextmanager
    def _working(self) -> Iterator[None]:
        try:
            with translated():
                yield
        except TransientError as error:
            if _is_lost(self._borrowed):
                raise RebuildTargetLost(self._projection, str(error)) from error
            raise

    async def _check_caught_up(self, live: Mapping[int, Checkpoint]) -> None:
        built = await read_checkpoints(self._borrowed, self._projection, self.view.incarnation)
        rows = await self._borrowed.fetch(_SQL["withdrawn_checkpoints"], self._projection.name)
        beside = {row["partition"] for row in rows}  # the live ones have folded withdrawn events
        behind = [
            lane
            for lane, point in live.items()
            if built[lane].sequence < point.sequence and lane not in beside
        ]
        if behind:
            raise TransientError(f"the rebuilt rows lag the live ones in lanes {sorted(behind)}")


class RebuildDatabase:
    """Opens rebuild targets, each on its own connection."""

    def __init__(self, pool: Lender) -> None:
        """An open rebuild target holds one connection of `pool`."""
        self._pool = pool

    @asynccontextmanager
    async def open(
        self, projection: Projection, aggregate: str, partitions: int, *, lasting: bool
    ) -> AsyncIterator[TableRebuildTarget]:
        async with connection(self._pool) as borrowed, _alone(borrowed, projection):
            await _clear(borrowed, projection)
            target = await self._prepare(borrowed, projection, aggregate, partitions, lasting=lasting)
            try:
                yield target
            finally:
                with (
                    suppress(TidemillError),
                    translated(),
                ):  # the next one removes what a broken connection leaves
                    await _clear(borrowed, projection)

    async def _prepare(
        self, borrowed: Connection, projection: Projection, aggregate: str, partitions: int, *, lasting: bool
    ) -> TableRebuildTarget:
        return await _prepare(borrowed, projection, aggregate, partitions, lasting=lasting)


@asynccontextmanager
async def _alone(borrowed: Connection, projection: Projection) -> AsyncIterator[None]:
    """Lock out other rebuilds, without a time limit; the pool gets the session back unchanged."""
    table = table_sql.table_name(projection.table)
    if not await borrowed.fetchval(_SQL["lock_rebuild"], table):
        raise UsageError(
            f"projection {projection.name} is being rebuilt or verified by another process: wait for that to end"
        )
    try:
        await borrowed.execute("set statement_timeout = 0")  # whole tables are copied and compared
        yield
    finally:
        try:
            await borrowed.execute("reset statement_timeout")
            await borrowed.execute(_SQL["unlock_rebuild"], table)
        except DRIVER_ERRORS:
            if not _is_lost(borrowed):
                borrowed.terminate()  # then the server gives the lock back


async def _prepare(
    borrowed: Connection, projection: Projection, aggregate: str, partitions: int, *, lasting: bool
) -> TableRebuildTarget:
    table = table_sql.table_name(projection.table)
    shadow = table_sql.view_name(projection.table, live=False)
    async with borrowed.transaction():
        live = await recorded(borrowed, projection, aggregate)
        if lasting:
            await _check_replaceable(borrowed, projection, table)
        incarnation = await borrowed.fetchval(_SQL["next_incarnation"], projection.name, column=1)
        await borrowed.execute(_SQL["add_checkpoints"], projection.name, live, aggregate, partitions)
        await borrowed.execute(_SQL["add_checkpoints"], projection.name, incarnation, aggregate, partitions)
        kind = "table" if lasting else "unlogged table"
        await borrowed.execute(f"create {kind} {shadow} (like {table} including all excluding indexes)")
        for row in await borrowed.fetch(_SQL["shadow_definition"], table):
            await borrowed.execute(row["statement"])
    return TableRebuildTarget(borrowed, projection, live, View(projection, incarnation, live=False))


async def _check_replaceable(borrowed: Connection, projection: Projection, table: str) -> None:
    obstacles = [row["obstacle"] for row in await borrowed.fetch(_SQL["obstacles"], table)]
    if obstacles:
        raise UsageError(
            f"projection {projection.name} cannot be rebuilt: {table} would lose {', '.join(obstacles)}; "
            "drop that first, and create it again afterwards"
        )


async def _clear(borrowed: Connection, projection: Projection) -> None:
    """Remove everything that is not live."""
    table = projection.table
    names = (
        table_sql.view_name(table, live=False),
        difference_sql.snapshot_name(table),
        difference_sql.progress_name(table),
    )
    async with borrowed.transaction():
        await borrowed.execute(f"drop table if exists {', '.join(names)}")
        await borrowed.execute(_SQL["drop_other_checkpoints"], projection.name)


def _is_lost(borrowed: Connection) -> bool:
    try:
        return borrowed.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken it back already
        return True


def _difference(row: asyncpg.Record, names: list[str]) -> RowDifference:
    side = "rebuilt" if row["only_rebuilt"] else "live" if row["only_live"] else None
    pairs = zip(names, row["live"], row["rebuilt"], strict=True)
    columns = {} if side else {name: (live, rebuilt) for name, live, rebuilt in pairs if live != rebuilt}
    return RowDifference(tuple(row["key"]), columns, side)
