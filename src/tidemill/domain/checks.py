"""Declared checks: what must hold of a message beyond the types of its fields.

A message names them once, `checks = (NotBelow("high", "low"), ...)`. From each follow its validation, what the sender
is told, and the words in the documentation of its field. Checks that need the time run with the time of the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class FieldCheck(ABC):
    """Something that must hold of a message. `field`: where it is documented."""

    field: str

    @property
    @abstractmethod
    def words(self) -> str:
        """Return what the documentation of the field says of it."""

    @abstractmethod
    def fault(self, message: Any) -> str | None:
        """Return what is wrong with a message whose fields are valid, None for nothing."""


@dataclass(frozen=True)
class Zoned(FieldCheck):
    """A time has a time zone: one without may be hours off."""

    @property
    def words(self) -> str:
        return "With a time zone."

    def fault(self, message: Any) -> str | None:
        if getattr(message, self.field).tzinfo is None:
            return f"{self.field} has no time zone: say which, or Z"
        return None


@dataclass(frozen=True)
class NotBelow(FieldCheck):
    """A number is not below another one; null is neither."""

    other: str

    @property
    def words(self) -> str:
        return f"Not below {self.other}."

    def fault(self, message: Any) -> str | None:
        value, other = getattr(message, self.field), getattr(message, self.other)
        if value is not None and other is not None and value < other:
            return f"{self.field} {value} is below {self.other} {other}"
        return None


@dataclass(frozen=True)
class SameLength(FieldCheck):
    """A list is as long as another one: together they are the columns of a table."""

    other: str

    @property
    def words(self) -> str:
        return f"As many as {self.other}."

    def fault(self, message: Any) -> str | None:
        size, other = len(getattr(message, self.field)), len(getattr(message, self.other))
        return None if size == other else f"{self.field} are {size}, {self.other} are {other}: send as many"


@dataclass(frozen=True)
class AllBetween(FieldCheck):
    """Every time of a list has a time zone, and lies from `first` until before `end`."""

    first: datetime
    end: datetime

    @property
    def words(self) -> str:
        return f"With time zones, from {self.first:%Y-%m-%d} until before {self.end:%Y-%m-%d}."

    def fault(self, message: Any) -> str | None:
        times: Sequence[datetime] = getattr(message, self.field)
        for number, time in enumerate(times):
            if time.tzinfo is None:
                return f"{self.field}.{number} has no time zone: say which, or Z"
        if not times or (self.first <= min(times) and max(times) < self.end):
            return None  # nearly always
        number, time = next((n, t) for n, t in enumerate(times) if not self.first <= t < self.end)
        return (
            f"{self.field}.{number} {time.isoformat()} is not in {self.first:%Y-%m-%d} to {self.end:%Y-%m-%d}"
        )


@dataclass(frozen=True)
class NotNaN(FieldCheck):
    """No number of a list is NaN, of which there are many bit patterns; null says the same."""

    @property
    def words(self) -> str:
        return "NaN is written as null where null is taken, and refused otherwise."

    def fault(self, message: Any) -> str | None:
        for number, value in enumerate(getattr(message, self.field)):
            if value != value:  # noqa: PLR0124  only NaN differs from itself
                return f"{self.field}.{number} is NaN: send null, or leave the number out"
        return None


@dataclass(frozen=True)
class PlacesIn(FieldCheck):
    """Every number of a list is the place of an item of another one, from 0."""

    other: str

    @property
    def words(self) -> str:
        return f"Places in {self.other}, from 0."

    def fault(self, message: Any) -> str | None:
        places, size = getattr(message, self.field), len(getattr(message, self.other))
        if not places or (min(places) >= 0 and max(places) < size):
            return None
        number = next(number for number, place in enumerate(places) if not 0 <= place < size)
        return f"{self.field}.{number} is {places[number]}, but {self.other} has {size}: places begin with 0"


@dataclass(frozen=True)
class TimedCheck(ABC):
    """Something that only the clock can tell. `field`: where it is documented."""

    field: str

    @property
    @abstractmethod
    def words(self) -> str:
        """Return what the documentation of the field says of it."""

    @abstractmethod
    def fault_at(self, message: Any, at: datetime) -> str | None:
        """Return what is wrong with a message at this time, None for nothing."""

    def fault_among(self, records: Sequence[Any], at: datetime) -> str | None:
        """Return what is wrong with the first of the records that is not valid at this time, after its number."""
        faults = ((number, self.fault_at(record, at)) for number, record in enumerate(records))
        return next((f"{number}: {fault}" for number, fault in faults if fault), None)


@dataclass(frozen=True)
class OfRecords(TimedCheck):
    """A check of every record that a field holds. It follows from the class of the records, and is not declared."""

    check: TimedCheck

    @property
    def words(self) -> str:
        return ""

    def fault_at(self, message: Any, at: datetime) -> str | None:
        fault = self.check.fault_among(getattr(message, self.field), at)
        return None if fault is None else f"{self.field}.{fault}"


@dataclass(frozen=True)
class Within(TimedCheck):
    """A time is accepted from `since` on, and at most `ahead` of the server's clock.

    Every year that it reaches back may become a chunk of a hypertable; clocks that are ahead by minutes are wrong.
    """

    since: datetime
    ahead: timedelta

    @property
    def words(self) -> str:
        return f"Not before {self.since:%Y-%m-%d}, at most {self.ahead.total_seconds():.0f} s ahead of the server."

    def fault_at(self, message: Any, at: datetime) -> str | None:
        time: datetime = getattr(message, self.field)
        if time < self.since:
            return self._lies(time, f"before {self.since.isoformat()}, the earliest time that is accepted")
        if time > at + self.ahead:
            seconds = self.ahead.total_seconds()
            return self._lies(time, f"more than {seconds:.0f} s ahead of the server's {at.isoformat()}")
        return None

    def fault_among(self, records: Sequence[Any], at: datetime) -> str | None:
        times = [getattr(record, self.field) for record in records]
        if not times or (self.since <= min(times) and max(times) <= at + self.ahead):
            return None  # of thousands of records nearly always
        return super().fault_among(records, at)

    def _lies(self, time: datetime, where: str) -> str:
        return f"{self.field} {time.isoformat()} lies {where}"
