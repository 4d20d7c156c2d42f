"""Declared checks: what must hold of a message beyond the types of its fields.

A message names them once, `checks = (NotBelow("high", "low"), ...)`. From each follow its validation, what the sender
is told, the words in the documentation of its field, and what JSON Schema says of it. Checks that need the time run
with the time of the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter, ne
from typing import Any, Final

MAX_NAMED: Final = 10
"""How many faulty items of a list are named; of the others the number is."""


def named(faulty: Iterable[str], singular: str, plural: str) -> str:
    """Return a sentence about the faulty items of a list, of which there is at least one; the first ten are named."""
    texts = list(faulty)
    return f"{listed(texts)} {singular if len(texts) == 1 else plural}"


def listed(texts: Sequence[str]) -> str:
    """Return texts as a sentence lists them: the first ten, and how many there are more."""
    if len(texts) == 1:
        return texts[0]
    if len(texts) > MAX_NAMED:
        return f"{', '.join(texts[:MAX_NAMED])} and {len(texts) - MAX_NAMED} more"
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


_ZONE: Final = attrgetter("tzinfo")


@dataclass(frozen=True)
class DeclaredCheck(ABC):
    """Something that must hold of a message. `field`: where it is documented."""

    field: str

    @property
    @abstractmethod
    def words(self) -> str:
        """Return what the documentation of the field says of it."""

    @property
    def keywords(self) -> Mapping[str, Any]:
        """Return the keywords of JSON Schema that say it, or a part of it, of the field."""
        return {}


class FieldCheck(DeclaredCheck):
    """A check that the message alone answers."""

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
        if not all(map(_ZONE, times)):
            unzoned = (f"{self.field}.{n}" for n, time in enumerate(times) if time.tzinfo is None)
            return named(unzoned, "has no time zone", "have no time zone") + ": say which, or Z"
        if not times or (self.first <= min(times) and max(times) < self.end):
            return None  # nearly always
        outside = [(n, time) for n, time in enumerate(times) if not self.first <= time < self.end]
        span = f"in {self.first:%Y-%m-%d} to {self.end:%Y-%m-%d}"
        items = (f"{self.field}.{n} {time.isoformat()}" for n, time in outside)
        return named(items, f"is not {span}", f"are not {span}")


@dataclass(frozen=True)
class NotNaN(FieldCheck):
    """No number of a list is NaN, of which there are many bit patterns; null says the same."""

    @property
    def words(self) -> str:
        return "NaN is written as null where null is taken, and refused otherwise."

    def fault(self, message: Any) -> str | None:
        values = getattr(message, self.field)
        if not any(map(ne, values, values)):  # only NaN differs from itself
            return None
        items = (f"{self.field}.{n}" for n, differs in enumerate(map(ne, values, values)) if differs)
        return named(items, "is NaN", "are NaN") + ": send null, or leave the number out"


@dataclass(frozen=True)
class PlacesIn(FieldCheck):
    """Every number of a list is the place of an item of another one, from 0."""

    other: str

    @property
    def words(self) -> str:
        return f"Places in {self.other}, from 0."

    @property
    def keywords(self) -> Mapping[str, Any]:
        return {"items": {"minimum": 0}}

    def fault(self, message: Any) -> str | None:
        places, size = getattr(message, self.field), len(getattr(message, self.other))
        if not places or (min(places) >= 0 and max(places) < size):
            return None
        wrong = ((number, place) for number, place in enumerate(places) if not 0 <= place < size)
        items = [f"{self.field}.{number} is {place}" for number, place in wrong]
        return f"{listed(items)}, but {self.other} has {size}: places begin with 0"


class TimedCheck(DeclaredCheck):
    """A check that only the clock can answer."""

    @abstractmethod
    def fault_at(self, message: Any, at: datetime) -> str | None:
        """Return what is wrong with a message at this time, None for nothing."""

    def faults_among(self, records: Sequence[Any], at: datetime) -> dict[int, str]:
        """Return what is wrong with the records that are not valid at this time, by their numbers."""
        faults = ((number, self.fault_at(record, at)) for number, record in enumerate(records))
        return {number: fault for number, fault in faults if fault}


@dataclass(frozen=True)
class OfRecords(TimedCheck):
    """A check of every record that a field holds. It follows from the class of the records, and is not declared."""

    check: TimedCheck

    @property
    def words(self) -> str:
        return ""

    def fault_at(self, message: Any, at: datetime) -> str | None:
        return self.text_of(self.check.faults_among(getattr(message, self.field), at))

    def text_of(self, faults: Mapping[int, str]) -> str | None:
        """Return what the sender is told of faults by the numbers of their records, None if there are none."""
        if not faults:
            return None
        (first, fault), *others = faults.items()
        text = f"{self.field}.{first}: {fault}"
        if not others:
            return text
        return (
            f"{text}; {named((f'{self.field}.{n}' for n, _ in others), 'is refused', 'are refused')} likewise"
        )


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

    def faults_among(self, records: Sequence[Any], at: datetime) -> dict[int, str]:
        times = [getattr(record, self.field) for record in records]
        if not times or (self.since <= min(times) and max(times) <= at + self.ahead):
            return {}  # of thousands of records nearly always
        return super().faults_among(records, at)

    def _lies(self, time: datetime, where: str) -> str:
        return f"{self.field} {time.isoformat()} lies {where}"
