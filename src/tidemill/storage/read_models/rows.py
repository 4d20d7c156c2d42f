"""Read models on TimescaleDB: `projections.ports.ViewStore`.

A batch is a transaction of at most six statements, whatever its size: checkpoints, rows loaded, deleted, updated and
inserted, halts cleared.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import asyncpg

from tidemill.domain.errors import ContractError, TableMisfit, TransientError
from tidemill.domain.messages import ReadModelBase
from tidemill.domain.projection import Key, Projection
from tidemill.projections.history import LaneHistory
from tidemill.projections.ports import (
    Checkpoint,
    CheckpointMove,
    CheckpointMoved,
    FoldHalt,
    ForeignRecord,
    Standing,
    View,
)
from tidemill.storage.catalog.declared import use_of_projection
from tidemill.storage.catalog.structure import look
from tidemill.storage.database import table_sql
from tidemill.storage.database.errors import on_tables
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("projections.sql"))


class ViewRows:
    """One transaction over the rows of a view: `projections.ports.ViewTransaction`."""

    def __init__(self, borrowed: Connection, view: View) -> None:
        """`borrowed` is in a transaction already."""
        self._borrowed = borrowed
        self._view = view
        self._table = view.projection.table

    async def advance(self, steps: Mapping[int, CheckpointMove]) -> None:
        partitions = sorted(steps)
        moves = [steps[partition] for partition in partitions]
        tag = await self._borrowed.execute(
            _SQL["advance"],
            self._view.projection.name,
            self._view.incarnation,
            partitions,
            [move.before for move in moves],
            [move.sequence for move in moves],
            [move.next_offset for move in moves],
        )
        if affected(tag) != len(steps):
            raise CheckpointMoved(
                f"a checkpoint of {self._view.projection.name} was moved by another process"
            )

    async def load(self, keys: Sequence[Key]) -> dict[Key, ReadModelBase]:
        projection, statement = (
            self._view.projection,
            table_sql.select_rows(self._table, live=self._view.live),
        )
        ordered: list[Any] = sorted(keys)
        with on_tables():
            rows = await self._borrowed.fetch(statement, *_by_column(ordered))
        key_of = _values_of(projection.key_columns)
        loaded = [projection.row(**row) for row in rows]
        return {key_of(row): row for row in loaded}

    async def write(
        self, new: Sequence[ReadModelBase], changed: Sequence[ReadModelBase], gone: Sequence[Key]
    ) -> None:
        live = self._view.live
        values = _values_of(column.name for column in self._table.columns)
        if gone:
            await self._run(table_sql.delete_rows(self._table, live=live), gone)
        if changed:
            await self._run(table_sql.update_rows(self._table, live=live), map(values, changed))
        if new:
            await self._insert(map(values, new))

    async def clear_halts(self, partitions: frozenset[int]) -> None:
        await self._borrowed.execute(_SQL["clear_halts"], self._view.projection.name, sorted(partitions))

    async def _insert(self, rows: Iterable[tuple[Any, ...]]) -> None:
        try:
            await self._run(table_sql.insert_rows(self._table, live=self._view.live), rows)
        except asyncpg.UniqueViolationError as taken:
            if taken.constraint_name != (self._table.primary_key.name or f"{self._table.name}_pkey"):
                raise
            raise TransientError(f"another process inserted meanwhile: {taken.detail}") from taken

    async def _run(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with on_tables():
            await self._borrowed.execute(statement, *_by_column(rows))


class ViewDatabase:
    """The database of projectors: `projections.ports.ViewStore`."""

    def __init__(self, pool: Lender) -> None:
        """Each projection uses one connection of `pool` at a time."""
        self._pool = pool

    async def open(self, projection: Projection, aggregate: str, partitions: int) -> Standing:
        async with connection(self._pool) as borrowed:
            await _demand_fit(borrowed, projection)
            async with borrowed.transaction():
                incarnation = await recorded(borrowed, projection, aggregate)
                await borrowed.execute(
                    _SQL["add_checkpoints"], projection.name, incarnation, aggregate, partitions
                )
                checkpoints = await read_checkpoints(borrowed, projection, incarnation)
                halts = await borrowed.fetch(_SQL["read_halts"], projection.name)
        return Standing(
            View(projection, incarnation), checkpoints, {row[0]: FoldHalt(*tuple(row)[1:]) for row in halts}
        )

    @asynccontextmanager
    async def transaction(self, view: View) -> AsyncIterator[ViewRows]:
        async with connection(self._pool) as borrowed, borrowed.transaction():
            yield ViewRows(borrowed, view)

    async def histories(self, aggregate: str, partitions: Collection[int]) -> dict[int, LaneHistory]:
        async with connection(self._pool) as borrowed:
            lanes = await borrowed.fetch(_SQL["lane_histories"], aggregate, list(partitions))
            forked = [row["partition"] for row in lanes if row["forked"]]
            forks = await borrowed.fetch(_SQL["lane_forks"], aggregate, forked) if forked else []
        return {
            row["partition"]: _history(
                row["end"] if row["binds"] else None,
                [fork for fork in forks if fork["partition"] == row["partition"]],
            )
            for row in lanes
        }

    async def note_foreign(self, aggregate: str, found: Sequence[ForeignRecord]) -> None:
        partitions, offsets = [each.partition for each in found], [each.offset for each in found]
        async with connection(self._pool) as borrowed:
            await borrowed.execute(_SQL["note_foreign"], aggregate, partitions, offsets)

    async def halt(self, view: View, partition: int, halt: FoldHalt) -> None:
        async with connection(self._pool) as borrowed:
            await borrowed.execute(_SQL["halt"], view.projection.name, view.incarnation, partition, *halt)


async def _demand_fit(borrowed: Connection, projection: Projection) -> None:
    differences = await look(borrowed, [use_of_projection(projection)])
    if unfit := [str(each) for each in differences if each.breaks]:
        raise TableMisfit("; ".join(unfit))


def _history(end: int | None, forks: Sequence[asyncpg.Record]) -> LaneHistory:
    withdrawn = [(fork["forked_at"], fork["continued_at"]) for fork in forks]
    lost = [(fork["topic_sequence"], fork["continued_at"]) for fork in forks]
    return LaneHistory(
        end=end,
        withdrawn=[(before, last) for before, last in withdrawn if before < last],
        lost=[(before, last) for before, last in lost if before < last],
    )


async def recorded(borrowed: Connection, projection: Projection, aggregate: str) -> int:
    """Record a projection if it is new; return its live incarnation, which stays until the transaction ends.

    Raises:
        ContractError: it is recorded for another stream or table.
        TableMisfit: its table does not exist.
    """
    table = table_sql.table_name(projection.table)
    await borrowed.execute(_SQL["record_projection"], projection.name, aggregate, table)
    row = await borrowed.fetchrow(_SQL["read_projection"], projection.name)
    if row is None:
        raise TransientError(f"projection {projection.name} was deleted meanwhile")
    if (row["aggregate"], row["read_table"]) != (aggregate, table):
        raise ContractError(
            f"projection {projection.name} is recorded for {row['aggregate']} and {row['read_table']}, not for "
            f"{aggregate} and {table}: give the new one another name"
        )
    if not row["is_there"]:
        raise TableMisfit(f"{table}: the table is missing")
    incarnation: int = row["incarnation"]
    return incarnation


async def read_checkpoints(
    borrowed: Connection, projection: Projection, incarnation: int
) -> dict[int, Checkpoint]:
    """Return partition -> checkpoint of one incarnation."""
    rows = await borrowed.fetch(_SQL["read_checkpoints"], projection.name, incarnation)
    return {partition: Checkpoint(sequence, next_offset) for partition, sequence, next_offset in rows}


def affected(tag: str) -> int:
    """Return the number of rows in a command tag (`UPDATE 3`)."""
    return int(tag.rsplit(" ", 1)[-1])


def _by_column(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _values_of(names: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function from a row object to the tuple of some of its attributes."""
    wanted = tuple(names)
    if len(wanted) == 1:  # attrgetter of one name gives the bare value
        only = attrgetter(wanted[0])
        return lambda row: (only(row),)
    return attrgetter(*wanted)
