"""The position of a read model in one lane, and which of the arriving records are next. Pure.

The rule is one sentence: the record whose sequence is the expected one is taken, every other is dropped. A lower one
is a repeat; a higher one means that events are missing, which halts the lane until the expected one arrives. Which one
is expected follows from the lane's history: withdrawn events are left out, those beyond the log's end wait.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

from tidemill.domain.errors import ContractError
from tidemill.domain.messages import EventBase
from tidemill.domain.projection import Recorded
from tidemill.projections import halts
from tidemill.projections.event_columns import EventColumns, Events
from tidemill.projections.history import PLAIN, LaneHistory
from tidemill.projections.ports import Checkpoint, CheckpointMove, EventRecord, FoldHalt

Decoded = Recorded[EventBase] | ContractError
"""An event, or why this version cannot read it."""

DecodedEvents = list[Decoded] | EventColumns
"""Events one by one, or field by field if all could be read and are of one class."""


@dataclass(slots=True)
class LaneBatch:
    """Records of one lane as they arrived: offsets, sequences and events, side by side.

    `whole`: every event could be read. `dense`: every sequence is the one before plus one. Both are true nearly always;
    then the records are not read one by one. The records themselves are dropped: a backlog holds thousands.
    """

    offsets: list[int]
    sequences: list[int]
    events: DecodedEvents
    whole: bool
    dense: bool = field(init=False)

    def __post_init__(self) -> None:
        """Check the sequences once, for all read models."""
        first = self.sequences[0]
        self.dense = self.sequences == list(range(first, first + len(self.sequences)))

    @classmethod
    def of(cls, records: Sequence[EventRecord], events: DecodedEvents, *, whole: bool) -> LaneBatch:
        """Return the batch of at least one record."""
        offsets = [record.offset for record in records]
        return cls(offsets, [record.sequence for record in records], events, whole)

    def __len__(self) -> int:
        return len(self.sequences)

    def extend(self, later: LaneBatch) -> None:
        """Append later records."""
        self.dense = self.dense and later.dense and self.sequences[-1] + 1 == later.sequences[0]
        self.whole = self.whole and later.whole
        self.offsets += later.offsets
        self.sequences += later.sequences
        self.events = joined(self.events, later.events)

    def before(self, sequence: int) -> int:
        """Return how many records have a lower sequence."""
        if self.dense:
            return min(max(sequence - self.sequences[0], 0), len(self))
        return sum(one < sequence for one in self.sequences)

    def readable(self, places: Sequence[int]) -> tuple[Events, ContractError | None]:
        """Return the events at `places`, up to the first that cannot be read, and why it cannot."""
        if self.whole and isinstance(places, range):
            span = slice(places.start, places.stop)
            if isinstance(self.events, EventColumns):
                return self.events.part(span), None
            return cast("list[Recorded[EventBase]]", self.events[span]), None
        events: list[Recorded[EventBase]] = []
        decoded = one_by_one(self.events)
        for place in places:
            event = decoded[place]
            if isinstance(event, ContractError):
                return events, event
            events.append(event)
        return events, None


def joined(earlier: DecodedEvents, later: DecodedEvents) -> DecodedEvents:
    """Return events, then later ones; the former are used up. Field by field if some were and all can be."""
    one, other = earlier, later
    if isinstance(earlier, EventColumns) or isinstance(later, EventColumns):
        one, other = field_by_field(earlier), field_by_field(later)
    if isinstance(one, EventColumns) and isinstance(other, EventColumns) and one.event is other.event:
        one.extend(other)
        return one
    events = one_by_one(earlier)
    events += one_by_one(later)
    return events


def field_by_field(events: DecodedEvents) -> DecodedEvents:
    """Return events field by field if all could be read and are of one class."""
    if isinstance(events, EventColumns):
        return events
    readable = [event for event in events if isinstance(event, Recorded)]
    classes = {type(event.event) for event in readable}
    return EventColumns.of(readable) if len(readable) == len(events) and len(classes) == 1 else events


def one_by_one(events: DecodedEvents) -> list[Decoded]:
    """Return events that may be field by field one by one."""
    return [*events.recorded()] if isinstance(events, EventColumns) else events


_PASSING: Final = frozenset({halts.GAP, halts.AHEAD})
"""Halts that end by themselves, when something else arrives."""

Batch = Mapping[int, LaneBatch]
"""Records by partition."""


class _Places(NamedTuple):
    """The next records of a batch, and the sequence after them.

    `gap`: the sequence that is there instead. `ahead`: the first next one that the log does not
    know.
    """

    places: Sequence[int]
    expected: int
    gap: int | None
    ahead: int | None


class Taken(NamedTuple):
    """What a read model takes of a lane's batch: `events`, all readable and in order, and its state afterwards."""

    events: Events
    checkpoint: Checkpoint
    proven: bool
    halt: FoldHalt | None


