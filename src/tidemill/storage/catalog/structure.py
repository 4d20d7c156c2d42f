"""The declared tables of contexts compared with those of the database, in the server's own notation.

Types and conditions can be written in many ways. So the server normalises them: declared types by
`to_regtype`, conditions of partial indexes by a plan that shows them simplified, which needs only the right to read.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import asyncpg

from tidemill.catalog.column_types import ColumnType
from tidemill.catalog.structure import compare
from tidemill.catalog.tables import (
    SERVICE_ROLE,
    Column,
    Comparison,
    Declared,
    DeclaredView,
    Difference,
    FoundTable,
    Index,
    TableComparison,
    ViewComparison,
)
from tidemill.catalog.view_structure import compare_view
from tidemill.domain.context import Context
from tidemill.domain.projection import Projection
from tidemill.domain.stream import Stream
from tidemill.storage.catalog.declared import (
    TableUse,
    declared_table,
    named_type,
    place,
    use_of_projection,
    uses_of_stream,
    views_of_stream,
    written_type,
)
from tidemill.storage.database.pool import Connection, Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.storage.database.table_sql import quoted

_SQL = load_statements(Path(__file__).with_name("structure.sql"))

_TABLE_KINDS: Final = frozenset("rpf")
"""Plain, partitioned and foreign ones: COPY can fill all of them."""

_UNKNOWN: Final = "(an expression)"

_KINDS: Final[Mapping[str, str]] = {"v": "view", "m": "materialized view", "S": "sequence", "c": "type"}


class StructureDatabase:
    """`catalog.ports.DeclaredTables` as the login of `pool` sees them, and `admin.setup.ports.StructureReader`."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def stream_differences(self, stream: Stream) -> list[Difference]:
        return await differences(self._pool, uses_of_stream(stream), views_of_stream(stream))

    async def projection_differences(self, projection: Projection) -> list[Difference]:
        return await differences(self._pool, [use_of_projection(projection)])

    async def compare(self, context: Context) -> list[Comparison]:
        uses, views = _declared_by(context)
        async with connection(self._pool) as borrowed:
            return await compared(borrowed, uses, views, role=SERVICE_ROLE)

    def compare_with_nothing(self, context: Context) -> list[Comparison]:
        uses, views = _declared_by(context)
        tables = [declared_table(use) for use in uses]
        return [
            *(TableComparison(table, None, tuple(compare(table, None))) for table in tables),
            *(ViewComparison(view, None, tuple(compare_view(view, None))) for view in views),
        ]


def _declared_by(context: Context) -> tuple[list[TableUse], list[DeclaredView]]:
    stream = Stream.of(context)
    return [*uses_of_stream(stream), *map(use_of_projection, context.projections)], views_of_stream(stream)


# --- the comparison --------------------------------------------------------------------------------------------------


async def differences(
    pool: Lender, uses: Sequence[TableUse], views: Sequence[DeclaredView] = ()
) -> list[Difference]:
    """Return how tables and views differ from what is declared, as the login of `pool` sees them.

    Raises: what `pool.connection` raises.
    """
    async with connection(pool) as borrowed:
        return await look(borrowed, uses, views)


async def look(
    borrowed: Connection, uses: Sequence[TableUse], views: Sequence[DeclaredView] = ()
) -> list[Difference]:
    """See `differences`; `borrowed` is in no transaction."""
    comparisons = await compared(borrowed, uses, views)
    return [difference for comparison in comparisons for difference in comparison.differences]


async def compared(
    borrowed: Connection, uses: Sequence[TableUse], views: Sequence[DeclaredView], *, role: str | None = None
) -> list[Comparison]:
    """Return every table and view beside what the database has of it.

    `role`: whose rights are looked at, if it exists; by default those of the present login. `borrowed` is in no
    transaction.
    """
    places = [*(place(use.table) for use in uses), *map(_view_place, views)]
    if not places:
        return []
    schemas, names = zip(*places, strict=True)
    async with borrowed.transaction(isolation="repeatable_read", readonly=True):
        rows = await borrowed.fetch(_SQL["tables"], schemas, names, role)
        columns = _by_table(await borrowed.fetch(_SQL["columns"], schemas, names, role))
        indexes = _by_table(await borrowed.fetch(_SQL["indexes"], schemas, names))
        types = await _types(borrowed, uses)
    actual = {
        (row["schema"], row["name"]): _found(
            row, columns[row["schema"], row["name"]], indexes[row["schema"], row["name"]]
        )
        for row in rows
    }
    tables = [
        await _table(borrowed, declared_table(use, types), actual.get(place(use.table))) for use in uses
    ]
    return [*tables, *(_view(view, actual.get(_view_place(view))) for view in views)]


