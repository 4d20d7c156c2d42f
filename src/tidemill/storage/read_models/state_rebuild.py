"""Folding an aggregate's state again, beside the live one, to verify it: `projections.ports`.

A state is folded like a read model, but batches maintain it: its progress is the ledger of its lanes,
and there are no checkpoints to move. Events of several lanes are folded in whatever order they arrive, so that nothing
but the key is unique here: a value that one aggregate gave up and another took may come in the other order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tidemill.domain.projection import Projection
from tidemill.projections.ports import Checkpoint, CheckpointMove, FoldHalt, View
from tidemill.storage.database import table_sql
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.read_models.rebuild import RebuildDatabase, TableRebuildTarget
from tidemill.storage.read_models.rows import ViewDatabase, ViewRows

_SQL = load_statements(Path(__file__).with_name("projections.sql"))


class StateRows(ViewRows):
    """One transaction over the rows of a state that is folded again."""

    async def advance(self, steps: Mapping[int, CheckpointMove]) -> None:
        """Move nothing, since the rebuild's lock keeps others out; rows are found by their key, as usual."""
        del steps
        await self._borrowed.execute("set local enable_seqscan = off")


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
    """The rebuild of the rows of a state. Nothing is swapped."""

    def __init__(self, borrowed: Connection, projection: Projection, aggregate: str) -> None:
        """`borrowed` holds the lock."""
        super().__init__(borrowed, projection, 0, View(projection, 1, live=False))
        self._aggregate = aggregate

    async def _standing(self) -> Mapping[int, Checkpoint]:
        rows = await self._borrowed.fetch(_SQL["ledger_checkpoints"], self._aggregate)
        return {partition: Checkpoint(sequence, 0) for partition, sequence in rows}


class StateRebuildDatabase(RebuildDatabase):
    """Opens rebuild targets of states."""

    async def _prepare(
        self, borrowed: Connection, projection: Projection, aggregate: str, partitions: int, *, lasting: bool
    ) -> TableRebuildTarget:
        del partitions, lasting
        table = projection.table
        shadow = table_sql.view_name(table, live=False)
        key = table_sql.names_of(table.primary_key.columns)
        await borrowed.execute(
            f"create unlogged table {shadow} (like {table_sql.table_name(table)} including all excluding indexes, "
            f"primary key ({key}))"
        )
        return StateRebuildTarget(borrowed, projection, aggregate)
