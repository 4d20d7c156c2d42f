"""Declared folds: what a row holds of its events, said instead of coded.

A read model names once what its columns are, `Max("high", of=("price", "high"))`. From that follow the fold of one
event into its row, which is here, and the fold of a whole batch by arrays, which a projector has. Both give the same
rows, bit by bit. No part depends on the order in which events arrive: a row is the same however lanes interleave.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Context as Arithmetic
from decimal import Decimal
from functools import cached_property
from operator import attrgetter
from types import NoneType
from typing import Any, Final

from tidemill.domain.errors import ContractError

Moment = tuple[datetime, int, int]
"""Time, lane and sequence of an event: no two events have the same."""

_EXACT: Final = Arithmetic(prec=60)
_MAX_SCALE: Final = 9


def utc_day(time: datetime) -> date:
    """Return the day of a time in UTC."""
    return time.date() if time.tzinfo is UTC else time.astimezone(UTC).date()


@dataclass(frozen=True)
class UtcDay:
    """A key column: the UTC day of a time. `field`: of the event."""

    field: str


class FoldPart(ABC):
    """One or several columns of a row, and how events change them."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the row that it fills."""

    @property
    @abstractmethod
    def reads(self) -> Mapping[str, frozenset[Any] | None]:
        """Return the fields of the event that it reads, and of which types they may be; None: of any."""

    @abstractmethod
    def term(self, recorded: Any) -> Any:
        """Return what a `Recorded` event adds to a row."""

    @abstractmethod
    def begin(self, term: Any) -> tuple[Any, ...]:
        """Return the columns of a new row."""

    @abstractmethod
    def merge(self, row: Any, term: Any) -> None:
        """Change the columns of a row that exists. Terms may be merged in any order."""


TIME: Final = frozenset({datetime})
_NUMBER: Final = frozenset({float})
_OPTIONAL_NUMBER: Final = frozenset({float, NoneType})


# --- of one event ----------------------------------------------------------------------------------------------------


class Pick(FoldPart):
    """Columns that are of one event of all, the first or the newest by its moment. `by`: the event's time."""

    by: str

    @property
    @abstractmethod
    def is_newest(self) -> bool:
        """Whether the newest event counts, not the first."""

    @property
    @abstractmethod
    def marks(self) -> tuple[str, str, str]:
        """The columns that hold the moment of that event."""

    @property
    @abstractmethod
    def sources(self) -> Mapping[str, tuple[str, ...]]:
        """Column -> fields of the event, of which the first that is not null counts."""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return (*self.marks, *self.sources)

    @property
    def reads(self) -> Mapping[str, frozenset[Any] | None]:
        return {**{field: None for of in self.sources.values() for field in of}, self.by: TIME}

    def term(self, recorded: Any) -> tuple[Moment, tuple[Any, ...]]:
        event = recorded.event
        moment = (getattr(event, self.by), recorded.lane, recorded.sequence)
        return moment, tuple([read(event) for read in self._readers])

    def begin(self, term: tuple[Moment, tuple[Any, ...]]) -> tuple[Any, ...]:
        moment, values = term
        return (*moment, *values)

    def merge(self, row: Any, term: tuple[Moment, tuple[Any, ...]]) -> None:
        moment, values = term
        held = self._moment_of(row)
        if moment > held if self.is_newest else moment < held:
            for column, value in zip(self.columns, (*moment, *values), strict=True):
                setattr(row, column, value)

    @cached_property
    def _readers(self) -> list[Callable[[Any], Any]]:
        return [attrgetter(*of) if len(of) == 1 else _first_known(of) for of in self.sources.values()]

    @cached_property
    def _moment_of(self) -> Callable[[Any], Moment]:
        return attrgetter(*self.marks)


def _first_known(of: Sequence[str]) -> Callable[[Any], Any]:
    def read(event: Any) -> Any:
        return next((value for name in of if (value := getattr(event, name)) is not None), None)

    return read


@dataclass(frozen=True)
class Latest(Pick):
    """All columns that no other part fills are those of the newest event, by names; `lane` and `sequence` say which."""

    by: str
    rest: tuple[str, ...] = ()
    """The columns; they follow from the row's class."""

    @property
    def is_newest(self) -> bool:
        return True

    @property
    def marks(self) -> tuple[str, str, str]:
        return (self.by, "lane", "sequence")

    @property
    def sources(self) -> Mapping[str, tuple[str, ...]]:
        return {column: (column,) for column in self.rest}

    def filling(self, columns: Sequence[str]) -> Latest:
        """Return it for these columns, without those of its marks."""
        return replace(self, rest=tuple(column for column in columns if column not in self.marks))


