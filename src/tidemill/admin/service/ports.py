"""The ports of what is asked about the service itself. Calls to the database may raise `Unavailable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tidemill.admin.service.models import ConnectionPoolStatus, DatabaseConnection
from tidemill.admin.service.rows import ServerFacts, TableFacts, TablePlace, TableSize
from tidemill.admin.setup.revisions import MigrationInfo


class TableCatalog(Protocol):
    """What the database knows of tables and views."""

    async def describe(
        self, tables: Sequence[TablePlace], *, max_chunks: int
    ) -> Mapping[TablePlace, TableFacts]:
        """Return the facts of those that exist, each with its newest `max_chunks` chunks, newest first."""
        ...

    async def sizes(self, tables: Sequence[TablePlace]) -> Mapping[TablePlace, TableSize]:
        """Return estimated rows and bytes of those that exist; no row is read."""
        ...


class ServerInspector(Protocol):
    """Whether the database answers."""

    async def server(self) -> ServerFacts:
        """Return what it says of itself."""
        ...


class PlanReader(Protocol):
    """Plans of queries, without running them."""

    async def uses_index(self, sql: str) -> bool:
        """Return whether the plan for any values has an index scan. `sql`: one query, with parameters `$1` ...

        Raises `ContractError`, or another of the domain's errors, if it cannot be planned.
        """
        ...


class PoolReader(Protocol):
    """The pools of this process."""

    def statuses(self) -> Sequence[ConnectionPoolStatus]:
        """Return the state of each pool."""
        ...

    def configurations(self) -> Sequence[DatabaseConnection]:
        """Return how each pool connects, in the same order."""
        ...


class MigrationHistory(Protocol):
    """The revisions of a deployment."""

    async def status(self) -> list[MigrationInfo]:
        """Return every revision that is needed or applied, core first, parents first."""
        ...
