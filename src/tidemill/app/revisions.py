"""The revisions of a deployment's database, to be applied, listed and drafted. It loads Alembic."""

from __future__ import annotations

from functools import partial

from tidemill.app.connections import Login
from tidemill.app.context_loader import migration_folders
from tidemill.app.deployment import Deployment
from tidemill.app.startup.migrations import server_of
from tidemill.storage.migrations.database import MigrationDatabase


def migrations_of(
    deployment: Deployment, *, owner: Login = "migration", service: Login = "service"
) -> MigrationDatabase:
    """Return the migrations of a deployment's contexts, and of its database. Nothing is connected to.

    `owner`: the login that migrates, and by which their state is told; `service`: the one that only checks it.
    """
    contexts = migration_folders(part.context for part in deployment.catalog.contexts.values())
    features = [feature for declared in deployment.catalog.community.values() for feature in declared]
    server = partial(server_of, deployment.settings.database)
    return MigrationDatabase(
        owner=partial(server, owner), service=partial(server, service), contexts=contexts, features=features
    )
