"""Tables that are not as contexts declare them: their owners, and how to fix them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tidemill.catalog.ports import DeclaredTables, PendingMigrations
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.catalog.tables import Difference, Kind
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
class TableSurvey:
    """The tables of a deployment: what cannot work, and what is not as declared although everything works."""

    misfits: Sequence[Misfit]
    harmless: Sequence[Difference]


@dataclass(frozen=True)
class MisfitReader:
    """Compares the tables of a deployment with what its contexts declare."""

    tables: DeclaredTables
    migrations: PendingMigrations

    async def of(self, catalog: StreamCatalog) -> list[Misfit]:
        """Return what of the deployment cannot work with the present tables. Raises `UsageError`, `Unavailable`."""
        return list((await self.survey(catalog)).misfits)

    async def survey(self, catalog: StreamCatalog) -> TableSurvey:
        """Return all that is not as declared. Raises `UsageError`, `Unavailable`."""
        compared = [
            (part.stream.aggregate, projection, differences)
            for part in catalog.contexts.values()
            for projection, differences in await self._by_worker(part)
        ]
        broken = [
            (aggregate, projection, breaks)
            for aggregate, projection, differences in compared
            if (breaks := breaking(differences))
        ]
        missing = await self.migrations.missing() if broken else ()
        misfits = [
            Misfit(aggregate, projection, breaks, advice_on(breaks, missing))
            for aggregate, projection, breaks in broken
        ]
        return TableSurvey(misfits, [item for *_, differences in compared for item in harmless(differences)])

    async def _by_worker(self, part: ContextStream) -> list[tuple[str | None, list[Difference]]]:
        """Return the differences for each user of a context's tables: its intake, and each projection by name."""
        projections = [
            (each.name, await self.tables.projection_differences(each)) for each in part.context.projections
        ]
        return [(None, await self.tables.stream_differences(part.stream)), *projections]


def breaking(differences: Iterable[Difference]) -> list[Difference]:
    """Return the differences that break a promise."""
    return [difference for difference in differences if difference.breaks]


def harmless(differences: Iterable[Difference]) -> list[Difference]:
    """Return the differences that break no promise, although something declared is not there."""
    return [
        difference
        for difference in differences
        if not difference.breaks and difference.kind is not Kind.EXTRA
    ]


def advice_on(differences: Sequence[Difference], missing: Sequence[str]) -> str:
    """Return how to fix tables: `tidemill migrate` only where revisions are `missing`."""
    if missing:
        return f"run `tidemill migrate`: {', '.join(missing)} are not applied"
    drafts = [difference.sql for difference in differences if difference.sql is not None]
    if not drafts:
        return "change it to what is declared, or deploy a version that declares the present table"
    return f"no migration is pending; this would fix it: {'; '.join(drafts[:SHOWN])}"