@dataclass(slots=True)
class Cursor:
    """A read model's position in one lane.

    `proven`: the record of the last event folded was found at the checkpoint's offset, so this is still the same
    topic. `recorded`: the stored halt. `until`: the last sequence that is wanted, if there is one.
    `history`: the log's history as of the present batch.
    """

    checkpoint: Checkpoint
    recorded: FoldHalt | None = None
    until: int | None = None
    halt: FoldHalt | None = None
    history: LaneHistory = PLAIN
    proven: bool = field(init=False)

    def __post_init__(self) -> None:
        """Nothing to prove before the first event; without its offset there is no record to compare."""
        self.proven = self.checkpoint.sequence == 0 or self.checkpoint.next_offset == 0

    @property
    def expected(self) -> int:
        """Return the sequence that comes next."""
        return self.history.after(self.checkpoint.sequence)

    @property
    def closed(self) -> bool:
        """Return whether no further record will be taken."""
        return self.done or (self.halt is not None and self.halt.code not in _PASSING)

    @property
    def done(self) -> bool:
        """Return whether all that was wanted has been taken."""
        return self.until is not None and self.checkpoint.sequence >= self.until

    @property
    def start_offset(self) -> int:
        """Return where to begin to read: at the proof if it is still to be read, else after it."""
        return self.checkpoint.next_offset - (not self.proven)

    def take(self, lane: LaneBatch) -> Taken | None:
        """Return what is next of `lane`, None if it changes nothing. Moves nothing yet."""
        if self.closed:
            return None
        if (span := self.history.withdrew(self.checkpoint.sequence)) is not None:
            return Taken((), self.checkpoint, self.proven, self._withdrawn(*span))
        begin = 0
        if not self.proven:
            begin = bisect_left(lane.offsets, self.checkpoint.next_offset - 1)
            if begin == len(lane):
                return None
            found = Checkpoint(lane.sequences[begin], lane.offsets[begin] + 1)
            if found != self.checkpoint:
                return Taken((), self.checkpoint, self.proven, self._changed(found))
        return self._taken(lane, self._places(lane, begin))

    def move(self, taken: Taken) -> None:
        """Move to `taken`: it is folded and committed."""
        self.checkpoint, self.proven, self.halt = taken.checkpoint, taken.proven, taken.halt

    def step(self, taken: Taken) -> CheckpointMove:
        """Return the checkpoint's move for `taken`."""
        return CheckpointMove(self.checkpoint.sequence, *taken.checkpoint)

    def hold(self, code: str, detail: str) -> None:
        """Halt: the record at the expected sequence cannot be read."""
        self.halt = FoldHalt(code, self.expected, self.expected, detail)

    def waive_proof(self) -> bool:
        """Continue without the proof, whose record may have been trimmed; False if it was not needed."""
        waived, self.proven = not self.proven, True
        return waived

    def _changed(self, found: Checkpoint) -> FoldHalt:
        sequence, next_offset = self.checkpoint
        detail = (
            f"event {sequence} was folded from offset {next_offset - 1}; "
            f"the topic now has event {found.sequence} at offset {found.next_offset - 1}"
        )
        return FoldHalt(halts.TOPIC_CHANGED, self.expected, found.sequence, detail)

    def _withdrawn(self, before: int, last: int) -> FoldHalt:
        folded = self.checkpoint.sequence
        detail = f"events {before + 1} to {last} were withdrawn, and it has folded up to {folded}"
        return FoldHalt(halts.WITHDRAWN, before + 1, folded, detail)

    def _places(self, lane: LaneBatch, begin: int) -> _Places:
        """Return the next records, and what follows them."""
        first = lane.sequences[0]
        if lane.dense and self.history.is_plain_from(self.checkpoint.sequence):
            if first > self.expected:
                return _Places((), self.expected, first, None)
            places: Sequence[int] = range(self.expected - first, len(lane))
            return self._wanted(lane, places, None)
        return self._wanted(lane, *self._search(lane, begin))

    def _search(self, lane: LaneBatch, begin: int) -> tuple[list[int], int | None]:
        places: list[int] = []
        expected, gap = self.expected, None
        for place in range(begin, len(lane)):
            sequence = lane.sequences[place]
            if sequence == expected:
                places.append(place)
                expected, gap = self.history.after(sequence), None
            elif sequence > expected and gap is None:
                gap = sequence
        return places, gap

    def _wanted(self, lane: LaneBatch, places: Sequence[int], gap: int | None) -> _Places:
        """Leave out what is not wanted, and what the log does not know."""
        ahead = None
        if places and self.until is not None and lane.sequences[places[-1]] > self.until:
            places = [place for place in places if lane.sequences[place] <= self.until]
        if places and self.history.beyond(lane.sequences[places[-1]]):
            known = [place for place in places if not self.history.beyond(lane.sequences[place])]
            ahead = lane.sequences[places[len(known)]]
            places = known
        last = lane.sequences[places[-1]] if places else self.checkpoint.sequence
        return _Places(places, self.history.after(last), gap, ahead)

    def _taken(self, lane: LaneBatch, found: _Places) -> Taken | None:
        events, unreadable = lane.readable(found.places)
        if unreadable is not None:
            sequence = lane.sequences[found.places[len(events)]]
            halt: FoldHalt | None = FoldHalt(halts.UNREADABLE, sequence, sequence, str(unreadable))
        elif found.ahead is not None:
            halt = self._ahead(found)
        else:
            halt = self._gap(found, fresh=bool(events))
        if not events and halt == self.halt and self.proven:
            return None
        return Taken(events, self._behind(lane, found.places, len(events)), proven=True, halt=halt)

    def _ahead(self, found: _Places) -> FoldHalt:
        detail = f"the log ends with event {self.history.end}, the topic has event {found.ahead}"
        return FoldHalt(halts.AHEAD, found.expected, found.ahead or 0, detail)

    def _gap(self, found: _Places, *, fresh: bool) -> FoldHalt | None:
        if not fresh and self.halt is not None:
            return self.halt  # still the same gap
        expected, got = found.expected, found.gap
        if got is None or (self.until is not None and expected > self.until):
            return None
        return FoldHalt(halts.GAP, expected, got, f"expected {expected}, got {got}")

    def _behind(self, lane: LaneBatch, places: Sequence[int], count: int) -> Checkpoint:
        if not count:
            return self.checkpoint
        last = places[count - 1]
        return Checkpoint(lane.sequences[last], lane.offsets[last] + 1)
