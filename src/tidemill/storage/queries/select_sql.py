"""Generated SQL: the statements of documents, pages and counts. Every shape has a golden test.

Names come from declarations and are quoted; values are parameters. The text depends on the shape of a request alone, so
that it is generated once, and prepared once by each session.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from tidemill.queries.collections import VERSION, VisibleCollection, VisibleColumn
from tidemill.queries.filters import PredicateShape, Shape
from tidemill.queries.order import Order, OrderKey, is_shared
from tidemill.storage.database.table_sql import quoted, table_name
from tidemill.storage.queries.json_sql import json_row

MAX_STATEMENTS: Final = 1_024

_COMPARISONS: Final = {"eq": "=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "prefix": "^@"}


class AfterKey(NamedTuple):
    """What of a cursor's value is in the statement: null, or how it is bound."""

    is_null: bool
    as_text: bool


class PageShape(NamedTuple):
    """What of a page's query is in the statement. `repeats`: rows with the cursor's values are read again."""

    collection: VisibleCollection
    fields: tuple[str, ...]
    where: Shape
    order: Order
    after: tuple[AfterKey, ...] | None
    repeats: bool
    native: bool


class _Parameters:
    """Numbers the parameters of a statement, in the order in which they are named."""

    def __init__(self) -> None:
        self._count = 0

    def next(self, kind: str, *, as_text: bool = False, is_list: bool = False) -> str:
        self._count += 1
        array = "[]" if is_list else ""
        cast = f"::text{array}" if as_text and kind != "text" else ""
        return f"${self._count}{cast}::{kind}{array}"


# --- statements ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=MAX_STATEMENTS)
def select_document(
    collection: VisibleCollection, fields: tuple[str, ...], key_as_text: tuple[bool, ...], *, native: bool
) -> str:
    """Return the statement that reads a document by its key: body as bytes, and version."""
    parameters = _Parameters()
    equal = " and ".join(
        f"t.{quoted(name)} = {parameters.next(collection.columns[name].type.name, as_text=as_text)}"
        for name, as_text in zip(collection.key, key_as_text, strict=True)
    )
    version = f"t.{quoted(VERSION)}" if collection.has_version else "null::bigint"
    row = json_row(_shown(collection, fields), "t", native=native)
    return (
        f"select convert_to({row}, 'UTF8') as body, {version} as version "
        f"from {table_name(collection.collection.table)} t where {equal}"
    )


@lru_cache(maxsize=MAX_STATEMENTS)
def select_rows(shape: PageShape) -> str:
    """Return the statement of a page.

    Parameters: values of the filter, those of the cursor that are not null, rows, bytes, and rows to skip. Columns: the
    rows as a JSON array in bytes, their number, how many were read (one more than asked for if there are more), the
    position of the last, and how many of the page share it.
    """
    parameters = _Parameters()
    collection = shape.collection
    conditions = [condition(shape.where, collection, parameters)]
    position = _position_values(shape, parameters)
    if shape.after is not None:
        conditions.extend(_after(shape, position))
    limit, max_bytes = parameters.next("bigint"), parameters.next("bigint")
    shared = is_shared(shape.order)
    passing = f"{table_name(collection.collection.table)} t where {' and '.join(conditions)}"
    if shared:
        sorted_rows = _first_shared(shape, passing, limit, parameters.next("bigint"), position)
    else:
        sorted_rows = (
            f"select {_read_columns(shape)} from {passing} order by {_order_by(shape)} limit {limit} + 1"
        )
    row = json_row(_shown(collection, shape.fields), "p", native=shape.native)
    at = ", ".join(_position(key) for key in shape.order)
    numbered = (
        f"select row_number() over () as tm_n, {row} as tm_row, json_build_array({at})::text as tm_at "
        f"from ({sorted_rows}) p"
    )
    size = "sum(octet_length(r.tm_row) + 1) over (order by r.tm_n)"
    equal = "row_number() over (partition by r.tm_at order by r.tm_n)" if shared else "1"
    cut = (
        f"select r.tm_n, r.tm_row, r.tm_at, {equal} as tm_equal, "
        f"r.tm_n <= {limit} and (r.tm_n = 1 or {size} <= {max_bytes}) as tm_shown from ({numbered}) r"
    )
    rows = "'[' || coalesce(string_agg(c.tm_row, ',' order by c.tm_n) filter (where c.tm_shown), '') || ']'"
    return (
        f"select convert_to({rows}, 'UTF8') as rows, count(*) filter (where c.tm_shown) as row_count, "
        f"count(*) as read_count, {_last('tm_at')} as last, {_last('tm_equal')} as equal from ({cut}) c"
    )


