"""Values of JSON as fields of a command: what is embedded becomes text, and nothing is lost on the way.

JSON bounds neither digits nor fractions of a second, and readers drop them without a word; types that Python takes
for one another (`true` for 1, a number for a time) are not the same to a client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, get_args

from pydantic import BaseModel

from tidemill.domain.table_shape import TableShape

_BELOW_MICROSECONDS: Final = re.compile(r"[.,]\d{6}\d*[1-9]")
_EXACT_DIGITS: Final = 15
"""Of a number with a fraction, which a reader of JSON has rounded to 53 bits."""


_JSON_TYPES: Final = frozenset({"JSON", "JSONB"})


class NotEmbedded(ValueError):
    """The field holds JSON, and what was given is neither an object nor an array."""


@lru_cache(maxsize=1_000)
def json_fields(model: type[BaseModel], table: TableShape | None) -> frozenset[str]:
    """Return the fields whose value is the text of JSON: by their column or by their type."""
    columns = (
        set() if table is None else {column.name for column in table.columns if _is_json_type(column.type)}
    )
    declared = {
        name
        for name, info in model.model_fields.items()
        if name in columns or any(map(_is_json_type, _extras([*info.metadata, info.annotation])))
    }
    return frozenset(declared)


def json_text(value: Any) -> str:
    """Return the canonical text of what is embedded: keys sorted, no spaces, characters as they are.

    The field's own type tells whether it takes an object or an array.

    Raises:
        NotEmbedded: it is neither, or has a number that JSON does not have.
    """
    if not isinstance(value, Mapping | list):
        raise NotEmbedded("must be a JSON object or array, embedded and not as text")
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise NotEmbedded("has a number that JSON does not have") from error


_NOT_FINITE: Final = ("NaN", "Infinity", "-Infinity")
"""Floats that JSON has no number for, as texts: readers get them in this form."""


def losses(given: Any, value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Return (JSON pointer, what is wrong) for what of the values of a body its command does not have."""
    if isinstance(value, BaseModel) and isinstance(given, Mapping):
        for name, part in given.items():
            yield from losses(part, getattr(value, name, None), f"{where}/{name}")
    elif isinstance(value, list | tuple) and isinstance(given, list | tuple):
        for index, (part, item) in enumerate(zip(given, value, strict=False)):
            yield from losses(part, item, f"{where}/{index}")
    elif (fault := _loss(given, value)) is not None:
        yield where, fault


def _loss(given: Any, value: Any) -> str | None:
    if isinstance(value, bool) or isinstance(given, bool):
        return None if isinstance(value, bool) and isinstance(given, bool) else _of_truth(value)
    if isinstance(value, datetime | time):
        return _of_time(given, value)
    if isinstance(value, Decimal):
        return _of_decimal(given)
    if isinstance(value, float):
        return _of_float(given, value)
    return None


def _of_truth(value: Any) -> str:
    return "must be true or false" if isinstance(value, bool) else "must not be true or false"


def _of_time(given: Any, value: datetime | time) -> str | None:
    if not isinstance(given, str):
        return "must be a text, such as 2026-11-30T10:00:00Z"
    if isinstance(value, datetime) and value.tzinfo is None:
        return "has no offset: end it with Z for UTC"
    return "is finer than a microsecond: round it" if _BELOW_MICROSECONDS.search(given) else None


def _of_decimal(given: Any) -> str | None:
    if not isinstance(given, float):
        return None
    digits = len(Decimal(repr(given)).as_tuple().digits)
    return None if digits <= _EXACT_DIGITS else "has more digits than a JSON number keeps: send it as a text"


def _of_float(given: Any, value: float) -> str | None:
    if given in _NOT_FINITE:
        return None
    if not isinstance(given, int | float):
        return 'must be a number, or "NaN", "Infinity" or "-Infinity"'
    return None if given == value else "has more digits than the field: round it"


def _is_json_type(kind: Any) -> bool:
    """Tell of the type of a column, which is SQLAlchemy's, by its text."""
    return hasattr(type(kind), "python_type") and str(kind) in _JSON_TYPES


def _extras(parts: Any) -> Iterator[Any]:
    for part in parts:
        yield part
        if args := get_args(part):
            yield from _extras(args)
