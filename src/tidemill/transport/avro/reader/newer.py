"""Messages of a newer version that this one does not read completely.

By Avro's rules a reader drops the fields that it does not know, and takes a default for a symbol that it does not
know. For a command that would be a silent loss, and later its repeat would be another command: so whatever
was written and is unknown is found, and a command that contains some of it is not applied.

A field that only the writer has is harmless while it holds its default, if it is among the last of the message: the
newer version leaves it out, too, of what makes two payloads equal (`forms.trailing_defaults`). Anywhere else, as in a
record inside the message, it would count, so no value of it is accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tidemill.catalog.avro import Array, AvroType, Enumeration, Field, Map, Record, Union
from tidemill.catalog.compatibility import obstacles
from tidemill.catalog.schemas import Schema
from tidemill.commands.ports import Decoded
from tidemill.transport.avro.encode import encode_default
from tidemill.transport.avro.reader.scalars import Read
from tidemill.transport.avro.reader.strict import (
    message_reader,
    read_array,
    read_map,
    read_record,
    read_symbol,
    read_union,
    reader_of,
)

Loss = Callable[[bytes, int], str | None]
"""`loss(data, at)` -> the part of the well-formed body from `at` on that would be lost, None if there is none."""

_SENDER: Final = "service_name"


class NotWhole(Exception):
    """A well-formed body has a value that this version does not know. `service`: the sender, if it is named."""

    def __init__(self, what: str, fields: dict[str, Any]) -> None:
        """`fields`: those of the body, by the writer's schema."""
        super().__init__(what)
        sender = fields.get(_SENDER)
        self.service = sender if isinstance(sender, str) else None


class NewerReader:
    """Refuses what only a newer version reads: a message or a type that this one does not know."""

    def __init__(self, writer: Schema, why: str) -> None:
        """`writer` must be free of `lint.dangers`."""
        self.name = writer.name
        self._read = message_reader(writer.record, base=0)
        self._why = why

    def read(self, value: bytes, at: int) -> Decoded:
        raise NotWhole(self._why, self._read(value, at)[0])

    def read_fields(self, value: bytes, at: int) -> dict[str, Any]:
        raise NotWhole(self._why, self._read(value, at)[0])


def loss_of(*, writer: Record, reader: Record) -> Loss | None:
    """Return the finder of losses in bodies of `writer`, None if there are none. The two must have no `obstacles`."""
    read = _message(writer, reader)
    return None if read is None else partial(_find, read)


class _Unknown(Exception):
    """A written value is unknown to this version."""


def _find(read: Read, data: bytes, at: int) -> str | None:
    try:
        read(data, at)
    except _Unknown as found:
        return str(found)
    return None


def _message(writer: Record, reader: Record) -> Read | None:
    """As `_record`, but fields that the writer has added at the end may hold their defaults."""
    known = [(field.name, field.default) for field in reader.fields]
    grown = [(field.name, field.default) for field in writer.fields[: len(known)]] == known
    return _record(writer, reader, "", spared=grown)


def _checked(writer: AvroType, reader: AvroType, at: str) -> Read | None:
    """Return the function that raises `_Unknown` for a value; None if the reader takes every value of `writer`."""
    if isinstance(writer, Union):
        return _union(writer, reader, at)
    match writer, _counterpart(writer, reader):
        case Record(), Record() as taken:
            return _record(writer, taken, at)
        case Enumeration(), Enumeration() as taken:
            unknown = frozenset(writer.symbols) - frozenset(taken.symbols)
            return partial(_symbol, writer.symbols, unknown, at) if unknown else None
        case Array(items), Array(taken):
            read = _checked(items, taken, f"{at}[]")
            return None if read is None else partial(read_array, read)
        case Map(values), Map(taken):
            read = _checked(values, taken, f"{at}{{}}")
            return None if read is None else partial(read_map, read)
        case _:
            return None


def _counterpart(writer: AvroType, reader: AvroType) -> AvroType:
    """Return the reader's type for a type: of a union, the first branch that fits."""
    if not isinstance(reader, Union):
        return reader
    return next(branch for branch in reader.branches if not obstacles(reader=branch, writer=writer))


def _union(writer: Union, reader: AvroType, at: str) -> Read | None:
    checked = [_checked(branch, reader, at) for branch in writer.branches]
    if not any(checked):
        return None
    readers = [read or reader_of(branch) for read, branch in zip(checked, writer.branches, strict=True)]
    return partial(read_union, tuple(readers))


def _record(writer: Record, reader: Record, at: str, *, spared: bool = False) -> Read | None:
    """`spared`: whether fields that only the writer has may hold their defaults."""
    known = {field.name: field.type for field in reader.fields}
    parts: list[tuple[str, Read]] = []
    checks = 0
    for field in writer.fields:
        place = f"{at}.{field.name}" if at else field.name
        plain = reader_of(field.type)
        if field.name in known:
            read = _checked(field.type, known[field.name], place)
        else:
            read = partial(_unknown_field, plain, place, _spared(field) if spared else ())
        checks += read is not None
        parts.append((field.name, read or plain))
    return partial(read_record, tuple(parts)) if checks else None


def _spared(field: Field) -> tuple[Any, ...]:
    """Return the values of a field that may be left out: its default, if it has one."""
    if field.default is None:
        return ()
    return (reader_of(field.type)(encode_default(field.type, field.default.value), 0)[0],)


def _unknown_field(read: Read, place: str, spared: tuple[Any, ...], data: bytes, at: int) -> tuple[Any, int]:
    value, at = read(data, at)
    if value not in spared:
        raise _Unknown(f"it has a value for {place}, which this version does not know")
    return value, at


def _symbol(
    symbols: tuple[str, ...], unknown: frozenset[str], place: str, data: bytes, at: int
) -> tuple[str, int]:
    symbol, at = read_symbol(symbols, data, at)
    if symbol in unknown:
        raise _Unknown(f"{place} is {symbol}, which this version does not know")
    return symbol, at
