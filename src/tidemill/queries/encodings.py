"""How the values of a column are written in JSON, in words: by its type, never by its value."""

from __future__ import annotations

from typing import Final

from tidemill.queries.collections import VisibleColumn

BY_TYPE: Final = {
    "smallint": "number",
    "integer": "number",
    "bigint": "string of digits",
    "numeric": "string, without exponent",
    "real": 'number, or "NaN", "Infinity", "-Infinity"',
    "double precision": 'number, or "NaN", "Infinity", "-Infinity"',
    "text": "string",
    "boolean": "true or false",
    "timestamptz": 'string, "2026-11-30T10:00:00.123456Z"',
    "timestamp": 'string, "2026-11-30T10:00:00.123456"',
    "date": 'string, "2026-11-30"',
    "time": 'string, "10:00:00.123456"',
    "interval": 'string of ISO 8601, "P1DT2H"',
    "uuid": "string, lower case",
    "bytea": "string of base64",
    "jsonb": "JSON, as it is",
    "json": "JSON, as it is",
}


def encoding_of(column: VisibleColumn) -> str:
    """Return how a column's values are written; `numbers=native` makes numbers of those of bigint and numeric."""
    if column.counter:
        return "number"
    if column.type.element is not None:
        return f"array of {BY_TYPE.get(column.type.element.name, 'string')}"
    return BY_TYPE.get(column.type.name, "string")
