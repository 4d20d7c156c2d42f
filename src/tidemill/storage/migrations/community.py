"""What TimescaleDB's Community edition alone can do: what a database has of it, and what is added by a migration.

It is no revision, since these are applied once: a database may be moved to the Community edition at any time, and gets
what it lacks at its next migration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tidemill.admin.setup.revisions import MigrationStep, OnStep
from tidemill.domain.community import CommunityFeature, EditionFeatures
from tidemill.storage.database import community_sql
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.migrations.connection import Driver

_EDITION: Final = load_statements(Path(__file__).with_name("community.sql"))["edition"]


class EditionDatabase:
    """`admin.ports.EditionReader`."""

    def __init__(self, pool: Lender) -> None:
        """Nothing is connected to."""
        self._pool = pool

    async def features(self) -> EditionFeatures:
        """Return the edition of the database, and what it has of its features. Raises `Unavailable`."""
        async with connection(self._pool) as borrowed:
            return await _features(borrowed)


async def add_missing(
    guard: Driver, search_path: str, features: Sequence[CommunityFeature], on_step: OnStep | None
) -> list[MigrationStep]:
    """Add the features that a database of the Community edition lacks, each in a transaction; return them.

    `guard`: the connection of the migration whose turn it is. `search_path`: has the schema of the extension.
    """
    edition = await _features(guard)
    steps = []
    for feature in features if edition.is_community else ():
        if feature.name not in edition.present and await guard.fetchval(
            community_sql.has_table(feature.table)
        ):
            await _add(guard, search_path, community_sql.statements_of(feature))
            steps.append(MigrationStep("community", feature.name, "up"))
            if on_step is not None:
                on_step(steps[-1])
    return steps


async def _add(guard: Driver, search_path: str, statements: Sequence[str]) -> None:
    async with guard.transaction():
        await guard.execute("select set_config('search_path', $1, true)", search_path)
        for statement in statements:
            await guard.execute(statement)


async def _features(borrowed: Connection | Driver) -> EditionFeatures:
    row = await borrowed.fetchrow(_EDITION)
    assert row is not None, "one row, whatever there is"
    return EditionFeatures(row["is_community"], frozenset(row["present"]))
