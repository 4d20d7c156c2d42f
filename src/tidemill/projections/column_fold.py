"""Folding a batch by arrays: what a declared fold says, for all events of a batch at once. Pure.

Events are grouped by their rows; of each group follow the terms that `DeclaredFold` merges into a row, as it merges
those of a single event. Whatever arrays could not do exactly raises, and the batch is folded event by event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache, cached_property
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np

from tidemill.domain.declared_fold import DeclaredFold
from tidemill.domain.folds import Count, Extreme, FoldPart, Max, Pick, Sum, UtcDay
from tidemill.domain.messages import ReadModelBase
from tidemill.domain.projection import Key, Projection
from tidemill.projections.event_columns import (
    AT,
    EventColumns,
    Floats,
    Integers,
    coded,
    instants,
    numbers,
)
from tidemill.projections.fold import Changes, FoldFailed, begin_row, continue_row

_EPOCH_DAY: Final = date(1970, 1, 1)
_DAY_US: Final = 86_400_000_000
_MAX_TOTAL: Final = 2.0**52
"""Sums of whole parts stay below it: such floats are whole numbers, and 64 bits hold them."""
_NEAR_HALF: Final = 1e-5
"""How close to the middle of two places a product of floats may be wrong about which is nearer."""

_LONG_LANE: Final = 64
"""Events of a lane, on average, from which an array for each lane, used again by the next read model, pays."""


class _Groups(NamedTuple):
    """The rows of a batch: their keys, of each event the number of its row, and of each row how many events."""

    keys: list[Key]
    of: Integers
    counts: Integers

    @property
    def starts(self) -> Integers:
        """Where the events of each row begin once they are in the order of rows."""
        starts: Integers = np.cumsum(self.counts) - self.counts
        return starts


class _Batch:
    """The events of several lanes, lanes ascending: then events of equal time are in the order of their moments."""

    def __init__(self, lanes: Sequence[EventColumns]) -> None:
        self.lanes = sorted(lanes, key=lambda columns: columns.lane)
        self._is_long = sum(map(len, lanes)) >= _LONG_LANE * len(lanes)
        self.values = cache(self._values)
        self.instants = cache(lambda name: self._joined(instants, name))
        self.numbers = cache(lambda name: self._joined(numbers, name))

    @cached_property
    def sequences(self) -> list[int]:
        return _chained(columns.sequences for columns in self.lanes)

    @cached_property
    def lane_ids(self) -> list[int]:
        return _chained([columns.lane] * len(columns) for columns in self.lanes)

    def codes(self, name: str) -> tuple[Integers, list[Any]]:
        """Return `event_columns.coded` of a field of all lanes."""
        if not self._is_long:
            return coded(self.values(name))
        made = [columns.array(coded, name) for columns in self.lanes]
        if len(made) == 1:
            return made[0]
        together, distinct = coded(_chained(values for _, values in made))
        ends = np.cumsum([len(values) for _, values in made])
        places = zip(made, np.split(together, ends[:-1]), strict=True)
        return np.concatenate([place[codes] for (codes, _), place in places]), distinct

    def _values(self, name: str) -> list[Any]:
        return _chained(columns.at if name == AT else columns.fields[name] for columns in self.lanes)

    def _joined(self, make: Callable[[list[Any]], Any], name: str) -> Any:
        if not self._is_long:
            return make(self.values(name))
        made = [columns.array(make, name) for columns in self.lanes]
        return made[0] if len(made) == 1 else np.concatenate(made)


def _chained(lists: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(lists))


# --- rows ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoldedColumns:
    """A batch that was folded, before it is merged into the rows that were loaded."""

    projection: Projection
    fold: DeclaredFold
    keys: list[Key]
    terms: Sequence[Sequence[Any]]
    counts: Sequence[int]
    spans: Sequence[tuple[datetime, datetime]]
    lanes: Sequence[EventColumns]
    by_arrays: bool = True

    def into(self, loaded: Mapping[Key, ReadModelBase]) -> Changes:
        """Merge it into rows. Changes those rows. Raises `FoldFailed`, which names an event of the row."""
        changes = Changes([], [], [])
        terms_of_rows = zip(*self.terms, strict=True)
        rows = zip(self.keys, terms_of_rows, self.counts, self.spans, strict=True)
        for key, terms, count, (earliest, latest) in rows:
            row = loaded.get(key)
            try:
                if row is None:
                    row = self.fold.begin(key, terms)
                    begin_row(self.projection, key, row)
                    row.created_at, row.updated_at, row.version = earliest, latest, count
                    changes.new.append(row)
                else:
                    self.fold.merge(row, terms)
                    continue_row(row, earliest, latest, count)
                    changes.changed.append(row)
            except Exception as error:
                raise self._failed(key, error) from error
        return changes

    def _failed(self, key: Key, error: Exception) -> FoldFailed:
        events = chain.from_iterable(columns.recorded() for columns in self.lanes)
        event = next(event for event in events if self.fold.key_of(event.event) == key)
        return FoldFailed(self.projection.name, event, error)


def fold_columns(projection: Projection, fold: DeclaredFold, lanes: Sequence[EventColumns]) -> FoldedColumns:
    """Fold events of some lanes, at least one. What arrays cannot do exactly is some `ValueError` or `TypeError`."""
    batch = _Batch(lanes)
    groups = _grouped(batch, fold.key)
    reduced = _Reduced(batch, groups)
    return FoldedColumns(
        projection,
        fold,
        groups.keys,
        [reduced.terms(part) for part in fold.parts],
        groups.counts.tolist(),
        reduced.spans(),
        batch.lanes,
    )


def _grouped(batch: _Batch, key: Mapping[str, str | UtcDay]) -> _Groups:
    coded_columns = [
        batch.codes(source) if isinstance(source, str) else _days(batch.instants(source.field))
        for source in key.values()
    ]
    combined, first = coded_columns[0]
    keys: list[Key] = [(value,) for value in first]
    for codes, distinct in coded_columns[1:]:
        present, combined = np.unique(combined * len(distinct) + codes, return_inverse=True)
        pairs = (divmod(number, len(distinct)) for number in present.tolist())
        keys = [(*keys[before], distinct[own]) for before, own in pairs]
    return _Groups(keys, combined, np.bincount(combined, minlength=len(keys)))


def _days(times: Integers) -> tuple[Integers, list[date]]:
    """Return the UTC days of times, coded."""
    present, codes = np.unique(times // _DAY_US, return_inverse=True)
    return codes, [_EPOCH_DAY + timedelta(days) for days in present.tolist()]


class _Reduced:
    """The terms of the parts of a fold, one for each row."""

    def __init__(self, batch: _Batch, groups: _Groups) -> None:
        self._batch = batch
        self._groups = groups
        self._starts = groups.starts
        self._order_by = cache(lambda name: np.lexsort((batch.instants(name), groups.of)))
        self._some_order: Integers | None = None

    def terms(self, part: FoldPart) -> Sequence[Any]:
        match part:
            case Pick():
                return self._picked(part)
            case Extreme():
                return self._extremes(part)
            case Sum():
                return self._sums(part)
            case Count():
                counts: list[int] = self._groups.counts.tolist()
                return counts
            case _:
                raise TypeError(f"no arrays for {type(part).__name__}")

    def spans(self) -> list[tuple[datetime, datetime]]:
        """Return the earliest and latest `at` of each row's events."""
        at = self._batch.instants(AT)
        times = dict(zip(at.tolist(), self._batch.values(AT), strict=True))
        at = at[self._in_order()]
        earliest, latest = np.minimum.reduceat(at, self._starts), np.maximum.reduceat(at, self._starts)
        return [
            (times[one], times[other]) for one, other in zip(earliest.tolist(), latest.tolist(), strict=True)
        ]

    def _in_order(self) -> Integers:
        """Return the events row by row, in whichever order within."""
        if self._some_order is None:
            self._some_order = np.argsort(self._groups.of, kind="stable")
        return self._some_order

    def _picked(self, part: Pick) -> list[Any]:
        self._some_order = order = self._order_by(part.by)
        ends = self._starts + self._groups.counts - 1
        chosen = order[ends if part.is_newest else self._starts].tolist()
        batch = self._batch
        moments = (
            _at(batch.values(part.by), chosen),
            _at(batch.lane_ids, chosen),
            _at(batch.sequences, chosen),
        )
        values = [self._first_known(of, chosen) for of in part.sources.values()]
        return list(zip(zip(*moments, strict=True), zip(*values, strict=True), strict=True))

    def _first_known(self, of: Sequence[str], chosen: Sequence[int]) -> list[Any]:
        first, *others = (self._batch.values(name) for name in of)
        values = _at(first, chosen)
        for other in others:
            values = [
                other[place] if value is None else value for value, place in zip(values, chosen, strict=True)
            ]
        return values

    def _extremes(self, part: Extreme) -> list[float]:
        better = np.fmax if isinstance(part, Max) else np.fmin  # of a number and NaN it is the number
        values, *others = (self._batch.numbers(name) for name in part.of)
        for other in others:
            values = better(values, other)
        reduced: list[float] = (better.reduceat(values[self._in_order()], self._starts) + 0.0).tolist()
        return reduced

    def _sums(self, part: Sum) -> list[Decimal | None]:
        values = self._batch.numbers(part.of)
        there = ~np.isnan(values)
        if np.count_nonzero(there) + self._batch.values(part.of).count(None) != len(values):
            raise ValueError(f"{part.of} is NaN")
        wholes, rests = split(np.where(there, values, 0.0), part)
        order, unit = self._in_order(), 10**part.scale
        whole_sums, rest_sums, counts = (
            np.add.reduceat(terms[order], self._starts).tolist()
            for terms in (wholes, rests, there.astype(np.int64))
        )
        sums = zip(whole_sums, rest_sums, counts, strict=True)
        return [part.scaled(whole * unit + rest) if count else None for whole, rest, count in sums]


def _at(values: Sequence[Any], places: Sequence[int]) -> list[Any]:
    return [values[place] for place in places]


def split(values: Floats, part: Sum) -> tuple[Integers, Integers]:
    """Return the whole parts of numbers, and the rests in units of the last place, each rounded half to even.

    A rest is exact, its product nearly: where it is close to the middle of two units, the text of the number decides.
    """
    if not float(np.abs(values).max()) * len(values) < _MAX_TOTAL:
        raise ValueError(f"{part.of} is too large")
    wholes = np.trunc(values)
    rests = (values - wholes) * 10.0**part.scale
    nearest = np.rint(rests)
    doubtful = np.abs(np.abs(rests - np.trunc(rests)) - 0.5) < _NEAR_HALF
    for place in np.flatnonzero(doubtful).tolist():
        units = Decimal(f"{values[place]:.{part.scale}f}") - int(wholes[place])
        nearest[place] = int(units.scaleb(part.scale))
    return wholes.astype(np.int64), nearest.astype(np.int64)
