"""Migrations: applied, undone, created."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.admin.setup.ports import Migrations, StructureReader
from tidemill.admin.setup.revisions import MigrationInfo, MigrationStep, OnStep
from tidemill.admin.setup.schema_drafts import demand_source
from tidemill.admin.setup.tables import TableSetup
from tidemill.catalog.streams import StreamCatalog


@dataclass(frozen=True)
class MigrationSetup:
    """Applies revisions, undoes them and creates new ones."""

    catalog: StreamCatalog
    migrations: Migrations
    structure: StructureReader

    @property
    def tables(self) -> TableSetup:
        """The tables of contexts, to be compared and drafted."""
        return TableSetup(self.catalog, self.migrations, self.structure)

    async def apply(self, targets: Sequence[str], on_step: OnStep) -> list[MigrationStep]:
        """Apply revisions up to `targets` (Alembic's words: `heads`, `market_data@head`); return what was done."""
        return await self.migrations.upgrade(targets, on_step)

    async def undo(self, targets: Sequence[str], on_step: OnStep) -> list[MigrationStep]:
        """Undo revisions, with all that their tables hold, down to `targets`; return what was done."""
        return await self.migrations.downgrade(targets, on_step)

    async def status(self) -> list[MigrationInfo]:
        """Return every revision that this version knows, and when it was applied."""
        return await self.migrations.status()

    def sql(self) -> str:
        """Return the SQL that `apply` runs on an empty database, for a person to read; nothing is connected to."""
        return self.migrations.sql()

    def draft(self, aggregate: str, about: str) -> Path:
        """Create a revision at the end of a context's migrations; return its file, which states the rules to keep.

        Raises:
            UsageError: there is no such aggregate, `about` is empty, or the context is not in a source folder.
        """
        context = self.catalog.of(aggregate).context
        if context.migrations is not None:
            demand_source(context.migrations)
        return self.migrations.draft(context.name, about, folder=context.migrations)
