"""Whether the database has what this version needs. Asked at every start, so Alembic is not loaded for it."""

from __future__ import annotations

from functools import partial

from tidemill.app.connections import Login, Tls, database_tls
from tidemill.app.context_loader import migration_folders
from tidemill.app.deployment import Deployment
from tidemill.settings import DatabaseSettings
from tidemill.storage.migrations.applied import AppliedMigrationDatabase


def applied_migrations(deployment: Deployment, login: Login = "service") -> AppliedMigrationDatabase:
    """Return what is applied of the migrations of a deployment's contexts. Nothing is connected to."""
    contexts = migration_folders(part.context for part in deployment.catalog.contexts.values())
    return AppliedMigrationDatabase(partial(server_of, deployment.settings.database, login), contexts)


async def demand_migrations(deployment: Deployment, *, writes: bool = True, login: Login = "service") -> None:
    """Return if the database has what this version needs. Raises `NotMigrated`, `Unavailable`.

    `writes`: a read-only server is not asked, since a standby may lack what was applied since.
    """
    await applied_migrations(deployment, login).check(writes=writes)


def server_of(settings: DatabaseSettings, login: Login) -> tuple[str, Tls]:
    """Return the address of a login, and how to encrypt. Raises `UsageError` where there is none."""
    return settings.dsn(login), database_tls(settings)
