"""The ports of preparing a deployment. Every call may raise `Unavailable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tidemill.admin.setup.revisions import MigrationInfo, MigrationStep, NextRevision, OnStep
from tidemill.catalog.tables import Comparison
from tidemill.domain.context import Context
from tidemill.domain.lane import StreamTopics


class LaneCreation(Protocol):
    """The lanes of streams, as they are created."""

    async def create(self, aggregate: str, topics: StreamTopics, first_offsets: Mapping[int, int]) -> int:
        """Record the lanes of a stream, one per partition of its topics; return how many are new (all or none).

        `first_offsets`: partition -> first offset of its command topic, for every partition.

        Raises:
            ContractError: they were created with other topics or another number of partitions.
        """
        ...

    async def created(self, aggregate: str) -> int:
        """Return how many lanes a stream was created with, 0 if it was not."""
        ...


class AppliedMigrations(Protocol):
    """What the database has of the revisions that a deployment needs."""

    async def check(self, *, writes: bool = True) -> None:
        """Return if the database has what this version needs.

        `writes`: a read-only server is not asked, since a standby may lack what was applied since.
        Raises `UsageError`.
        """
        ...

    async def missing(self) -> Sequence[str]:
        """Return the revisions that this version needs and the database lacks. Raises `UsageError`."""
        ...


class Migrations(AppliedMigrations, Protocol):
    """The revisions of a deployment, applied and not. Targets are Alembic's words: `heads`, `market_data@head`."""

    async def upgrade(self, targets: Sequence[str], on_step: OnStep) -> list[MigrationStep]:
        """Apply revisions up to targets; return what was done."""
        ...

    async def downgrade(self, targets: Sequence[str], on_step: OnStep) -> list[MigrationStep]:
        """Undo revisions, with all that their tables hold, down to targets; return what was done."""
        ...

    async def status(self) -> list[MigrationInfo]:
        """Return every revision that this version knows, and when it was applied."""
        ...

    def sql(self) -> str:
        """Return the SQL that is run on an empty database; nothing is connected to."""
        ...

    def draft(self, branch: str, about: str, *, folder: Path | None) -> Path:
        """Create a revision at the end of a branch; return its file. Raises `UsageError` for an invalid name."""
        ...

    def next_revision(self, branch: str, *, folder: Path | None) -> NextRevision:
        """Return where the next revision of a branch belongs. Raises `ContractError` if the branch has two ends."""
        ...


class StructureReader(Protocol):
    """The tables and views that a context declares, beside those of the database."""

    async def compare(self, context: Context) -> list[Comparison]:
        """Compare with the database; rights are those that the role of the service has."""
        ...

    def compare_with_nothing(self, context: Context) -> list[Comparison]:
        """Compare with an empty database; nothing is connected to."""
        ...