@dataclass(frozen=True)
class _ColumnOfOne(Pick):
    column: str
    of: tuple[str, ...]
    by: str

    @property
    def marks(self) -> tuple[str, str, str]:
        return (f"{self.column}_{self.by}", f"{self.column}_lane", f"{self.column}_sequence")

    @property
    def sources(self) -> Mapping[str, tuple[str, ...]]:
        return {self.column: self.of}


@dataclass(frozen=True)
class First(_ColumnOfOne):
    """A column is that of the first event. `of`: the event's fields, of which the first that is not null counts.

    Its moment is held beside it: column `open` by `time` has `open_time`, `open_lane` and `open_sequence`.
    """

    @property
    def is_newest(self) -> bool:
        return False


@dataclass(frozen=True)
class Last(_ColumnOfOne):
    """A column is that of the newest event; else as `First`."""

    @property
    def is_newest(self) -> bool:
        return True


# --- of all events ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extreme(FoldPart):
    """The greatest or least of all numbers in some fields, of which the first is never null.

    NaN is left out as long as there is another number; of 0.0 and -0.0, which are equal, it is always 0.0.
    """

    column: str
    of: tuple[str, ...]

    @staticmethod
    @abstractmethod
    def better(held: float, other: float) -> float:
        """Return which of two numbers counts."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def reads(self) -> Mapping[str, frozenset[Any] | None]:
        return {**dict.fromkeys(self.of, _OPTIONAL_NUMBER), self.of[0]: _NUMBER}

    def term(self, recorded: Any) -> float:
        event = recorded.event
        first, *others = self.of
        extreme: float = getattr(event, first)
        for name in others:
            if (value := getattr(event, name)) is not None:
                extreme = self.better(extreme, value)
        return extreme + 0.0  # -0.0 + 0.0 is 0.0

    def begin(self, term: float) -> tuple[Any, ...]:
        return (term,)

    def merge(self, row: Any, term: float) -> None:
        setattr(row, self.column, self.better(getattr(row, self.column), term))


@dataclass(frozen=True)
class Max(Extreme):
    """The greatest number; see `Extreme`."""

    @staticmethod
    def better(held: float, other: float) -> float:
        return other if other > held or held != held else held  # noqa: PLR0124  only NaN differs from itself


@dataclass(frozen=True)
class Min(Extreme):
    """The least number; see `Extreme`."""

    @staticmethod
    def better(held: float, other: float) -> float:
        return other if other < held or held != held else held  # noqa: PLR0124  only NaN differs from itself


@dataclass(frozen=True)
class Sum(FoldPart):
    """The sum of a field as an exact decimal: each number is rounded to `scale` places (1 to 9), half to even.

    A sum of floats would depend on its order. Null adds nothing. Exact up to 60 digits.
    """

    column: str
    of: str
    scale: int

    def __post_init__(self) -> None:
        """Refuse a scale at which a batch could not be summed exactly."""
        if not 1 <= self.scale <= _MAX_SCALE:
            raise ContractError(f"Sum of {self.of}: scale {self.scale} is not 1 to {_MAX_SCALE}")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def reads(self) -> Mapping[str, frozenset[Any] | None]:
        return {self.of: _OPTIONAL_NUMBER}

    def term(self, recorded: Any) -> Decimal | int | None:
        value: float | None = getattr(recorded.event, self.of)
        return None if value is None else self.exact(value)

    def exact(self, value: float) -> Decimal | int:
        """Return a number as it is added; most are whole, which is the faster case."""
        return int(value) if value.is_integer() else Decimal(f"{value:.{self.scale}f}")

    def scaled(self, units: int) -> Decimal:
        """Return a whole number of units of the last place as a term."""
        return _EXACT.scaleb(Decimal(units), -self.scale)

    def begin(self, term: Decimal | int | None) -> tuple[Any, ...]:
        nothing = self.scaled(0)
        return (nothing if term is None else _EXACT.add(nothing, term),)

    def merge(self, row: Any, term: Decimal | int | None) -> None:
        if term is not None:
            setattr(row, self.column, _EXACT.add(getattr(row, self.column), term))


@dataclass(frozen=True)
class Count(FoldPart):
    """How many events there were."""

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def reads(self) -> Mapping[str, frozenset[Any] | None]:
        return {}

    def term(self, recorded: Any) -> int:
        del recorded
        return 1

    def begin(self, term: int) -> tuple[Any, ...]:
        return (term,)

    def merge(self, row: Any, term: int) -> None:
        setattr(row, self.column, getattr(row, self.column) + term)
