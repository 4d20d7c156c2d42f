"""The tables of contexts: compared with the database, and revisions drafted from the differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.admin.setup.ports import Migrations, StructureReader
from tidemill.admin.setup.revision_text import file_name, revision_text
from tidemill.admin.setup.revisions import NextRevision
from tidemill.admin.setup.schema_drafts import demand_source
from tidemill.catalog.streams import StreamCatalog
from tidemill.catalog.table_changes import TableChanges, table_changes
from tidemill.catalog.tables import Comparison, Difference, Kind
from tidemill.domain.context import Context
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError

_FIRST: Final = "Create the tables"
_LATER: Final = "Bring the tables to what is declared"


@dataclass(frozen=True)
class TableDifference:
    """A difference between a context's tables and the database. `fails`: something declared is not there."""

    context: str
    difference: Difference

    @property
    def fails(self) -> bool:
        """Return whether the tables are not as declared; what is wider or extra is."""
        return self.difference.kind is not Kind.EXTRA


@dataclass(frozen=True)
class DraftedRevision:
    """A revision that was drafted: its file, which need not be written yet, and what it does."""

    path: Path
    text: str
    changes: TableChanges

    def write(self) -> None:
        """Write the file. Raises `UsageError` if it would be among installed packages."""
        demand_source(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.text, encoding="utf-8")


@dataclass(frozen=True)
class TableSetup:
    """Compares the tables of contexts with the database, and drafts what is missing."""

    catalog: StreamCatalog
    migrations: Migrations
    tables: StructureReader

    async def check(self, aggregates: Sequence[str] = ()) -> list[TableDifference]:
        """Return the differences of these contexts, by default of all. Raises `UsageError`, `Unavailable`."""
        parts = map(self.catalog.of, aggregates) if aggregates else self.catalog.contexts.values()
        return [
            TableDifference(part.context.name, difference)
            for part in parts
            for comparison in await self.tables.compare(part.context)
            for difference in comparison.differences
        ]

    async def draft(
        self, aggregate: str, about: str = "", *, from_nothing: bool = False
    ) -> DraftedRevision | None:
        """Return a revision that brings a context's tables to what it declares, None if they are as declared.

        A context without revisions, and any context `from_nothing`, is compared with an empty database, without a
        server.

        Raises:
            UsageError: there is no such aggregate, or the database lacks revisions of the context.
            Unavailable: the database is unavailable.
        """
        context = self.catalog.of(aggregate).context
        place = self.migrations.next_revision(context.name, folder=context.migrations)
        if from_nothing or not place.earlier:
            comparisons = self.tables.compare_with_nothing(context)
        else:
            comparisons = await self._compared(context, place)
        changes = table_changes(comparisons)
        if not changes.upgrade and not changes.decisions:
            return None
        subject = about.strip() or (_LATER if place.earlier else _FIRST)
        text = revision_text(place, subject, changes)
        return DraftedRevision(place.folder / file_name(place, subject), text, changes)

    async def _compared(self, context: Context, place: NextRevision) -> list[Comparison]:
        """Compare with a database that has what the context's revisions make: they would be drafted twice."""
        if missing := [name for name in await self.migrations.missing() if name in place.earlier]:
            raise UsageError(
                f"the database lacks {', '.join(missing)} of {context.name}, which a draft would repeat",
                code=ErrorCode.NOT_MIGRATED,
                missing=tuple(missing),
            )
        return await self.tables.compare(context)
