"""Filters as JSON: `{"price": {"gte": 100}, "_or": [...], "_not": {...}}`; members are joined by AND."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tidemill.queries.filters import EVERYTHING, Filter, FilterGroup
from tidemill.queries.operands import Operands

MAX_FILTER_DEPTH: Final = 8


class JsonFilters:
    """Reads the filter of one request; what is wrong with it is added to the faults of its operands."""

    def __init__(self, operands: Operands) -> None:
        self._operands = operands
        self._faults = operands.faults

    def read(self, value: Any, where: str, depth: int = 1) -> Filter:
        """Return the filter of a decoded JSON value. `where`: its pointer, or the name of its parameter."""
        if not isinstance(value, dict):
            self._faults.add(where, "is not an object of fields", self._faults.malformed)
            return EVERYTHING
        if depth > MAX_FILTER_DEPTH:
            self._faults.add(
                where, f"is nested deeper than {MAX_FILTER_DEPTH} levels", self._faults.malformed
            )
            return EVERYTHING
        parts = [part for name, member in value.items() for part in self._member(name, member, where, depth)]
        return parts[0] if len(parts) == 1 else FilterGroup("and", tuple(parts))

    def _member(self, name: str, value: Any, where: str, depth: int) -> Iterator[Filter]:
        at = f"{where}/{_escaped(name)}"
        if name == "_or":
            yield from self._any(value, at, depth)
        elif name == "_not":
            yield FilterGroup("not", (self.read(value, at, depth + 1),))
        elif name.startswith("_"):
            self._faults.add(at, "there is no such member: _or and _not", self._faults.malformed)
        elif not isinstance(value, dict) or not value:
            self._faults.add(at, 'is not an object of operators, such as {"eq": ...}', self._faults.malformed)
        else:
            yield from self._predicates(name, value, at)

    def _any(self, value: Any, where: str, depth: int) -> Iterator[Filter]:
        if not isinstance(value, list) or not value:
            self._faults.add(where, "is not a list of filters", self._faults.malformed)
            return
        yield FilterGroup(
            "or",
            tuple(self.read(part, f"{where}/{place}", depth + 1) for place, part in enumerate(value)),
        )

    def _predicates(self, name: str, operators: dict[str, Any], where: str) -> Iterator[Filter]:
        for operator, operand in operators.items():
            predicate = self._operands.from_json(name, operator, operand, f"{where}/{_escaped(operator)}")
            if predicate is not None:
                yield predicate


def _escaped(name: str) -> str:
    """Return a name as a JSON pointer writes it."""
    return name.replace("~", "~0").replace("/", "~1")
