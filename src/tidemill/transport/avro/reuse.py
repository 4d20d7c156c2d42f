"""The bytes of a command as those of its event, where the event says the same: writing Avro is the dearest step.

An event has the fields of its command, in their order, but for some that only command: `expected_version`. What decides
is the values. A text that differs, such as one that was encrypted, is put in the place of the command's; an event that
differs in anything else is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from math import copysign
from operator import itemgetter, ne
from typing import Any, Final

from tidemill.catalog.avro import NULL, Array, AvroType, Field, Map, Primitive, Record, Union
from tidemill.catalog.fingerprints import meaning
from tidemill.transport.avro.body_cut import KEPT, LEFT_OUT, Cut, cut_of

_TEXT: Final = Primitive("string")
_DOUBLES: Final = (Primitive("double"), Primitive("float"))

Values = Callable[[Mapping[str, Any]], tuple[Any, ...]]


@dataclass(frozen=True)
class ReusedBody:
    """How an event's body is made of its command's.

    `kept`: the fields of the event. `doubles`: those, and lists, of which equal values may have different bytes: 0.0
    and -0.0. `texts`: name of a field that is a text -> what comes before the text. `base`: how many fields come before
    the own ones of a message.
    """

    fields: Sequence[Field]
    kept: tuple[str, ...]
    doubles: tuple[str, ...]
    texts: Mapping[str, bytes]
    base: int = 0
    _cuts: dict[tuple[tuple[str, ...], bool], tuple[Cut, bool]] = field(default_factory=dict)

    @cached_property
    def _values(self) -> Values:
        """Return what reads the values of the kept fields; `KeyError` where one is missing."""
        if len(self.kept) > 1:
            return itemgetter(*self.kept)
        return lambda fields: tuple(fields[name] for name in self.kept)

    def of(
        self, body: bytes, command: Mapping[str, Any], event: Mapping[str, Any], own: int = 0
    ) -> bytes | None:
        """Return the event's body; None if it says something else than the command, whose body and values are given.

        `own`: where the own fields begin in the body; 0 if that is not known.
        """
        if len(event) != len(self.kept):
            return None
        try:
            given, said = self._values(command), self._values(event)
        except KeyError:
            return None
        changed: tuple[str, ...] = ()
        if given != said:
            changed = tuple(compress(self.kept, map(ne, given, said)))
            if not all(self._is_text(name, event) for name in changed):
                return None
        if not all(_same_zeros(command[name], event[name]) for name in self.doubles):
            return None
        cut, skips_base = self._cuts.get((changed, own > 0)) or self._cut_of(changed, own_known=own > 0)
        return cut(body, own if skips_base else 0, event)

    def _cut_of(self, changed: tuple[str, ...], *, own_known: bool) -> tuple[Cut, bool]:
        """Return what cuts bodies of which these texts change, and whether it begins after the base fields."""
        marks = [
            LEFT_OUT if own.name not in self.kept else own.name if own.name in changed else KEPT
            for own in self.fields
        ]
        while marks and marks[-1] == KEPT:
            marks.pop()
        skips_base = own_known and all(mark == KEPT for mark in marks[: self.base])
        first = self.base if skips_base else 0
        made = self._cuts[changed, own_known] = (
            cut_of(marks[first:], self.fields[first:], self.texts),
            skips_base,
        )
        return made

    def _is_text(self, name: str, event: Mapping[str, Any]) -> bool:
        return name in self.texts and isinstance(event[name], str)


def reused_body(command: Record, event: Record, *, base: int = 0) -> ReusedBody | None:
    """Return how an event's body is made of a command's by their schemas; None if it cannot be.

    `base`: how many fields of the command come before its own.
    """
    types = {field.name: meaning(field.type) for field in event.fields}
    kept = [field for field in command.fields if types.get(field.name) == meaning(field.type)]
    if [field.name for field in kept] != [field.name for field in event.fields]:
        return None
    doubles = tuple(field.name for field in kept if _has_doubles(field.type))
    if any(_is_ambiguous(field.type) for field in kept if field.name not in doubles):
        return None
    texts = {field.name: before for field in kept if (before := _before_text(field.type)) is not None}
    return ReusedBody(command.fields, tuple(types), doubles, texts, base)


def _has_doubles(schema: AvroType) -> bool:
    """Tell whether a value is a double, or a list of doubles, which may be null."""
    return _present(schema.items if isinstance(schema, Array) else schema) in _DOUBLES


def _same_zeros(one: Any, other: Any) -> bool:
    """Tell of equal values whether their zeros have the same signs."""
    if not isinstance(one, list):
        one, other = [one], [other]
    return 0 not in one or _signs_of_zeros(one) == _signs_of_zeros(other)


def _signs_of_zeros(values: Sequence[Any]) -> list[float]:
    return [copysign(1, value) for value in values if value == 0]


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
