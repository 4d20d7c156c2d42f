"""Events of one class in one lane, field by field instead of one by one.

They are read so where every read model of the stream declares its fold of them: then nothing needs a message for each
event, which takes longer to make than all folds. What does need one gets it from `recorded`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from tidemill.domain.carried_fields import unvalidated
from tidemill.domain.messages import EventBase
from tidemill.domain.projection import Recorded

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


AT: Final = ""
"""The name of `at` for `EventColumns.array`: no field has it."""

T = TypeVar("T")


class EventColumns:
    """Valid events, side by side: the fields by name, and of their records `at`, sequence and key.

    Arrays of fields are made once, for all read models. The lists become its own.
    """

    def __init__(
        self,
        event: type[EventBase],
        lane: int,
        fields: Mapping[str, list[Any]],
        *,
        at: list[datetime],
        sequences: list[int],
        keys: list[bytes],
    ) -> None:
        """Take all lists, which are of one length."""
        self.event = event
        self.lane = lane
        self.fields = fields
        self.at = at
        self.sequences = sequences
        self.keys = keys
        self._arrays: dict[tuple[Callable[[list[Any]], Any], str], Any] = {}

    @classmethod
    def of(cls, events: Sequence[Recorded[Any]]) -> Self:
        """Return events of one class and lane, of which there is at least one."""
        first = events[0]
        kind = type(first.event)
        names = tuple(kind.model_fields)
        bodies = map(attrgetter(*names), [recorded.event for recorded in events])
        return cls(
            kind,
            first.lane,
            dict(zip(names, map(list, zip(*bodies, strict=True)), strict=True)),
            at=[recorded.at for recorded in events],
            sequences=[recorded.sequence for recorded in events],
            keys=[recorded.key for recorded in events],
        )

    def __len__(self) -> int:
        return len(self.sequences)

    def part(self, span: slice) -> EventColumns:
        """Return some of the events; itself for all of them."""
        if span.indices(len(self)) == (0, len(self), 1):
            return self
        return EventColumns(
            self.event,
            self.lane,
            {name: values[span] for name, values in self.fields.items()},
            at=self.at[span],
            sequences=self.sequences[span],
            keys=self.keys[span],
        )

    def extend(self, later: EventColumns) -> None:
        """Append events of the same class and lane."""
        for name, values in self.fields.items():
            values.extend(later.fields[name])
        self.at += later.at
        self.sequences += later.sequences
        self.keys += later.keys
        self._arrays.clear()

    def recorded(self) -> list[Recorded[EventBase]]:
        """Return the events one by one."""
        names = tuple(self.fields)
        bodies = zip(*self.fields.values(), strict=True)
        return [
            Recorded(
                unvalidated(self.event, dict(zip(names, body, strict=True))), at, self.lane, sequence, key
            )
            for body, at, sequence, key in zip(bodies, self.at, self.sequences, self.keys, strict=True)
        ]

    def array(self, make: Callable[[list[Any]], T], name: str) -> T:
        """Return what `make` makes of a field, or of `at`; the next time the same again."""
        known = (make, name)
        if known not in self._arrays:
            self._arrays[known] = make(self.at if name == AT else self.fields[name])
        made: T = self._arrays[known]
        return made


Events = Sequence[Recorded[EventBase]] | EventColumns
"""Events of one lane, in order: one by one, or field by field."""


def numbers(values: list[Any]) -> Floats:
    """Return floats as an array; null is NaN."""
    return np.array(values, dtype=np.float64)


def instants(times: list[datetime]) -> Integers:
    """Return microseconds since 1970 of times with time zones, exactly."""
    return np.array([(time - _EPOCH) // _MICROSECOND for time in times], dtype=np.int64)


def coded(values: list[Any]) -> tuple[Integers, list[Any]]:
    """Return the place of each value among the distinct ones, and these."""
    distinct = list(dict.fromkeys(values))
    place = {value: number for number, value in enumerate(distinct)}
    return np.fromiter(map(place.__getitem__, values), dtype=np.int64, count=len(values)), distinct
