"""The database about itself, for callers of the service: `TableCatalog`, `ServerInspector`, `PlanReader`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg

from tidemill.admin.service.rows import (
    AggregateFacts,
    ChunkRow,
    ColumnFacts,
    ConstraintFacts,
    HypertableFacts,
    IndexFacts,
    ServerFacts,
    TableFacts,
    TablePlace,
    TableSize,
)
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements

_SQL = load_statements(Path(__file__).with_name("service.sql"))

_INDEX_SCANS: Final = frozenset({"Index Scan", "Index Only Scan", "Bitmap Index Scan"})

Rows = Mapping[TablePlace, Sequence[asyncpg.Record]]


class ServiceDatabase:
    """The database about itself. Every call may raise what `pool.connection` raises."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def describe(
        self, tables: Sequence[TablePlace], *, max_chunks: int
    ) -> Mapping[TablePlace, TableFacts]:
        async with connection(self._pool) as borrowed, borrowed.transaction(readonly=True):
            present = [TablePlace._make(row) for row in await _rows(borrowed, "service_tables", tables)]
            database = await borrowed.fetchval("select current_database()")
            branches = await borrowed.fetch(_SQL["service_branches"])
            columns = await _by_table(borrowed, "service_columns", present)
            constraints = await _by_table(borrowed, "service_constraints", present)
            indexes = await _by_table(borrowed, "service_indexes", present)
            hypertables = await _by_table(borrowed, "service_hypertables", present)
            chunks = await _by_table(borrowed, "service_chunks", present, max_chunks)
            aggregates = await _by_table(borrowed, "service_aggregates", present)
        return {
            place: TableFacts(
                database=database,
                columns={row["name"]: ColumnFacts(row["type"], row["default"]) for row in columns[place]},
                constraints=[ConstraintFacts(*list(row)[2:]) for row in constraints[place]],
                indexes=[IndexFacts(*list(row)[2:]) for row in indexes[place]],
                hypertable=next((HypertableFacts(*list(row)[2:]) for row in hypertables[place]), None),
                chunks=[ChunkRow(*list(row)[2:]) for row in chunks[place]],
                aggregates=[_aggregate(row) for row in aggregates[place]],
                first_applied={row["branch"]: row["first_applied"] for row in branches},
            )
            for place in present
        }

    async def sizes(self, tables: Sequence[TablePlace]) -> Mapping[TablePlace, TableSize]:
        async with connection(self._pool) as borrowed:
            rows = await _rows(borrowed, "service_sizes", tables)
        return {TablePlace(row["schema"], row["table"]): TableSize(*list(row)[2:]) for row in rows}

    async def server(self) -> ServerFacts:
        async with connection(self._pool) as borrowed:
            row = await borrowed.fetchrow(_SQL["service_server"])
        assert row is not None
        return ServerFacts._make(row)

    async def uses_index(self, sql: str) -> bool:
        async with connection(self._pool) as borrowed, borrowed.transaction(readonly=True):
            await borrowed.execute("select set_config('tidemill.query', $1, true)", sql)
            await borrowed.execute(_PLAN)
            plan = await borrowed.fetchval("select current_setting('tidemill.plan')")
        return any(node in _INDEX_SCANS for node in _nodes(json.loads(plan)))


_PLAN: Final = """
do $plan$ declare plan text; begin
  execute 'explain (generic_plan, format json, costs off) ' || current_setting('tidemill.query') into plan;
  perform set_config('tidemill.plan', plan, true);
end $plan$
"""
"""The plan for any values, which the driver cannot ask for: it would bind some, and nulls exclude all chunks."""


def _nodes(plan: Any) -> Iterator[str]:
    if isinstance(plan, list):
        for part in plan:
            yield from _nodes(part)
    elif isinstance(plan, dict):
        yield str(plan.get("Node Type", ""))
        for part in plan.values():
            yield from _nodes(part)


def _aggregate(row: asyncpg.Record) -> AggregateFacts:
    policy = row["refresh_policy"]
    return AggregateFacts(
        row["view_name"], row["materialized"], None if policy is None else json.loads(policy)
    )


async def _rows(
    borrowed: Connection, statement: str, tables: Iterable[TablePlace], *arguments: Any
) -> list[asyncpg.Record]:
    places = list(tables)
    schemas, names = [place.schema for place in places], [place.name for place in places]
    return await borrowed.fetch(_SQL[statement], schemas, names, *arguments)


async def _by_table(
    borrowed: Connection, statement: str, tables: Iterable[TablePlace], *arguments: Any
) -> Rows:
    rows: dict[TablePlace, list[asyncpg.Record]] = defaultdict(list)
    for row in await _rows(borrowed, statement, tables, *arguments):
        rows[TablePlace(row["schema"], row["table"])].append(row)
    return rows
