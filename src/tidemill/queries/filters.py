"""What must hold of a row: a tree of predicates. Its shape decides the statement, its values are bound.

Two-valued: a comparison with null is false, `neq` and `nin` take null as different, and `_not` is true of what is not
true. So every row is in exactly one of a filter and its negation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tidemill.queries.value_types import Bound


@dataclass(frozen=True, slots=True)
class Predicate:
    """A column, an operator and its values: one; for a list any number; none for `is`, whose operator is the value."""

    column: str
    operator: str
    values: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class FilterGroup:
    """Filters of which all, or any, must hold; or one that must not."""

    kind: Literal["and", "or", "not"]
    parts: tuple[Filter, ...] = ()


Filter = Predicate | FilterGroup

EVERYTHING = FilterGroup("and")


class PredicateShape(NamedTuple):
    """A predicate without its values. `as_text`: the server casts its value, or its list of values, from text."""

    column: str
    operator: str
    as_text: bool


class GroupShape(NamedTuple):
    """A group without the values of its parts."""

    kind: Literal["and", "or", "not"]
    parts: tuple[PredicateShape | GroupShape, ...]


Shape = PredicateShape | GroupShape


def shape_of(where: Filter) -> Shape:
    """Return what of a filter is in the statement."""
    if isinstance(where, Predicate):
        as_text = any(value.as_text for value in where.values)
        return PredicateShape(where.column, where.operator, as_text)
    return GroupShape(where.kind, tuple(shape_of(part) for part in where.parts))


def predicates(where: Filter) -> Iterator[Predicate]:
    """Yield the predicates of a filter, in the order in which their values are bound."""
    if isinstance(where, Predicate):
        yield where
    else:
        for part in where.parts:
            yield from predicates(part)


def demanded(where: Filter) -> Iterator[Predicate]:
    """Yield the predicates that hold of every row that the filter lets through."""
    if isinstance(where, Predicate):
        yield where
    elif where.kind == "and":
        for part in where.parts:
            yield from demanded(part)


def canonical(where: Filter) -> str:
    """Return a text that two filters share only if they mean the same; the order of members does not count."""
    if isinstance(where, Predicate):
        values = [repr(value.value) for value in where.values]
        if where.operator in ("in", "nin"):
            values = sorted(set(values))
        return repr((where.column, where.operator, values))
    parts = sorted(canonical(part) for part in where.parts)
    return f"{where.kind}({';'.join(parts)})"
