"""Forbidden contents of schemas: what is dangerous to read, and what breaks the rules of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from tidemill.catalog.avro import (
    MAX_TYPES,
    NULL,
    Array,
    AvroType,
    Default,
    Field,
    Fixed,
    Logical,
    Map,
    Primitive,
    Record,
    Recursion,
    Union,
)

Role = Literal["command", "event", "outcome"]

Fault = tuple[str, str]
"""A code and a text that says where and what."""

TIMESTAMP: Final = Primitive("long", Logical("timestamp-micros"))
OPTIONAL_STRING: Final = Union((NULL, Primitive("string")))

BASE: Final[tuple[Field, ...]] = (
    Field("command_id", Primitive("string")),
    Field("service_name", Primitive("string")),
    Field("timestamp", TIMESTAMP),
    Field("correlation_id", OPTIONAL_STRING, Default(None)),
)
"""The fields that every command and every event of a context begins with."""

_LOGICAL: Final = {"timestamp-micros": ("long",), "date": ("int",), "decimal": ("bytes", "fixed")}


def dangers(schema: AvroType, at: str = "") -> list[Fault]:
    """Return what makes a schema dangerous: a few bytes of data could exhaust a reader's stack or memory.

    Numbers that are too large are refused before: see `avro.Dangerous`.
    """
    faults: list[Fault] = []
    for number, (place, part) in enumerate(_parts(schema, at)):
        if number == MAX_TYPES:
            return [("TOO_WIDE", f"{at}: more than {MAX_TYPES} types, each use of a named one counted")]
        faults += _dangers_of(part, place)
    return faults


def breaches(record: Record, base: tuple[Field, ...] = BASE) -> list[Fault]:
    """Return what breaks the rules of the contract; `dangers` are separate. `base`: its first fields."""
    faults = list(_base_breaches(record, base))
    if not record.doc:
        faults.append(("UNDOCUMENTED", f"{record.name}: say in `doc` what the message means"))
    for place, part in _parts(record, ""):
        faults += _breaches_of(part, place)
    return faults


def _parts(schema: AvroType, at: str) -> Iterator[tuple[str, AvroType]]:
    """Yield a schema and everything inside it, each with its place."""
    yield at, schema
    match schema:
        case Record(_, fields):
            for field in fields:
                yield from _parts(field.type, f"{at}.{field.name}" if at else field.name)
        case Array(items):
            yield from _parts(items, f"{at}[]")
        case Map(values):
            yield from _parts(values, f"{at}{{}}")
        case Union(branches):
            for branch in branches:
                yield from _parts(branch, at)
        case _:
            pass


def _dangers_of(part: AvroType, at: str) -> Iterator[Fault]:
    match part:
        case Recursion(name):
            yield (
                "RECURSIVE",
                f"{at}: {name} contains itself; 5 KB of it end the process that reads them",
            )
        case Array(items) if _may_be_empty(items):
            yield "ZERO_WIDTH", f"{at}: its items may take no bytes, so that 6 bytes make a billion of them"
        case _:
            pass


def _may_be_empty(schema: AvroType) -> bool:
    match schema:
        case Primitive(kind):
            return kind == "null"
        case Fixed(_, size):
            return size == 0
        case Record(_, fields):
            return all(_may_be_empty(field.type) for field in fields)
        case _:
            return False


def _base_breaches(record: Record, base: tuple[Field, ...]) -> Iterator[Fault]:
    first = tuple(Field(field.name, field.type, field.default) for field in record.fields[: len(base)])
    if first != base:
        names = ", ".join(field.name for field in base)
        yield "BASE_FIELDS", f"{record.name}: must begin with {names}, typed as in every other message"


def _breaches_of(part: AvroType, at: str) -> Iterator[Fault]:
    match part:
        case Record(_, fields):
            yield from (fault for field in fields for fault in _field_breaches(field, at))
        case Union(branches) if len(branches) != 2 or branches[0] != NULL:
            yield (
                "UNION",
                f"{at}: a union is of null and one type, null first; model alternatives as commands",
            )
        case Primitive(kind, logical) if logical is not None and kind not in _LOGICAL.get(logical.name, ()):
            yield "LOGICAL_TYPE", f"{at}: {kind} as {logical.name}; {_advice(logical.name)}"
        case Fixed(_, _, logical) if logical is not None and logical.name != "decimal":
            yield "LOGICAL_TYPE", f"{at}: fixed as {logical.name}; {_advice(logical.name)}"
        case _:
            pass


def _field_breaches(field: Field, at: str) -> Iterator[Fault]:
    there = f"{at}.{field.name}" if at else field.name
    if not field.doc:
        yield "UNDOCUMENTED", f"{there}: say in `doc` what it is, with its unit"
    if isinstance(field.type, Union) and (field.default is None or field.default.value is not None):
        yield "UNION", f"{there}: what may be null has the default null, so that it may be left out"


def _advice(name: str) -> str:
    if "timestamp" in name:
        return "use timestamp-micros on long: Python and PostgreSQL count microseconds"
    if name == "uuid":
        return "ids are plain strings"
    return f"use one of {', '.join(_LOGICAL)}, or the plain type"
