"""Values of parameters as requests write them, JSON or text, by the type that is declared. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode

MAX_CHARACTERS: Final = 16_384
_MAX_YEAR: Final = 9998
"""The driver takes the last moment of the year after it for infinity."""

_INTEGER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DECIMAL: Final = re.compile(r"-?[0-9]{1,200}(\.[0-9]{1,200})?", re.ASCII)
_FLOAT: Final = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,3})?|NaN|-?Infinity", re.ASCII)
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


def parameter_value(kind: type, value: object) -> Any:
    """Return a value as the driver binds it. `kind`: one of `domain.query.SQL_TYPES`. Raises `RequestRefused`."""
    if isinstance(value, str) and len(value) > MAX_CHARACTERS:
        raise RequestRefused(RequestCode.BAD_VALUE, f"is longer than {MAX_CHARACTERS} characters")
    read, expected = _READERS[kind]
    try:
        return read(value)
    except (ValueError, OverflowError, TypeError):
        raise RequestRefused(RequestCode.BAD_VALUE, f"is not {expected}") from None


def _matched(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError
    value.encode()  # half of a surrogate pair is not text
    return value


def _integer(value: object) -> int:
    number = value if type(value) is int else int(_matched(_INTEGER, value))
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _decimal(value: object) -> Decimal:
    return Decimal(value) if type(value) is int else Decimal(_matched(_DECIMAL, value))


def _float(value: object) -> float:
    return float(value) if type(value) in (int, float) else float(_matched(_FLOAT, value))  # type: ignore[arg-type]


def _boolean(value: object) -> bool:
    return {True: True, False: False, "true": True, "false": False}[_only_booleans(value)]


def _only_booleans(value: object) -> Any:
    if value is True or value is False or value in ("true", "false"):
        return value
    raise ValueError


def _instant(value: object) -> datetime:
    instant = datetime.fromisoformat(_matched(_INSTANT, value)).astimezone(UTC)
    if instant.year > _MAX_YEAR:
        raise ValueError
    return instant


def _date(value: object) -> date:
    day = date.fromisoformat(_matched(_DATE, value))
    if day.year > _MAX_YEAR:
        raise ValueError
    return day


_READERS: Final[Mapping[type, tuple[Callable[[object], Any], str]]] = {
    str: (_text, "a text without NUL"),
    int: (_integer, "an integer of 64 bits: a number, or its digits as text"),
    float: (_float, 'a number, nor "NaN", "Infinity" or "-Infinity"'),
    bool: (_boolean, "true or false"),
    Decimal: (_decimal, "a decimal number as text"),
    datetime: (_instant, "an instant such as 2026-11-30T10:00:00.123456Z"),
    date: (_date, "a date such as 2026-11-30"),
    UUID: (lambda value: UUID(_matched(_UUID, value)), "a UUID"),
}
