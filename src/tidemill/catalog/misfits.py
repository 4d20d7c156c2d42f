"""Tables that are not as contexts declare them: their owners, and how to fix them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tidemill.catalog.ports import DeclaredTables, PendingMigrations
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.catalog.structure import Difference
from tidemill.domain.error_codes import ErrorCode

CODE: Final[str] = ErrorCode.TABLE_MISFIT

SHOWN: Final = 10
"""How many differences a message names at most."""


@dataclass(frozen=True)
class Misfit:
    """The part of a stream, or one of its read models, that cannot work: the differences, and how to fix them."""

    aggregate: str
    projection: str | None
    differences: Sequence[Difference]
    advice: str
    code: str = CODE


@dataclass(frozen=True)
class MisfitReader:
    """Compares the tables of a deployment with what its contexts declare."""

    tables: DeclaredTables
    migrations: PendingMigrations

    async def of(self, catalog: StreamCatalog) -> list[Misfit]:
        """Return what of the deployment cannot work with the present tables. Raises `UsageError`, `Unavailable`."""
        broken = [
            (part.stream.aggregate, projection, breaks)
            for part in catalog.contexts.values()
            for projection, differences in await self._by_worker(part)
            if (breaks := breaking(differences))
        ]
        missing = await self.migrations.missing() if broken else ()
        return [
            Misfit(aggregate, projection, breaks, advice_on(breaks, missing))
            for aggregate, projection, breaks in broken
        ]

    async def _by_worker(self, part: ContextStream) -> list[tuple[str | None, list[Difference]]]:
        """Return the differences for each user of a context's tables: its intake, and each projection by name."""
        projections = [
            (each.name, await self.tables.projection_differences(each)) for each in part.context.projections
        ]
        return [(None, await self.tables.stream_differences(part.stream)), *projections]


def breaking(differences: Iterable[Difference]) -> list[Difference]:
    """Return the differences that break a promise."""
    return [difference for difference in differences if difference.breaks]


def advice_on(differences: Sequence[Difference], missing: Sequence[str]) -> str:
    """Return how to fix tables: `tidemill migrate` only where revisions are `missing`."""
    if missing:
        return f"run `tidemill migrate`: {', '.join(missing)} are not applied"
    drafts = [difference.sql for difference in differences if difference.sql is not None]
    if not drafts:
        return "change it to what is declared, or deploy a version that declares the present table"
    return f"no migration is pending; this would fix it: {'; '.join(drafts[:SHOWN])}"