async def _table(borrowed: Connection, declared: Declared, actual: FoundTable | None) -> TableComparison:
    if actual is None:
        return TableComparison(declared, None, tuple(compare(declared, None)))
    same = await _alike(borrowed, declared, actual)
    return TableComparison(declared, actual, tuple(compare(*same)))


def _view(declared: DeclaredView, actual: FoundTable | None) -> ViewComparison:
    return ViewComparison(declared, actual, tuple(compare_view(declared, actual)))


def _view_place(view: DeclaredView) -> tuple[str, str]:
    return _bare(view.schema), _bare(view.view)


def _bare(name: str) -> str:
    """Return a name that may be quoted as it is in the catalogue."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _found(
    table: asyncpg.Record, columns: Sequence[asyncpg.Record], indexes: Sequence[asyncpg.Record]
) -> FoundTable:
    kind = table["kind"].decode()
    return FoundTable(
        kind="table" if kind in _TABLE_KINDS else _KINDS.get(kind, "thing of another kind"),
        columns=tuple(
            Column(
                quoted(row["name"]),
                named_type(row["type"], row["lengths"]),
                nullable=row["nullable"],
                made=row["made"],
                computed=row["computed"],
                rights=frozenset(row["rights"]),
            )
            for row in columns
        ),
        indexes=tuple(
            Index(
                quoted(row["name"]),
                tuple(map(_indexed, row["columns"], row["plain"])),
                unique=row["unique"],
                where=row["where"],
                valid=row["valid"],
                immediate=row["immediate"],
                method=row["method"],
            )
            for row in indexes
        ),
        rights=frozenset(table["rights"]),
        login=table["login"] or "this login",
        readers=frozenset(table["readers"]),
        late=table["late"],
        divided_by=None if table["divided_by"] is None else quoted(table["divided_by"]),
        definition=table["definition"] or "",
    )


def _indexed(text: str, is_plain: bool) -> str:  # noqa: FBT001  a column of the catalogue
    """Return a column of an index, quoted if needed, or an expression in parentheses."""
    if is_plain:
        return quoted(text)
    return text if text.startswith("(") else f"({text})"


# --- normalised by the server ----------------------------------------------------------------------------------------


async def _types(borrowed: Connection, uses: Sequence[TableUse]) -> dict[str, ColumnType]:
    """Return the server's names of the declared types; an unknown one keeps its name."""
    written = {written_type(column) for use in uses for column in use.table.columns}
    rows = await borrowed.fetch(_SQL["types"], sorted(each for each in written if each))
    return {row["written"]: named_type(row["type"] or row["written"], row["lengths"]) for row in rows}


async def _alike(borrowed: Connection, declared: Declared, found: FoundTable) -> tuple[Declared, FoundTable]:
    """Return both with the expressions of their indexes as a plan shows them.

    An expression that the table refuses leaves out all of them: the missing column is found separately.
    """
    if not any(map(_expressions, declared.indexes)):
        return declared, found
    both = (*declared.indexes, *found.indexes)
    texts = list(dict.fromkeys(text for index in both for text in _expressions(index)))
    shown: Mapping[str, str] = {}
    with suppress(asyncpg.SyntaxOrAccessError, asyncpg.DataError):
        shown = dict(zip(texts, await _planned(borrowed, declared.name, texts), strict=True))
    renamed = [
        tuple(_normalised(index, shown) for index in indexes) for indexes in (declared.indexes, found.indexes)
    ]
    return replace(declared, indexes=renamed[0]), replace(found, indexes=renamed[1])


def _expressions(index: Index) -> list[str]:
    columns = [text for text in index.columns if text.startswith("(")]
    return columns if index.where is None else [*columns, index.where]


def _normalised(index: Index, shown: Mapping[str, str]) -> Index:
    columns = tuple(shown.get(text, _UNKNOWN) if text.startswith("(") else text for text in index.columns)
    return replace(index, columns=columns, where=shown.get(index.where or ""))


async def _planned(borrowed: Connection, table: str, conditions: Sequence[str]) -> list[str]:
    listed = ", ".join(f"({each})" for each in conditions)
    # of the table alone: a plan over chunks shows the names of theirs
    plan = await borrowed.fetchval(
        f"explain (verbose, costs off, format json) select {listed} from only {table}"
    )
    output: list[str] = json.loads(plan)[0]["Plan"]["Output"]
    return output


def _by_table(rows: Iterable[asyncpg.Record]) -> dict[tuple[str, str], list[asyncpg.Record]]:
    found: dict[tuple[str, str], list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        found[row["schema"], row["table"]].append(row)
    return found