def _first_shared(shape: PageShape, passing: str, limit: str, skipped: str, position: Sequence[str]) -> str:
    """Return the first rows of an order that ends with the hash of a row.

    That is made only of rows that are first by all else, with those that are equal to the last of them: of all rows it
    would take far longer than everything else. `skipped`: how many rows at `position` were given; some may have left
    since, and are not skipped.
    """
    named = shape._replace(order=shape.order[:-1])
    first = f"select t.* from {passing}"
    if named.order:
        first += f" order by {_order_by(named)} fetch first ({limit} + 1 + {skipped}) rows with ties"
    if shape.repeats:
        names = [_expression(key, shape.collection) for key in shape.order]
        equal = " and ".join(map(_same, names, position))
        skipped = f"least({skipped}, (select count(*) from tm_first t where {equal}))"
    columns, order = _read_columns(shape), _order_by(shape)
    return (
        f"with tm_first as ({first}) "
        f"select {columns} from tm_first t order by {order} limit {limit} + 1 offset {skipped}"
    )


def _last(column: str) -> str:
    return f"(array_agg(c.{column} order by c.tm_n desc) filter (where c.tm_shown))[1]"


@lru_cache(maxsize=MAX_STATEMENTS)
def count_rows(collection: VisibleCollection, where: Shape) -> str:
    """Return the statement that counts the rows that pass a filter."""
    return f"select count(*) from {_filtered(collection, where, _Parameters())}"


@lru_cache(maxsize=MAX_STATEMENTS)
def count_capped(collection: VisibleCollection, where: Shape) -> str:
    """Return the statement that counts them up to a number, the last parameter."""
    parameters = _Parameters()
    rows = f"select from {_filtered(collection, where, parameters)}"
    return f"select count(*) from ({rows} limit {parameters.next('bigint')}) c"


@lru_cache(maxsize=MAX_STATEMENTS)
def explain_rows(collection: VisibleCollection, where: Shape) -> str:
    """Return the statement that tells how many rows the database expects."""
    return f"explain (format json) select from {_filtered(collection, where, _Parameters())}"


def _filtered(collection: VisibleCollection, where: Shape, parameters: _Parameters) -> str:
    return f"{table_name(collection.collection.table)} t where {condition(where, collection, parameters)}"


def _shown(collection: VisibleCollection, fields: tuple[str, ...]) -> list[VisibleColumn]:
    return [collection.columns[name] for name in fields or collection.columns]


# --- filters ---------------------------------------------------------------------------------------------------------


def condition(where: Shape, collection: VisibleCollection, parameters: _Parameters) -> str:
    """Return the condition of a filter. Null counts as false, so that only a negation must say so."""
    if isinstance(where, PredicateShape):
        return _predicate(where, collection.columns[where.column], parameters)
    parts = [condition(part, collection, parameters) for part in where.parts]
    if where.kind == "not":
        return f"(({parts[0]}) is not true)"
    if not parts:
        return "true" if where.kind == "and" else "false"
    return parts[0] if len(parts) == 1 else f"({f' {where.kind} '.join(parts)})"


def _predicate(where: PredicateShape, column: VisibleColumn, parameters: _Parameters) -> str:
    name, kind = f"t.{quoted(column.name)}", column.type
    if where.operator.startswith("is "):
        return f"{name} is {'null' if where.operator == 'is null' else 'not null'}"
    if kind.element is not None:
        return _of_array(where, f"{name}::{kind.name}", kind.element.name, parameters)
    if where.operator in ("in", "nin"):
        values = parameters.next(kind.name, as_text=where.as_text, is_list=True)
        is_in = f"{name} = any({values})"
        return is_in if where.operator == "in" else f"({is_in}) is not true"
    if where.operator == "has":
        return f"{name} ? {parameters.next('text')}"
    value = parameters.next(kind.name, as_text=where.as_text)
    if where.operator == "neq":
        return f"{name} is distinct from {value}"
    return f"{name} {_COMPARISONS.get(where.operator, '@>')} {value}"


