"""The bytes of a command as those of its event, where the event says the same: writing Avro is the dearest step.

An event has the fields of its command, in their order, but for some that only command: `expected_version`. What decides
is the values. A text that differs, such as one that was encrypted, is put in the place of the command's; an event that
differs in anything else is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from tidemill.catalog.avro import NULL, Array, AvroType, Field, Map, Primitive, Record, Union
from tidemill.catalog.fingerprints import meaning
from tidemill.transport.avro.encode import encode_string
from tidemill.transport.avro.reader.ends import EndOf, end_of

_TEXT: Final = Primitive("string")
_DOUBLES: Final = (Primitive("double"), Primitive("float"))

_KEPT: Final = "="
_LEFT_OUT: Final = "-"

Run = tuple[str, tuple[EndOf, ...]]
"""What happens to fields that follow each other, and where each ends: `_KEPT`, `_LEFT_OUT`, or a text of this name."""

Values = Callable[[Mapping[str, Any]], tuple[Any, ...]]


@dataclass(frozen=True)
class ReusedBody:
    """How an event's body is made of its command's.

    `kept`: the fields of the event. `doubles`: those of which equal values may have different bytes, 0.0 and -0.0.
    `texts`: name of a field that is a text -> what comes before the text.
    """

    fields: Sequence[Field]
    kept: tuple[str, ...]
    doubles: tuple[str, ...]
    texts: Mapping[str, bytes]
    _runs: dict[tuple[str, ...], tuple[Run, ...]] = field(default_factory=dict)

    @cached_property
    def _values(self) -> Values:
        """Return what reads the values of the kept fields; `KeyError` where one is missing."""
        if len(self.kept) > 1:
            return itemgetter(*self.kept)
        return lambda fields: tuple(fields[name] for name in self.kept)

    def of(self, body: bytes, command: Mapping[str, Any], event: Mapping[str, Any]) -> bytes | None:
        """Return the event's body; None if it says something else than the command, whose body and values are given."""
        if event.keys() != self._names:
            return None
        given, said = self._values(command), self._values(event)
        changed: tuple[str, ...] = ()
        if given != said:
            pairs = zip(self.kept, given, said, strict=True)
            changed = tuple([name for name, one, other in pairs if one != other])
            if not all(self._is_text(name, event) for name in changed):
                return None
        if self.doubles and not all(command[name] != 0 for name in self.doubles):
            return None
        return b"".join(self._parts(body, event, changed))

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.kept)

    def _is_text(self, name: str, event: Mapping[str, Any]) -> bool:
        return name in self.texts and isinstance(event.get(name), str)

    def _parts(self, body: bytes, event: Mapping[str, Any], changed: tuple[str, ...]) -> list[bytes]:
        if changed not in self._runs:
            self._runs[changed] = self._cut(changed)
        parts, at = [], 0
        for what, ends in self._runs[changed]:
            start = at
            for end_of_next in ends:
                at = end_of_next(body, at)
            if what == _KEPT:
                parts.append(body[start:at])
            elif what != _LEFT_OUT:
                parts.append(self.texts[what] + encode_string(event[what]))
        parts.append(body[at:])
        return parts

    def _cut(self, changed: tuple[str, ...]) -> tuple[Run, ...]:
        """Return the runs up to the last field that is not kept as it is."""
        marks = [
            _LEFT_OUT if own.name not in self.kept else own.name if own.name in changed else _KEPT
            for own in self.fields
        ]
        while marks and marks[-1] == _KEPT:
            marks.pop()
        runs = groupby(zip(marks, self.fields, strict=False), key=lambda pair: pair[0])
        return tuple((mark, tuple(end_of(own.type) for _, own in run)) for mark, run in runs)


def reused_body(command: Record, event: Record) -> ReusedBody | None:
    """Return how an event's body is made of a command's by their schemas; None if it cannot be."""
    types = {field.name: meaning(field.type) for field in event.fields}
    kept = [field for field in command.fields if types.get(field.name) == meaning(field.type)]
    if [field.name for field in kept] != [field.name for field in event.fields]:
        return None
    doubles = tuple(field.name for field in kept if _present(field.type) in _DOUBLES)
    if any(_is_ambiguous(field.type) for field in kept if field.name not in doubles):
        return None
    texts = {field.name: before for field in kept if (before := _before_text(field.type)) is not None}
    return ReusedBody(command.fields, tuple(types), doubles, texts)


def _present(schema: AvroType) -> AvroType:
    """Return the type of a value that is not null."""
    match schema:
        case Union((first, second)) if NULL in (first, second):
            return second if first == NULL else first
        case _:
            return schema


def _before_text(schema: AvroType) -> bytes | None:
    """Return what comes before a text: nothing, or the number of its branch; None if it is none."""
    if _present(schema) != _TEXT:
        return None
    return bytes([2 * schema.branches.index(_TEXT)]) if isinstance(schema, Union) else b""


def _is_ambiguous(schema: AvroType) -> bool:
    """Tell whether equal values may have different bytes: 0.0 and -0.0, 1 and 1.0 of a union, entries of a map."""
    match _present(schema):
        case Array(items):
            return _is_ambiguous(items)
        case Record(_, fields):
            return any(_is_ambiguous(field.type) for field in fields)
        case Map() | Union():
            return True
        case present:
            return present in _DOUBLES
