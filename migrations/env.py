"""What Alembic runs around the revisions. Only `tidemill.storage.migrations.migrate` starts it, and hands over the connection.

The guards stand outside of it: one advisory lock on a connection of its own (so that it outlives the transactions
here), and limits on locks and statements as settings of this session.
"""

from __future__ import annotations

from alembic import context


def ours(name: str | None, kind: str, _parents: object) -> bool:
    """Look at no schema of TimescaleDB's: a comparison would propose to drop its chunks."""
    return kind != "schema" or name is None or not name.startswith(("_timescaledb_", "timescaledb_"))


context.configure(
    connection=context.config.attributes.get("connection"),  # none: the SQL is only written down
    dialect_name="postgresql",
    literal_binds=context.is_offline_mode(),
    on_version_apply=context.config.attributes["on_version_apply"],
    version_table=context.config.attributes["version_table"],
    version_table_schema="public",
    transaction_per_migration=True,  # what succeeded stays, and no lock is held longer than one revision needs
    include_schemas=True,
    include_name=ours,
)
with context.begin_transaction():
    context.run_migrations()
