"""Collections in memory: obeys the same conformance suite as the database, and says what its SQL must mean."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cmp_to_key
from typing import Any
from uuid import UUID

from tests.support.json_reference import encoded_row
from tidemill.queries.collections import VERSION, VisibleCollection
from tidemill.queries.filters import Filter, Predicate
from tidemill.queries.order import Order, OrderKey, Position
from tidemill.queries.ports import (
    MAX_CAPPED_COUNT,
    CountedRows,
    CountQuery,
    Document,
    DocumentQuery,
    PageQuery,
    PageRows,
)
from tidemill.queries.request import CountMode
from tidemill.queries.value_types import Bound, FieldType

Row = dict[str, Any]
INFINITIES = {"infinity": 1, "-infinity": -1}


@dataclass
class MemoryCollections:
    """Rows by collection, as `tests.support.json_reference` has their values. Texts are in the order of `C`."""

    rows: dict[str, list[Row]] = field(default_factory=dict)

    async def document(self, query: DocumentQuery) -> Document | None:
        collection = query.collection
        wanted = [
            model_value(collection.columns[name].type, value)
            for name, value in zip(collection.key, query.key, strict=True)
        ]
        for row in self.rows[collection.name]:
            if all(same(row[name], value) for name, value in zip(collection.key, wanted, strict=True)):
                version = row[VERSION] if collection.has_version else None
                shown = _encoded(collection, query.fields, row, native=query.numbers_native)
                return Document(shown.encode(), version)
        return None

    async def page(self, query: PageQuery) -> PageRows:
        collection, order = query.collection, query.order
        passing = [row for row in self.rows[collection.name] if passes(query.where, row, collection)]
        passing.sort(key=cmp_to_key(lambda one, other: compared(order, collection, one, other)))
        positions = [_position(order, collection, row) for row in passing]
        start = _start(order, collection, passing, positions, query.after)
        shown: list[str] = []
        size = 0
        for row in passing[start : start + query.limit]:
            text = _encoded(collection, query.fields, row, native=query.numbers_native)
            size += len(text.encode()) + 1
            if shown and size > query.max_bytes:
                break
            shown.append(text)
        end = start + len(shown)
        last = positions[end - 1] if shown else None
        return PageRows(
            rows=f"[{','.join(shown)}]".encode(),
            row_count=len(shown),
            more=end < len(passing),
            last=last,
            equal=sum(position == last for position in positions[start:end]),
        )

    async def count(self, query: CountQuery) -> CountedRows:
        count = sum(passes(query.where, row, query.collection) for row in self.rows[query.collection.name])
        if query.mode is CountMode.CAPPED and count >= MAX_CAPPED_COUNT:
            return CountedRows(MAX_CAPPED_COUNT, at_least=True)
        return CountedRows(count)


def _encoded(collection: VisibleCollection, fields: tuple[str, ...], row: Row, *, native: bool) -> str:
    columns = [collection.columns[name] for name in fields or collection.columns]
    return encoded_row(columns, row, native=native)


# --- values ----------------------------------------------------------------------------------------------------------


def model_value(kind: FieldType, bound: Bound) -> Any:
    """A bound value as rows have it."""
    value = bound.value
    if kind.name == "jsonb":
        return json.loads(value)
    if kind.name == "uuid":
        return UUID(value)
    if not bound.as_text or value in INFINITIES:
        return value
    return _READERS[kind.name](value)


_READERS: dict[str, Any] = {
    "smallint": int,
    "integer": int,
    "bigint": int,
    "numeric": Decimal,
    "timestamptz": lambda text: datetime.fromisoformat(text).astimezone(UTC),
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "text": str,
    "real": float,
    "double precision": float,
    "boolean": lambda text: text == "true",
    "bytea": bytes.fromhex,
}


def _rank(value: Any) -> tuple[int, Any]:
    """What is infinite or no number stands beyond all that is finite."""
    if isinstance(value, str) and value in INFINITIES:
        return INFINITIES[value], 0
    if isinstance(value, float | Decimal) and math.isnan(value):
        return 2, 0
    if isinstance(value, UUID):
        return 0, value.bytes
    return 0, value


def less(one: Any, other: Any) -> bool:
    return _rank(one) < _rank(other)


def same(one: Any, other: Any) -> bool:
    """Equal as PostgreSQL has it: NaN is itself, and true is not 1."""
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return _rank(one) == _rank(other)


# --- filters ---------------------------------------------------------------------------------------------------------


def passes(where: Filter, row: Row, collection: VisibleCollection) -> bool:
    if isinstance(where, Predicate):
        return _holds(where, row[where.column], collection.columns[where.column].type)
    parts = [passes(part, row, collection) for part in where.parts]
    return {"and": all(parts), "or": any(parts), "not": not parts[0] if parts else True}[where.kind]


def _holds(predicate: Predicate, value: Any, kind: FieldType) -> bool:
    operator = predicate.operator
    if operator in ("is null", "is notnull"):
        return (value is None) is (operator == "is null")
    if operator == "has" and kind.name == "jsonb":
        return value is not None and _has(value, predicate.values[0].value)
    wanted = [model_value(kind.operand, bound) for bound in predicate.values]
    if operator in ("neq", "nin"):
        return value is None or not any(same(value, item) for item in wanted)
    if value is None:
        return False
    if kind.element is not None:
        return _array_holds(operator, value, wanted)
    if kind.name == "jsonb" and operator == "contains":
        return contains(value, wanted[0])
    if operator in ("eq", "in"):
        return any(same(value, item) for item in wanted)
    return _ordered(operator, value, wanted[0])


def _ordered(operator: str, value: Any, other: Any) -> bool:
    if operator == "prefix":
        return str(value).startswith(other)
    is_less, is_greater = less(value, other), less(other, value)
    return {"lt": is_less, "lte": not is_greater, "gt": is_greater, "gte": not is_less}[operator]


def _array_holds(operator: str, value: list[Any], wanted: Sequence[Any]) -> bool:
    held = [any(item is not None and same(item, other) for item in value) for other in wanted]
    return any(held) if operator in ("has", "overlaps") else all(held)


def _has(value: Any, name: str) -> bool:
    return name in value if isinstance(value, dict | list) else value == name


def contains(value: Any, part: Any, *, top: bool = True) -> bool:
    if isinstance(part, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], member, top=False) for key, member in part.items()
        )
    if isinstance(part, list):
        return isinstance(value, list) and all(
            any(contains(item, member, top=False) for item in value) for member in part
        )
    if top and isinstance(value, list):
        return any(same(item, part) for item in value)
    return not isinstance(value, dict | list) and same(value, part)


# --- order -----------------------------------------------------------------------------------------------------------


def compared(order: Order, collection: VisibleCollection, one: Row, other: Row) -> int:
    return _compared(
        order,
        [_value(key, collection, one) for key in order],
        [_value(key, collection, other) for key in order],
    )


def _compared(order: Order, one: Sequence[Any], other: Sequence[Any]) -> int:
    for key, left, right in zip(order, one, other, strict=True):
        if left is None or right is None:
            if (left is None) is not (right is None):
                return (1 if left is None else -1) * (-1 if key.descending else 1)
        elif not same(left, right):
            return (-1 if less(left, right) else 1) * (-1 if key.descending else 1)
    return 0


def _value(key: OrderKey, collection: VisibleCollection, row: Row) -> Any:
    if key.column is not None:
        return row[key.column]
    shown = repr([row[name] for name in collection.columns])
    return hashlib.sha256(shown.encode()).hexdigest()


def _position(order: Order, collection: VisibleCollection, row: Row) -> tuple[str | None, ...]:
    values = (_value(key, collection, row) for key in order)
    return tuple(None if value is None else _as_text(value) for value in values)


def _as_text(value: Any) -> str:
    return (
        value.hex()
        if isinstance(value, bytes)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _start(
    order: Order,
    collection: VisibleCollection,
    rows: list[Row],
    positions: list[tuple[str | None, ...]],
    after: Position | None,
) -> int:
    """Where the rows behind a position begin, also if the row itself is there no more."""
    if after is None:
        return 0
    kinds = [None if key.column is None else collection.columns[key.column].type for key in order]
    values = [
        text if text is None or kind is None else model_value(kind, Bound(text, as_text=True))
        for kind, text in zip(kinds, after.values, strict=True)
    ]
    behind = [_compared(order, [_value(key, collection, row) for key in order], values) for row in rows]
    if after.given:
        return sum(place < 0 for place in behind) + min(after.given, behind.count(0))
    return sum(place <= 0 for place in behind)
