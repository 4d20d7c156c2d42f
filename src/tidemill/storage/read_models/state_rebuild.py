"""Folding an aggregate's state again, beside the live one, to verify or to correct it: `projections.ports`.

A state is folded like a read model, but batches maintain it: its progress is the ledger of its lanes, and how far it is
folded again is in a table beside its rows, for as long as that takes. Events of several lanes are folded in whatever
order they arrive, so that nothing but the key is unique here: a value that one aggregate gave up and another took may
come in the other order.

Readers' views, grants and other programs' references belong to the live table, which therefore stays. While all lanes
of the aggregate are locked, so that no batch writes, the rows that differ are deleted, and inserted as folded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg

from tidemill.domain.errors import UsageError
from tidemill.domain.lane import lane_name
from tidemill.domain.projection import Projection
from tidemill.projections.ports import Checkpoint, CheckpointMove, CheckpointMoved, Comparison, FoldHalt, View
from tidemill.storage.database import difference_sql, table_sql
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.read_models.rebuild import (
    COPY_TIMEOUT_S,
    SWAP_LIMITS,
    RebuildDatabase,
    TableRebuildTarget,
)
from tidemill.storage.read_models.rows import ViewDatabase, ViewRows, affected

_SQL = load_statements(Path(__file__).with_name("projections.sql"))

EXAMPLES: Final = 5
"""How many of the rows that were corrected are shown."""


class StateRows(ViewRows):
    """One transaction over the rows of a state that is folded again."""

    async def advance(self, steps: Mapping[int, CheckpointMove]) -> None:
        """Move the progress, so that no batch is folded twice whose commit was not answered.

        Rows are found by their key, as usual.
        """
        await self._borrowed.execute("set local enable_seqscan = off")
        moved = await self._borrowed.execute(
            f"update {difference_sql.progress_name(self._table)} p set sequence = s.sequence "
            "from unnest($1::int[], $2::bigint[], $3::bigint[]) s (partition, before, sequence) "
            "where p.partition = s.partition and p.sequence = s.before",
            list(steps),
            [step.before for step in steps.values()],
            [step.sequence for step in steps.values()],
        )
        if affected(moved) != len(steps):
            raise CheckpointMoved(f"the progress of {self._view.projection.name} was moved already")


class StateDatabase(ViewDatabase):
    """The database for the replay of a state."""

    def __init__(self, pool: Lender) -> None:
        """See `ViewDatabase`."""
        super().__init__(pool)
        self._lender = pool

    @asynccontextmanager
    async def transaction(self, view: View) -> AsyncIterator[StateRows]:
        async with connection(self._lender) as borrowed, borrowed.transaction():
            yield StateRows(borrowed, view)

    async def halt(self, view: View, partition: int, halt: FoldHalt) -> None:
        """Record nothing: the replay itself reports why it ends."""


class StateRebuildTarget(TableRebuildTarget):
    """The rebuild of the rows of a state."""

    is_exact = True

    def __init__(self, borrowed: Connection, projection: Projection, aggregate: str) -> None:
        """`borrowed` holds the lock."""
        super().__init__(borrowed, projection, 0, View(projection, 1, live=False))
        self._aggregate = aggregate

    async def _standing(self) -> Mapping[int, Checkpoint]:
        rows = await self._borrowed.fetch(_SQL["ledger_checkpoints"], self._aggregate)
        return {partition: Checkpoint(sequence, 0) for partition, sequence in rows}

    @asynccontextmanager
    async def swap(self) -> AsyncIterator[Mapping[int, Checkpoint]]:
        with self._working():
            await self._analyze()
            async with self._borrowed.transaction():
                await self._borrowed.execute(SWAP_LIMITS)
                refuse_halted(
                    self._projection,
                    self._aggregate,
                    await self._borrowed.fetch(_SQL["hold_lanes"], self._aggregate),
                )
                yield await self._standing()
                self.corrected = await self._correct()

    async def _correct(self) -> Comparison:
        """Give the live table the rows that were folded, where they differ."""
        table, borrowed = self._projection.table, self._borrowed
        name = table_sql.table_name(table)
        await borrowed.execute(f"lock table {name} in share row exclusive mode")  # against other programs
        comparison = await self._compared(EXAMPLES, snapshot=False)
        if not comparison.differing:
            return comparison
        declared = [column.name for column in table.columns]
        rows = await borrowed.fetch(table_sql.UNKNOWN_COLUMNS, name, declared)
        others = tuple(row["name"] for row in rows)
        if others:
            await borrowed.execute(difference_sql.keep_undeclared(table, others), timeout=COPY_TIMEOUT_S)
        await borrowed.execute(difference_sql.delete_differing(table), timeout=COPY_TIMEOUT_S)
        await borrowed.execute(difference_sql.insert_missing(table, others), timeout=COPY_TIMEOUT_S)
        return comparison


def refuse_halted(projection: Projection, aggregate: str, lanes: Sequence[asyncpg.Record]) -> None:
    """Raise `UsageError` if a lane is halted: its topic and the database may differ, and neither is surely right."""
    halted = [f"{lane_name(aggregate, row['partition'])} ({row['code']})" for row in lanes if row["code"]]
    if halted:
        raise UsageError(
            f"{projection.name} cannot be rebuilt while lane {', '.join(halted)} is halted: "
            "`tidemill lanes show` says what to do about it"
        )


class StateRebuildDatabase(RebuildDatabase):
    """Opens rebuild targets of states."""

    async def _prepare(
        self, borrowed: Connection, projection: Projection, aggregate: str, partitions: int, *, lasting: bool
    ) -> TableRebuildTarget:
        if lasting:
            refuse_halted(projection, aggregate, await borrowed.fetch(_SQL["halted_lanes"], aggregate))
        table = projection.table
        shadow, progress = table_sql.view_name(table, live=False), difference_sql.progress_name(table)
        await borrowed.execute(
            f"create unlogged table {progress} (partition int primary key, sequence bigint not null); "
            f"insert into {progress} select generate_series(0, {int(partitions) - 1}), 0"
        )
        key = table_sql.names_of(table.primary_key.columns)
        await borrowed.execute(
            f"create unlogged table {shadow} (like {table_sql.table_name(table)} including all excluding indexes, "
            f"primary key ({key}))"
        )
        return StateRebuildTarget(borrowed, projection, aggregate)
