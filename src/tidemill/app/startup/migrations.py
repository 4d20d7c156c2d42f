"""Whether the database has what this version needs."""

from __future__ import annotations

from functools import partial

from tidemill.app.connections import Login, Tls, database_tls
from tidemill.app.context_loader import migration_folders
from tidemill.app.deployment import Deployment
from tidemill.settings import DatabaseSettings
from tidemill.storage.migrations.database import MigrationDatabase


def migrations_of(
    deployment: Deployment, *, owner: Login = "migration", service: Login = "service"
) -> MigrationDatabase:
    """Return the migrations of a deployment's contexts, and of its database. Nothing is connected to.

    `owner`: the login that migrates, and by which their state is told; `service`: the one that only checks it.
    """
    contexts = migration_folders(part.context for part in deployment.catalog.contexts.values())
    server = partial(_server, deployment.settings.database)
    return MigrationDatabase(
        owner=partial(server, owner), service=partial(server, service), contexts=contexts
    )


async def demand_migrations(deployment: Deployment, *, writes: bool = True, login: Login = "service") -> None:
    """Return if the database has what this version needs. Raises `NotMigrated`, `Unavailable`.

    `writes`: a read-only server is not asked, since a standby may lack what was applied since.
    """
    await migrations_of(deployment, service=login).check(writes=writes)


def _server(settings: DatabaseSettings, login: Login) -> tuple[str, Tls]:
    return settings.dsn(login), database_tls(settings)
