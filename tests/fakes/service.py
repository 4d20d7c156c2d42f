"""The database about itself, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tidemill.admin.service.models import ConnectionPoolStatus, DatabaseConnection
from tidemill.admin.service.rows import (
    ColumnFacts,
    ServerFacts,
    TableFacts,
    TablePlace,
    TableSize,
)


def table_facts(**columns: str) -> TableFacts:
    """A table with these columns (name -> type), of a database with nothing else."""
    return TableFacts(
        database="tidemill",
        columns={name: ColumnFacts(kind, None) for name, kind in columns.items()},
        constraints=[],
        indexes=[],
        hypertable=None,
        chunks=[],
        aggregates=[],
        first_applied={"core": datetime(2026, 1, 1, tzinfo=UTC)},
    )


@dataclass
class MemoryTables:
    """A `TableCatalog`."""

    facts: dict[TablePlace, TableFacts] = field(default_factory=dict)
    table_sizes: dict[TablePlace, TableSize] = field(default_factory=dict)

    async def describe(
        self, tables: Sequence[TablePlace], *, max_chunks: int
    ) -> Mapping[TablePlace, TableFacts]:
        present = [place for place in tables if place in self.facts]
        return {
            place: self.facts[place]._replace(chunks=self.facts[place].chunks[:max_chunks])
            for place in present
        }

    async def sizes(self, tables: Sequence[TablePlace]) -> Mapping[TablePlace, TableSize]:
        return {place: self.table_sizes[place] for place in tables if place in self.table_sizes}


@dataclass
class MemoryServer:
    """A `ServerInspector`."""

    facts: ServerFacts = field(default_factory=lambda: ServerFacts("tidemill", "2.22.0", 1))
    error: Exception | None = None
    asked: int = 0

    async def server(self) -> ServerFacts:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.facts


@dataclass
class MemoryPlans:
    """A `PlanReader` that knows the queries which use an index."""

    indexed: set[str] = field(default_factory=set)
    refused: dict[str, Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def uses_index(self, sql: str) -> bool:
        self.asked.append(sql)
        if sql in self.refused:
            raise self.refused[sql]
        return sql in self.indexed


@dataclass
class MemoryPools:
    """A `PoolReader`."""

    state: list[ConnectionPoolStatus] = field(default_factory=list)

    def statuses(self) -> Sequence[ConnectionPoolStatus]:
        return self.state

    def configurations(self) -> Sequence[DatabaseConnection]:
        return [
            DatabaseConnection(
                service_name=f"tidemill http {pool.name}",
                database_url="postgresql://db/tidemill",
                pool_size=pool.size,
                max_overflow=0,
                pool_timeout=1,
                pool_recycle=1_800,
            )
            for pool in self.state
        ]


def pool_status(name: str = "read", **counts: int) -> ConnectionPoolStatus:
    """The state of a pool of eight, with these counts."""
    plain = {"size": 8, "checked_in": 8, "checked_out": 0, "overflow": 0, "invalid": 0, "total_created": 8}
    return ConnectionPoolStatus.model_validate({"name": name} | plain | counts)
