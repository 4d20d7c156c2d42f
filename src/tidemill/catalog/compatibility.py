"""Schema resolution, decided before any byte: can data of one schema always be read with another?

The rules are those of the Avro specification (1.12, Schema Resolution), stricter in one point: a logical type must be
the same on both sides, since the specification does not define the value otherwise. Recursive schemas are
not readable; they are refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tidemill.catalog.avro import (
    Array,
    AvroType,
    Default,
    Enumeration,
    Field,
    Fixed,
    Map,
    Primitive,
    Record,
    Union,
)

_PROMOTIONS: Final = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}

_SHOWN: Final = 10


def obstacles(*, reader: AvroType, writer: AvroType, at: str = "") -> list[str]:
    """Return why data of `writer` cannot always be read with `reader`; empty if it can."""
    return list(_obstacles(reader, writer, at))


def _obstacles(reader: AvroType, writer: AvroType, at: str) -> Iterator[str]:
    match reader, writer:
        case _, Union(branches):
            for branch in branches:
                yield from _obstacles(reader, branch, at)
        case Union(branches), _:
            if all(obstacles(reader=branch, writer=writer) for branch in branches):
                yield f"{_place(at)}: no branch of the reader takes {_called(writer)}"
        case Record(), Record():
            yield from _record_obstacles(reader, writer, at)
        case Enumeration(), Enumeration():
            yield from _enumeration_obstacles(reader, writer, at)
        case Array(wanted), Array(items):
            yield from _obstacles(wanted, items, f"{at}[]")
        case Map(wanted), Map(values):
            yield from _obstacles(wanted, values, f"{at}{{}}")
        case _:
            if not _same_or_wider(reader, writer):
                yield f"{_place(at)}: {_called(writer)} cannot be read as {_called(reader)}"


def _record_obstacles(reader: Record, writer: Record, at: str) -> Iterator[str]:
    if reader.name != writer.name:
        yield f"{_place(at)}: record {writer.name} is not {reader.name}"
        return
    written = {field.name: field for field in writer.fields}
    for field in reader.fields:
        there = f"{at}.{field.name}" if at else field.name
        if field.name in written:
            yield from _obstacles(field.type, written[field.name].type, there)
        elif field.default is None:
            yield f"{there}: has no default, and the writer does not have it"


def _enumeration_obstacles(reader: Enumeration, writer: Enumeration, at: str) -> Iterator[str]:
    if reader.name != writer.name:
        yield f"{_place(at)}: enum {writer.name} is not {reader.name}"
    known = set(reader.symbols)
    unknown = [symbol for symbol in writer.symbols if symbol not in known]
    if unknown and reader.default is None:
        named = ", ".join(unknown) if len(unknown) <= _SHOWN else f"{len(unknown)} symbols"
        yield f"{_place(at)}: the reader does not know {named}, and has no default symbol"


def _same_or_wider(reader: AvroType, writer: AvroType) -> bool:
    match reader, writer:
        case Primitive(wanted, logical), Primitive(kind, other):
            plain = logical is None and other is None
            return (wanted == kind and logical == other) or (plain and wanted in _PROMOTIONS.get(kind, ()))
        case Fixed(), Fixed():
            return reader == writer
        case _:
            return False


def _place(at: str) -> str:
    return at or "the message"


def _called(schema: AvroType) -> str:
    match schema:
        case Primitive(kind, logical):
            return kind if logical is None else f"{kind} ({logical.name})"
        case Array() | Map() | Union():
            return type(schema).__name__.lower()
        case _:
            return schema.name


def moved_fields(*, released: Record, current: Record) -> list[str]:
    """Return what breaks the rule that fields are only added, at the end.

    Payloads are compared by the bytes after the base fields, without trailing defaults: a field in another place
    would make a repeated command look like another one.
    """
    kept: tuple[Field, ...] = current.fields[: len(released.fields)]
    before, after = [field.name for field in released.fields], [field.name for field in kept]
    if before == after:
        return []
    return [f"released fields were {', '.join(before)}; now the first ones are {', '.join(after)}"]


def rewritten_fields(*, released: Record, current: Record, base: int) -> list[str]:
    """Return what would make a command that is sent again after an upgrade look like another one.

    Payloads are compared by their bytes, so what both versions have must be written identically, inside fields as
    well; and by values of trailing fields that are not defaults, which must stay. `base`: how many fields do not count.
    """
    now = {field.name: field.type for field in current.fields[base:]}
    faults = [
        f"{field.name}: a value that both versions have is not written to the same bytes"
        for field in released.fields[base:]
        if field.name in now and not _written_alike(field.type, now[field.name])
    ]
    before, after = _trailing(released, base), _trailing(current, base)
    kept = [field.name for field in released.fields[base:] if field.name in now]
    faults += [
        f"{name}: its default decides whether two payloads are equal"
        for name in kept
        if before.get(name) != after.get(name)
    ]
    return faults


def _trailing(record: Record, base: int) -> dict[str, Default | None]:
    """Return the fields that are left out of a comparison while they hold their defaults."""
    fields = record.fields[base:]
    behind = next((at for at in range(len(fields), 0, -1) if fields[at - 1].default is None), 0)
    return {field.name: field.default for field in fields[behind:]}


_SAME_BYTES: Final = (frozenset({"int", "long"}), frozenset({"string", "bytes"}))


def _written_alike(old: AvroType, new: AvroType) -> bool:
    """Tell whether every value of `old` is written to the same bytes as a value of `new`."""
    match old, new:
        case Primitive(kind, logical), Primitive(other, its):
            return logical == its and (kind == other or frozenset({kind, other}) in _SAME_BYTES)
        case Enumeration(), Enumeration():
            return new.symbols[: len(old.symbols)] == old.symbols
        case Array(items), Array(others):
            return _written_alike(items, others)
        case Map(values), Map(others):
            return _written_alike(values, others)
        case Union(branches), Union(others) if len(branches) <= len(others):
            return all(map(_written_alike, branches, others))
        case Record(_, fields), Record(_, others) if len(fields) == len(others):
            return all(
                field.name == other.name and _written_alike(field.type, other.type)
                for field, other in zip(fields, others, strict=True)
            )
        case _:
            return old == new
