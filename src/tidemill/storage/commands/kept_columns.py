"""Columns of an aggregate's table that this version does not know: their values survive when a row is rewritten.

During an upgrade, the table has a newer version's columns already, and may get values in them before a process
of this version writes the row again. Rows are deleted and inserted, so such values are saved meanwhile, as the
database's own JSON, for which their types need not be known. Without such columns nothing of this runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tidemill.domain.state import State
from tidemill.storage.database import table_sql
from tidemill.storage.database.pool import Connection


class Kept(NamedTuple):
    """Values by key, as JSON objects: key -> column -> value."""

    columns: Sequence[str] = ()
    values: Mapping[str, str] = {}


async def keep(borrowed: Connection, state: State, keys: Sequence[str]) -> Kept:
    """Read the values of `keys` in columns that `state` does not have."""
    table = table_sql.table_name(state.table)
    columns = [row["name"] for row in await borrowed.fetch(table_sql.UNKNOWN_COLUMNS, table, _known(state))]
    if not columns:
        return Kept()
    rows = await borrowed.fetch(table_sql.select_unknown(state), keys, _known(state))
    return Kept(columns, {row["key"]: row["kept"] for row in rows})


async def put_back(borrowed: Connection, state: State, kept: Kept) -> None:
    """Write the saved values to the rewritten rows."""
    if kept.values:
        statement = table_sql.update_unknown(state, tuple(kept.columns))
        await borrowed.execute(statement, list(kept.values), list(kept.values.values()))


def _known(state: State) -> list[str]:
    return [column.name for column in state.table.columns]
