"""A column, an operator and values of a request become a predicate, or a fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from tidemill.domain.request_codes import RequestCode
from tidemill.queries.collections import VisibleCollection, VisibleColumn
from tidemill.queries.fault_list import FaultList
from tidemill.queries.filters import Predicate
from tidemill.queries.value_types import LISTS, OPERATORS, Bound, FieldType, ValueFault, value_type

MAX_PREDICATES: Final = 50
MAX_VALUES: Final = 1_000
_TEXT: Final = value_type("text")
_IS: Final = frozenset({"null", "notnull"})


class Operands:
    """Makes the predicates of one request, and counts them."""

    def __init__(self, collection: VisibleCollection, faults: FaultList) -> None:
        self._collection = collection
        self.faults = faults
        self._count = 0

    def from_texts(self, name: str, operator: str, texts: Sequence[str], where: str) -> Predicate | None:
        """Make a predicate of parameters of one name."""
        return self._made(name, operator, texts, where, lambda kind, text: kind.read(text), indexed=False)

    def from_json(self, name: str, operator: str, value: Any, where: str) -> Predicate | None:
        """Make a predicate of a decoded JSON value."""
        is_list = operator in LISTS and isinstance(value, list) and self._takes_list(name)
        values = value if is_list else [value]
        return self._made(
            name, operator, values, where, lambda kind, item: kind.from_json(item), indexed=is_list
        )

    def _takes_list(self, name: str) -> bool:
        column = self._collection.column(name)
        return column is not None and column.type.name != "jsonb"

    def _made(
        self,
        name: str,
        operator: str,
        values: Sequence[Any],
        where: str,
        read: Callable[[FieldType, Any], Bound],
        *,
        indexed: bool,
    ) -> Predicate | None:
        column = self._collection.column(name)
        if column is None:
            self.faults.no_such_field(where, name)
            return None
        if not self._fits(column, operator, values, where):
            return None
        if operator == "is":
            return self._is(column, values[0], where)
        kind = _operand(column.type, operator)
        bound = []
        for place, value in enumerate(values):
            at = f"{where}/{place}" if indexed else where
            try:
                bound.append(read(kind, value))
            except ValueFault as fault:
                self.faults.add(at, f"the value {fault}", RequestCode.BAD_VALUE)
        return Predicate(name, operator, _uniform(bound)) if len(bound) == len(values) else None

    def _fits(self, column: VisibleColumn, operator: str, values: Sequence[Any], where: str) -> bool:
        """Add what is wrong with the operator and the number of values; tell whether nothing is."""
        self._count += 1
        if self._count > MAX_PREDICATES:
            if self._count == MAX_PREDICATES + 1:
                self.faults.add(
                    where, f"there are more than {MAX_PREDICATES} predicates", RequestCode.BAD_PARAMETER
                )
        elif operator not in OPERATORS:
            self.faults.add(where, "there is no such operator", RequestCode.BAD_PARAMETER)
        elif operator not in column.type.operators:
            listed = ", ".join(sorted(column.type.operators))
            self.faults.add(where, f"{column.name} takes {listed}", RequestCode.NOT_FILTERABLE)
        elif len(values) > MAX_VALUES:
            self.faults.add(where, f"there are more than {MAX_VALUES} values", RequestCode.BAD_PARAMETER)
        elif len(values) > 1 and (operator not in LISTS or column.type.name == "jsonb"):
            self.faults.add(where, "takes one value", RequestCode.BAD_PARAMETER)
        else:
            return True
        return False

    def _is(self, column: VisibleColumn, value: Any, where: str) -> Predicate | None:
        if not isinstance(value, str) or value not in _IS:
            self.faults.add(where, "is null or notnull", RequestCode.BAD_VALUE)
            return None
        return Predicate(column.name, f"is {value}")


def _operand(column: FieldType, operator: str) -> FieldType:
    """Return the type of an operator's values: an element of an array, the name of a member of a JSON object."""
    if operator == "has" and column.name == "jsonb":
        return _TEXT
    return column.operand


def _uniform(values: list[Bound]) -> tuple[Bound, ...]:
    """A list is one array: if one of its values goes as text, all do."""
    if len(values) < 2 or not any(value.as_text for value in values):
        return tuple(values)
    return tuple(value if value.as_text else Bound(_as_text(value.value), as_text=True) for value in values)


def _as_text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
