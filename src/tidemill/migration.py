"""The public surface for migrations: what a revision imports. The rest of a revision is Alembic's."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import text

__all__ = ["run_script"]


def run_script(sql: str) -> None:
    """Run SQL inside a revision, any number of statements at once, in the revision's transaction.

    `op.execute` cannot: the driver prepares what it is given, and a prepared statement is one statement.
    """
    if op.get_context().as_sql:
        whole = sql.strip()
        op.get_context().impl.static_output(whole if whole.endswith(";") else f"{whole};")
        return
    connection = op.get_bind()
    connection.execute(
        text("select 1")
    )  # the adapter begins its transaction with the first statement it sees
    adapted: Any = connection.connection.dbapi_connection
    adapted.run_async(
        lambda driver: driver.execute(f"{sql}\n; select 1")
    )  # asyncpg fails on nothing but comments
