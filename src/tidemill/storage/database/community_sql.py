"""Generated SQL of what only TimescaleDB's Community edition can do. Every statement has a golden test.

Functions are called without a schema: the extension's is in the search path of a migration.
"""

from __future__ import annotations

from datetime import timedelta
from functools import singledispatch

from tidemill.domain.community import Compression, Rollup
from tidemill.domain.table_shape import TableShape
from tidemill.storage.database.table_sql import quoted, table_name


@singledispatch
def statements_of(feature: object) -> list[str]:
    """Return the statements that add a feature which a database lacks."""
    raise TypeError(f"{feature!r} is not a feature")


@statements_of.register
def _(feature: Compression) -> list[str]:
    table = table_name(feature.table)
    by, order = ", ".join(map(quoted, feature.by)), f"{quoted(feature.time_column)} desc"
    settings = f"timescaledb.compress_segmentby = {_text(by)}, timescaledb.compress_orderby = {_text(order)}"
    after = f"compress_after => {_interval(feature.after)}"
    return [
        f"alter table {table} set (timescaledb.compress, {settings})",
        f"select add_compression_policy({_text(table)}, {after})",
    ]


@statements_of.register
def _(feature: Rollup) -> list[str]:
    view = f"{quoted(feature.table.schema or 'public')}.{quoted(feature.view)}"
    by = [quoted(name) for name in feature.by]
    bucket = f"time_bucket({_interval(feature.span)}, {quoted(feature.time_column)}) as bucket"
    columns = ", ".join([bucket, *by, *(f"{sql} as {quoted(name)}" for name, sql in feature.values.items())])
    groups = ", ".join(str(place) for place in range(1, len(by) + 2))
    query = f"select {columns} from {table_name(feature.table)} group by {groups}"
    reach = f"start_offset => {_interval(feature.since)}, end_offset => {_interval(feature.until)}"
    every = f"schedule_interval => {_interval(feature.every)}"
    return [
        f"create materialized view {view} with (timescaledb.continuous) as {query} with no data",
        f"grant select on {view} to tidemill_reader",
        f"select add_continuous_aggregate_policy({_text(view)}, {reach}, {every})",
    ]


def has_table(table: TableShape) -> str:
    """Return the question whether a table is there."""
    return f"select to_regclass({_text(table_name(table))}) is not null"


def _interval(span: timedelta) -> str:
    return f"interval '{span.total_seconds():.0f} seconds'"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
