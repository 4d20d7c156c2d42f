"""The bytes of a command as those of its event, where the event says nothing else: writing Avro is the dearest step.

An event has the fields of its command, in their order, but for some that only command: `expected_version`. What decides
is the values: a rule that changed one gets its event written anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tidemill.catalog.avro import Array, AvroType, Field, Map, Primitive, Record, Union
from tidemill.catalog.fingerprints import meaning
from tidemill.transport.avro.reader.scalars import Read
from tidemill.transport.avro.reader.strict import reader_of


@dataclass(frozen=True)
class ReusedBody:
    """How an event's body is cut from its command's.

    `kept`: the fields of the event. `cuts`: the fields up to the last that is left out, in runs: whether they are kept,
    and what reads them. `doubles`: those of which equal values may have different bytes, 0.0 and -0.0.
    """

    kept: tuple[str, ...]
    cuts: tuple[tuple[bool, tuple[Read, ...]], ...]
    doubles: tuple[str, ...]

    def says_the_same(self, command: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
        """Tell whether an event has the values of its command's payload, and so its bytes."""
        if self.cuts:
            command = {name: command[name] for name in self.kept}
        return event == command and all(command[name] != 0 for name in self.doubles)

    def of(self, body: bytes) -> bytes:
        """Return the event's body."""
        if not self.cuts:
            return body
        parts, at = [], 0
        for is_kept, readers in self.cuts:
            start = at
            for read in readers:
                _, at = read(body, at)
            if is_kept:
                parts.append(body[start:at])
        parts.append(body[at:])
        return b"".join(parts)


def reused_body(command: Record, event: Record) -> ReusedBody | None:
    """Return how an event's body is cut from a command's by their schemas; None if it cannot be."""
    types = {field.name: meaning(field.type) for field in event.fields}
    kept = [field for field in command.fields if types.get(field.name) == meaning(field.type)]
    if [field.name for field in kept] != [field.name for field in event.fields]:
        return None
    if any(_holds_doubles(field.type) and not _is_double(field.type) for field in kept):
        return None
    doubles = tuple(field.name for field in kept if _is_double(field.type))
    return ReusedBody(tuple(types), tuple(_cuts(command.fields, types)), doubles)


def _cuts(fields: Sequence[Field], kept: Mapping[str, str]) -> Iterator[tuple[bool, tuple[Read, ...]]]:
    left_out = [number for number, field in enumerate(fields) if field.name not in kept]
    until = left_out[-1] + 1 if left_out else 0
    for is_kept, run in groupby(fields[:until], key=lambda field: field.name in kept):
        yield is_kept, tuple(reader_of(field.type) for field in run)


def _is_double(schema: AvroType) -> bool:
    match schema:
        case Primitive(kind):
            return kind in ("float", "double")
        case Union(branches):
            return any(map(_is_double, branches)) and not any(map(_has_parts, branches))
        case _:
            return False


def _has_parts(schema: AvroType) -> bool:
    return isinstance(schema, Array | Map | Record | Union)


def _holds_doubles(schema: AvroType) -> bool:
    match schema:
        case Array(inner) | Map(inner):
            return _holds_doubles(inner)
        case Record(_, fields):
            return any(_holds_doubles(field.type) for field in fields)
        case Union(branches):
            return any(map(_holds_doubles, branches))
        case _:
            return _is_double(schema)
