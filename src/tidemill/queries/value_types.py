"""The types of columns as requests write their values: which operators there are, and how a value is read.

A value is bound, never written into a statement. What the driver binds exactly goes in its own type, so that a plan is
made for the value itself (chunks of a hypertable are left out by it); the rest goes as text that the server reads.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from tidemill.domain.strict_json import JsonFault
from tidemill.queries.json_values import compact, parsed, sentence

MAX_NUMBER_CHARACTERS: Final = 1_000
MAX_EXPONENT: Final = 400
_DRIVER_YEARS: Final = range(2, 9999)
"""asyncpg takes the first moment of the year before these, and the last one of the year after, for infinities."""


class Bound(NamedTuple):
    """A value to be bound. `as_text`: the server casts it from text; None never stands for null in a filter."""

    value: Any
    as_text: bool = False


class ValueFault(Exception):
    """A value is not of its type; the text says what is expected."""


EQUALITY: Final = frozenset({"eq", "neq", "in", "nin", "is"})
ORDER: Final = EQUALITY | {"lt", "lte", "gt", "gte"}
OPERATORS: Final = ORDER | {"prefix", "contains", "has", "overlaps"}
LISTS: Final = frozenset({"in", "nin", "contains", "overlaps"})
"""Operators that take several values; `contains` and `overlaps` only of an array."""


@dataclass(frozen=True)
class FieldType:
    """A type of PostgreSQL. `name`: as a cast writes it. `bound`: the driver binds it natively, under that name.

    `read(text)` raises `ValueFault`. `literals`: the Python classes of JSON values that are read like their text.
    `element`: of an array.
    """

    name: str
    operators: frozenset[str]
    read: Callable[[str], Bound]
    literals: tuple[type, ...] = ()
    element: FieldType | None = None

    @property
    def sortable(self) -> bool:
        """Return whether rows can be put in its order."""
        return "eq" in self.operators and self.name != "jsonb"

    @property
    def operand(self) -> FieldType:
        """Return the type of the values that its operators take."""
        return self if self.element is None else self.element

    def from_json(self, value: Any) -> Bound:
        """Read a value of a JSON body. Raises `ValueFault`."""
        if self.name == "jsonb":
            return _from_decoded(value)
        if isinstance(value, str):
            return self.read(value)
        if isinstance(value, bool):
            if bool in self.literals:
                return self.read("true" if value else "false")
        elif isinstance(value, self.literals):
            return self.read(str(value))
        raise ValueFault(self.expected)

    @property
    def expected(self) -> str:
        """Return what is wrong with a value of another kind."""
        return f"is not {_EXPECTED.get(self.name, f'a value of {self.name}')}"


_EXPECTED: Final = {
    "smallint": "an integer",
    "integer": "an integer",
    "bigint": "an integer, best as a string of digits",
    "numeric": "a decimal, written as a string",
    "text": "a string",
    "boolean": "true or false",
    "timestamptz": "a time such as 2026-11-30T10:00:00.123456Z",
    "timestamp": "a time without an offset, such as 2026-11-30T10:00:00",
    "date": "a date such as 2026-11-30",
    "time": "a time of day such as 10:00:00",
    "uuid": "a UUID",
    "bytea": "base64",
}


# --- reading ---------------------------------------------------------------------------------------------------------

_INTEGER: Final = re.compile(r"-?[0-9]{1,40}", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE]([+-]?[0-9]{1,4}))?", re.ASCII)
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_TIME: Final = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?"
_INSTANT: Final = re.compile(_TIME + r"(Z|[+-]\d{2}:\d{2})", re.ASCII)
_LOCAL_TIME: Final = re.compile(_TIME, re.ASCII)
_BLANK_FOR_PLUS: Final = re.compile(_TIME + r" \d{2}:\d{2}", re.ASCII)
_FINE: Final = re.compile(r"\.\d{7,}")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME_OF_DAY: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_INFINITE: Final = frozenset({"infinity", "-infinity"})
_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})


def _integer(bits: int, name: str) -> Callable[[str], Bound]:
    limit = 1 << (bits - 1)

    def read(text: str) -> Bound:
        if not _INTEGER.fullmatch(text):
            raise ValueFault(f"is not {_EXPECTED[name]}")
        if not -limit <= (value := int(text)) < limit:
            raise ValueFault(f"is out of range: {-limit} to {limit - 1}")
        return Bound(value)

    return read


def _numeric(text: str) -> Bound:
    if text not in _NOT_FINITE:
        number = _NUMBER.fullmatch(text)
        if number is None or len(text) > MAX_NUMBER_CHARACTERS:
            raise ValueFault(f"is not {_EXPECTED['numeric']}")
        if abs(int(number[1] or "0")) > MAX_EXPONENT:
            raise ValueFault(f"is out of range: exponents go to {MAX_EXPONENT}")
    return Bound(text, as_text=True)


def _floating(form: str) -> Callable[[str], Bound]:
    def read(text: str) -> Bound:
        if text in _NOT_FINITE:
            return Bound(float(text))
        if len(text) > MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(text):
            raise ValueFault('is not a number, nor "NaN", "Infinity" or "-Infinity"')
        value = float(text)
        try:
            struct.pack(form, value)
        except OverflowError:
            value = float("inf")
        if value in (float("inf"), float("-inf")):
            raise ValueFault("is out of range of the column's type")
        return Bound(value)

    return read


def _text(text: str) -> Bound:
    if _UNSTORABLE.search(text):
        raise ValueFault("has a NUL or half a surrogate pair, which no text holds")
    return Bound(text)


def _boolean(text: str) -> Bound:
    if text not in ("true", "false"):
        raise ValueFault(f"is not {_EXPECTED['boolean']}")
    return Bound(text == "true")


def _instant(text: str) -> Bound:
    if text in _INFINITE:
        return Bound(text, as_text=True)
    if not _INSTANT.fullmatch(text):
        raise ValueFault(_fault_of_time(text))
    return _native_instant(text)


def _native_instant(text: str) -> Bound:
    try:
        instant = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueFault(f"is not {_EXPECTED['timestamptz']}") from None
    is_safe = instant.year in _DRIVER_YEARS
    return Bound(instant) if is_safe else Bound(text, as_text=True)


def _fault_of_time(text: str) -> str:
    if _BLANK_FOR_PLUS.fullmatch(text):
        return "has a blank where its offset begins: in a URL a plus is written %2B, or use Z"
    if _LOCAL_TIME.fullmatch(text):
        return "has no offset: end it with Z, or with one such as +02:00"
    if _FINE.search(text):
        return "is finer than a microsecond"
    return f"is not {_EXPECTED['timestamptz']}"


def _local_time(text: str) -> Bound:
    if text in _INFINITE:
        return Bound(text, as_text=True)
    if not _LOCAL_TIME.fullmatch(text):
        raise ValueFault(f"is not {_EXPECTED['timestamp']}")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueFault(f"is not {_EXPECTED['timestamp']}") from None
    return Bound(moment) if moment.year in _DRIVER_YEARS else Bound(text, as_text=True)


def _date(text: str) -> Bound:
    if text in _INFINITE:
        return Bound(text, as_text=True)
    if not _DATE.fullmatch(text):
        raise ValueFault(f"is not {_EXPECTED['date']}")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueFault(f"is not {_EXPECTED['date']}") from None
    return Bound(day) if day.year in _DRIVER_YEARS else Bound(text, as_text=True)


def _time_of_day(text: str) -> Bound:
    if not _TIME_OF_DAY.fullmatch(text):
        raise ValueFault(f"is not {_EXPECTED['time']}")
    return Bound(text, as_text=True)


def _uuid(text: str) -> Bound:
    if not _UUID.fullmatch(text):
        raise ValueFault(f"is not {_EXPECTED['uuid']}")
    return Bound(text.lower())


def _bytes(text: str) -> Bound:
    try:
        return Bound(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ValueFault(f"is not {_EXPECTED['bytea']}") from None


def _json(text: str) -> Bound:
    try:
        parsed(text)
    except JsonFault as fault:
        raise ValueFault(f"is not JSON that can be stored: {sentence(fault)}") from fault
    return Bound(text)


def _from_decoded(value: Any) -> Bound:
    try:
        return Bound(compact(value))
    except JsonFault as fault:
        raise ValueFault(f"cannot be stored: {sentence(fault)}") from fault


def _nothing(text: str) -> Bound:
    del text
    raise ValueFault("cannot be compared")


_NUMBERS: Final = (int, float, Decimal)
_SCALARS: Final[Mapping[str, FieldType]] = {
    "smallint": FieldType("smallint", ORDER, _integer(16, "smallint"), (int,)),
    "integer": FieldType("integer", ORDER, _integer(32, "integer"), (int,)),
    "bigint": FieldType("bigint", ORDER, _integer(64, "bigint"), (int,)),
    # a float of a JSON body is already another number than the one that was sent
    "numeric": FieldType("numeric", ORDER, _numeric, (int, Decimal)),
    "real": FieldType("real", ORDER, _floating("<f"), _NUMBERS),
    "double precision": FieldType("double precision", ORDER, _floating("<d"), _NUMBERS),
    "text": FieldType("text", ORDER | {"prefix"}, _text),
    "boolean": FieldType("boolean", EQUALITY, _boolean, (bool,)),
    "timestamptz": FieldType("timestamptz", ORDER, _instant),
    "timestamp": FieldType("timestamp", ORDER, _local_time),
    "date": FieldType("date", ORDER, _date),
    "time": FieldType("time", ORDER, _time_of_day),
    "uuid": FieldType("uuid", ORDER, _uuid),
    "bytea": FieldType("bytea", ORDER, _bytes),
    "jsonb": FieldType("jsonb", frozenset({"eq", "neq", "contains", "has", "is"}), _json),
    "interval": FieldType("interval", frozenset({"is"}), _nothing),
    "json": FieldType("json", frozenset({"is"}), _nothing),
}
_ALIASES: Final = {
    "float": "double precision",
    "double": "double precision",
    "decimal": "numeric",
    "varchar": "text",
    "character varying": "text",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time without time zone": "time",
}
_LENGTHS: Final = re.compile(r"\([^)]*\)")


def value_type(written: str) -> FieldType:
    """Return the type of a column, as SQL writes it (`numeric(10, 2)`, `text[]`); an unknown one is only shown."""
    plain = _LENGTHS.sub("", written).strip()
    if plain.endswith("[]"):
        element = value_type(plain.removesuffix("[]"))
        has_order = element.sortable
        operators = frozenset({"has", "contains", "overlaps", "is"}) if has_order else frozenset({"is"})
        return FieldType(f"{element.name}[]", operators, _nothing, element=element)
    name = _ALIASES.get(plain, plain)
    return _SCALARS.get(name) or FieldType("", frozenset({"is"}), _nothing)


def from_cursor(of: FieldType, text: str) -> Bound:
    """Return a value as the server wrote it, for binding: natively where the driver can, else as text."""
    if of.name == "timestamptz":
        try:
            return _native_instant(text)
        except ValueFault:  # infinity, before year 1, after 9999
            return Bound(text, as_text=True)
    return Bound(text, as_text=True)