def _of_array(where: PredicateShape, name: str, element: str, parameters: _Parameters) -> str:
    if where.operator == "has":
        return f"{parameters.next(element, as_text=where.as_text)} = any({name})"
    values = parameters.next(element, as_text=where.as_text, is_list=True)
    return f"{name} {'@>' if where.operator == 'contains' else '&&'} {values}"


# --- order -----------------------------------------------------------------------------------------------------------


def _row_hash(collection: VisibleCollection) -> str:
    """Only what is visible: what is hidden must not decide an order."""
    values = ", ".join(f"t.{quoted(name)}" for name in collection.columns)
    return f"encode(sha256(convert_to(row({values})::text, 'UTF8')), 'hex') collate \"C\""


def _expression(key: OrderKey, collection: VisibleCollection) -> str:
    return _row_hash(collection) if key.column is None else f"t.{quoted(key.column)}"


def _position(key: OrderKey) -> str:
    return "p.tm_hash" if key.column is None else f"p.{quoted(key.column)}::text"


def _read_columns(shape: PageShape) -> str:
    shown = shape.fields or tuple(shape.collection.columns)
    sorted_by = [key.column for key in shape.order if key.column is not None]
    columns = [f"t.{quoted(name)}" for name in dict.fromkeys((*shown, *sorted_by))]
    hashed = [f"{_row_hash(shape.collection)} as tm_hash"] if is_shared(shape.order) else []
    return ", ".join(columns + hashed)


def _order_by(shape: PageShape) -> str:
    keys = [
        f"{'tm_hash' if key.column is None else f't.{quoted(key.column)}'}{' desc' if key.descending else ''}"
        for key in shape.order
    ]
    return ", ".join(keys)


def _position_values(shape: PageShape, parameters: _Parameters) -> list[str]:
    """Return the cursor's values as they are bound, an empty text for a null."""
    kinds = [
        "text" if key.column is None else shape.collection.columns[key.column].type.name
        for key in shape.order
    ]
    return [
        "" if after.is_null else parameters.next(kind, as_text=after.as_text)
        for kind, after in zip(kinds, shape.after or (), strict=shape.after is not None)
    ]


def _after(shape: PageShape, values: Sequence[str]) -> Iterator[str]:
    """Yield conditions of the rows after a position: those that are later in a key, and equal in the keys before it."""
    names = [_expression(key, shape.collection) for key in shape.order]
    if not shape.repeats and _is_uniform(shape.order):
        sign = "<" if shape.order[0].descending else ">"
        yield f"({', '.join(names)}) {sign} ({', '.join(values)})"
        return
    first = shape.order[0]
    if not first.nullable:  # by it an index is entered, and chunks are left out
        yield f"{names[0]} {'<=' if first.descending else '>='} {values[0]}"
    yield _later(shape.order, names, values, repeats=shape.repeats)


def _is_uniform(order: Order) -> bool:
    return all(not key.nullable and key.descending == order[0].descending for key in order)


def _later(order: Order, names: Sequence[str], values: Sequence[str], *, repeats: bool) -> str:
    *outer, innermost = list(zip(order, names, values, strict=True))
    later = _beyond(*innermost)
    if repeats:
        later = f"({later} or {_same(*innermost[1:])})"
    for key, name, value in reversed(outer):
        later = f"({_beyond(key, name, value)} or ({_same(name, value)} and {later}))"
    return later


def _same(name: str, value: str) -> str:
    return f"{name} = {value}" if value else f"{name} is null"


def _beyond(key: OrderKey, name: str, value: str) -> str:
    """Ascending nulls are last, descending ones first."""
    if not value:
        return f"{name} is not null" if key.descending else "false"
    if key.descending:
        return f"{name} < {value}"
    return f"({name} > {value} or {name} is null)" if key.nullable else f"{name} > {value}"
