"""The JSON of a column's value, made by Python: what PostgreSQL's must equal, byte for byte.

Values: int, Decimal, float, str, bool, bytes, UUID, date, datetime, time, (months, days, microseconds) of an interval,
decoded JSON, lists; a time that no Python class holds is the text that PostgreSQL writes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np

from tidemill.queries.collections import VisibleColumn
from tidemill.queries.value_types import FieldType


def encoded_row(columns: list[VisibleColumn], row: dict[str, Any], *, native: bool = False) -> str:
    members = (
        f"{text(column.name)}:{encoded(column, row[column.name], native=native)}" for column in columns
    )
    return "{" + ",".join(members) + "}"


def encoded(column: VisibleColumn, value: Any, *, native: bool = False) -> str:
    if value is not None and column.type.element is not None:
        inner = (_of(column.type.element, item, native=native) for item in value)
        return f"[{','.join(inner)}]"
    return _of(column.type, value, native=native or column.counter)


def _of(kind: FieldType, value: Any, *, native: bool) -> str:
    if value is None:
        return "null"
    if kind.name in ("bigint", "numeric"):
        plain = decimal_text(value)
        return plain if native and plain.lstrip("-")[0].isdigit() else text(plain)
    return _ENCODERS[kind.name](value)


def text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def decimal_text(value: int | Decimal) -> str:
    if isinstance(value, Decimal) and not value.is_finite():
        return "NaN" if value.is_nan() else str(value)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def double(value: float) -> str:
    return _floating(value, repr(abs(value)), 15)


def real(value: float) -> str:
    return _floating(value, str(np.format_float_scientific(abs(np.float32(value)), unique=True)), 6)


def _floating(value: float, shortest: str, fixed_below: int) -> str:
    """The shortest digits; as a decimal if the first one is worth at least 1e-4 and less than 10**fixed_below."""
    if not math.isfinite(value):
        return text("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
    sign = "-" if math.copysign(1, value) < 0 else ""
    _, digit_tuple, _ = Decimal(shortest).as_tuple()
    digits = "".join(map(str, digit_tuple)).lstrip("0").rstrip("0")
    if not digits:
        return f"{sign}0"
    first = Decimal(shortest).adjusted()
    if -4 <= first < fixed_below:
        return sign + f"{Decimal((0, tuple(map(int, digits)), first - len(digits) + 1)):f}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'-' if first < 0 else '+'}{abs(first):02d}"


def instant(value: datetime | str) -> str:
    if isinstance(value, str):
        return text(value)
    return text(value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z")


def moment(value: datetime | str) -> str:
    return text(value if isinstance(value, str) else value.isoformat(timespec="microseconds"))


def day(value: date | str) -> str:
    return text(value if isinstance(value, str) else value.isoformat())


def time_of_day(value: time) -> str:
    plain = value.isoformat()
    return text(plain.rstrip("0") if "." in plain else plain)


def interval(value: tuple[int, int, int]) -> str:
    months, days, microseconds = value
    seconds = f"{Decimal(microseconds).scaleb(-6):.6f}"
    return text(f"P{months}M{days}DT{seconds}S")


def document(value: Any) -> str:
    """jsonb: shorter keys first, blanks behind commas and colons."""
    if isinstance(value, dict):
        ordered = sorted(value.items(), key=lambda item: (len(item[0].encode()), item[0].encode()))
        return "{" + ", ".join(f"{text(key)}: {document(member)}" for key, member in ordered) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(document, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


_ENCODERS: dict[str, Callable[[Any], str]] = {
    "smallint": str,
    "integer": str,
    "real": real,
    "double precision": double,
    "text": text,
    "boolean": lambda value: "true" if value else "false",
    "timestamptz": instant,
    "timestamp": moment,
    "date": day,
    "time": time_of_day,
    "interval": interval,
    "uuid": lambda value: text(str(value)),
    "bytea": lambda value: text(base64.b64encode(value).decode()),
    "jsonb": document,
}
