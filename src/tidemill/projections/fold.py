"""Folding a batch of events into rows. Pure: rows in, rows out.

First `keyed` says which rows a batch touches, so that they can be loaded at once; then `fold` folds the events in
order and returns what to write. The result does not depend on where a batch was cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import TidemillError
from tidemill.domain.identity import row_id, row_uuid
from tidemill.domain.messages import EventBase, ReadModelBase
from tidemill.domain.projection import Fold, Key, Projection, Recorded
from tidemill.runtime.tracebacks import place_of

Event = Recorded[EventBase]


class FoldFailed(TidemillError):
    """A projection's own code raised, on the event `sequence` of `lane`: a bug, which a retry does not fix."""

    kind = ErrorCode.FOLD_FAILED

    def __init__(self, projection: str, event: Event, cause: Exception) -> None:
        """The event is named so that the bug can be reproduced from the topic."""
        kind, place = type(event.event).__name__, place_of(cause)
        where = "" if place is None else f" ({place})"
        super().__init__(
            f"projection {projection} failed on event {event.sequence} of partition {event.lane} ({kind}): "
            f"{type(cause).__name__}: {cause}{where}; fix its code, then restart the projector",
            projection=projection,
            lane=event.lane,
            sequence=event.sequence,
        )
        self.lane_id = event.lane
        self.sequence = event.sequence


Touch = tuple[Key, Fold, Event]
"""An event on its way to its row. A bare tuple: one is made for every event of every projection."""


class Changes(NamedTuple):
    """The changes of a batch to the rows of a read model."""

    new: list[ReadModelBase]
    changed: list[ReadModelBase]
    gone: list[Key]


def keyed(projection: Projection, events: Iterable[Event]) -> list[Touch]:
    """Return the events that the projection folds, each with its row's key. Raises `FoldFailed`."""
    folds, key_of, parts_of = projection.folds, projection.key, projection.parts
    touches: list[Touch] = []
    for event in events:
        body = event.event
        fold = folds.get(type(body))
        if fold is None:
            continue
        try:
            if parts_of is None:
                key = (event.key.decode(),) if key_of is None else key_of(body)
                touches.append((key, fold, event))
            else:
                touches += _keyed_parts(projection, fold, event, parts_of(body))
        except Exception as error:
            raise FoldFailed(projection.name, event, error) from error
    return touches


def _keyed_parts(projection: Projection, fold: Fold, event: Event, parts: Iterable[Any]) -> list[Touch]:
    key_of = projection.key or (lambda _: (event.key.decode(),))
    at, lane, sequence, record_key = event.at, event.lane, event.sequence, event.key
    return [(key_of(part), fold, Recorded(part, at, lane, sequence, record_key)) for part in parts]


def fold(projection: Projection, touches: Sequence[Touch], loaded: Mapping[Key, ReadModelBase]) -> Changes:
    """Fold events into the rows that were loaded. Changes those rows. Raises `FoldFailed`."""
    rows: dict[Key, ReadModelBase | None] = dict(loaded)
    for key, folder, event in touches:
        row = rows.get(key)
        try:
            folded = folder(row, event)
            if folded is not None and projection.stamped:
                _stamp(projection, key, row, folded, event)
        except Exception as error:
            raise FoldFailed(projection.name, event, error) from error
        rows[key] = folded
    return _changes(rows, loaded)


def _stamp(
    projection: Projection, key: Key, row: ReadModelBase | None, folded: ReadModelBase, event: Event
) -> None:
    at = event.at
    if row is None:
        begin_row(projection, key, folded)
        folded.created_at = folded.updated_at = at
        folded.version = 1
        return
    if folded is not row:
        folded.id, folded.uuid, folded.version = row.id, row.uuid, row.version
        folded.created_at, folded.updated_at = row.created_at, row.updated_at
    folded.version += 1
    if at > folded.updated_at:
        folded.updated_at = at
    elif (
        at < folded.created_at
    ):  # lanes interleave differently in every run, but the earliest time is the same
        folded.created_at = at


def begin_row(projection: Projection, key: Key, row: ReadModelBase) -> None:
    """Fill the ids of a new row."""
    row.uuid = row_uuid(projection.name, _key_text(key))
    row.id = row_id(row.uuid)


def continue_row(row: ReadModelBase, earliest: datetime, latest: datetime, count: int) -> None:
    """Count several more events in a row that exists. `earliest`, `latest`: their times."""
    row.version += count
    row.updated_at = max(row.updated_at, latest)
    row.created_at = min(row.created_at, earliest)


def _key_text(key: Key) -> str:
    parts = [str(part) for part in key]
    if len(parts) > 1:  # ("a/b", "c") and ("a", "b/c") are two rows
        parts = [part.replace("%", "%25").replace("/", "%2F") for part in parts]
    return "/".join(parts)


def _changes(rows: Mapping[Key, ReadModelBase | None], loaded: Mapping[Key, ReadModelBase]) -> Changes:
    changes = Changes([], [], [])
    for key, row in rows.items():
        if row is None:
            if key in loaded:
                changes.gone.append(key)
        elif key in loaded:
            changes.changed.append(row)
        else:
            changes.new.append(row)
    return changes
