"""Which way a batch is folded: by arrays where its read model declares how, else event by event.

Both ways give the same rows. Arrays cost as much as some dozens of events, so a few events go one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final, Protocol

from tidemill.domain.declared_fold import DeclaredFold
from tidemill.domain.messages import EventBase, ReadModelBase
from tidemill.domain.projection import Key, Projection, Recorded
from tidemill.projections.column_fold import FoldedColumns, fold_columns
from tidemill.projections.event_columns import EventColumns, Events
from tidemill.projections.fold import Changes, Touch, fold, keyed

MIN_BY_ARRAYS: Final = 48
"""Fewer events than these are folded faster one by one."""


class Touched(Protocol):
    """A batch on its way to its rows."""

    @property
    def keys(self) -> Sequence[Key]:
        """Return the keys of the rows that it touches, each once."""
        ...

    @property
    def by_arrays(self) -> bool:
        """Return whether it is folded by arrays."""
        ...

    def into(self, loaded: Mapping[Key, ReadModelBase]) -> Changes:
        """Fold it into the rows that were loaded. Changes those rows. Raises `FoldFailed`."""
        ...


@dataclass(frozen=True)
class TouchedOneByOne:
    """A batch that is folded event by event."""

    projection: Projection
    touches: Sequence[Touch]
    by_arrays: bool = False

    @cached_property
    def keys(self) -> Sequence[Key]:
        return list({key: None for key, _, _ in self.touches})

    def into(self, loaded: Mapping[Key, ReadModelBase]) -> Changes:
        return fold(self.projection, self.touches, loaded)


def touched(projection: Projection, lanes: Sequence[Events]) -> Touched:
    """Return what the events of some lanes touch. Raises `FoldFailed`."""
    declared = declared_fold(projection)
    if declared is not None and sum(map(len, lanes)) >= MIN_BY_ARRAYS:
        folded = _by_arrays(projection, *declared, lanes)
        if folded is not None:
            return folded
    events = [event for lane in lanes for event in listed(lane)]
    return TouchedOneByOne(projection, keyed(projection, events))


def listed(events: Events) -> Sequence[Recorded[EventBase]]:
    """Return events one by one."""
    return events.recorded() if isinstance(events, EventColumns) else events


def declared_fold(projection: Projection) -> tuple[type[EventBase], DeclaredFold] | None:
    """Return the class of events and the fold of a read model that is declared; None if any of it is Python."""
    if projection.parts is not None or not projection.stamped or len(projection.folds) != 1:
        return None
    ((event, declared),) = projection.folds.items()
    return (
        (event, declared)
        if isinstance(declared, DeclaredFold) and projection.key == declared.key_of
        else None
    )


def read_by_columns(projections: Sequence[Projection]) -> frozenset[type[EventBase]]:
    """Return the classes of events that all of these read models fold, if they fold them, as declared."""
    declared: set[type[EventBase]] = set()
    coded: set[type[EventBase]] = set()
    for projection in projections:
        (coded if declared_fold(projection) is None else declared).update(projection.folds)
    return frozenset(declared - coded)


def _by_arrays(
    projection: Projection, event: type[EventBase], declared: DeclaredFold, lanes: Sequence[Events]
) -> FoldedColumns | None:
    columns = [columns for columns in map(partial(_columns_of, event), lanes) if columns is not None]
    if not columns:
        return None
    try:
        return fold_columns(projection, declared, columns)
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        return None  # one by one it is folded, or fails by name


def _columns_of(event: type[EventBase], lane: Events) -> EventColumns | None:
    if isinstance(lane, EventColumns):
        return lane if lane.event is event else None
    wanted = [recorded for recorded in lane if type(recorded.event) is event]
    return EventColumns.of(wanted) if wanted else None
