"""The inputs of an operator's decision about a lane, and its results."""

from __future__ import annotations

from typing import NamedTuple

from tidemill.outbox.ports import Tails


class Cleared(NamedTuple):
    """A halt that was lifted."""

    code: str
    detail: str


class Parked(NamedTuple):
    """The command that a lane no longer waits for: its offset, its schema's id or fingerprint, its type."""

    offset: int
    schema: str
    type_name: str


class Skipped(NamedTuple):
    """Offsets that were left out: `start` is the first, `end` the one to read next."""

    start: int
    end: int


class Reconciled(NamedTuple):
    """How a lane's history continues: the next position and event follow these numbers.

    `again`: rows of the outbox that are sent (again). `moved`: whether they got new numbers. `withdrawn`:
    events of the topic that are not in force any more. `lost`: events that the topic lacks permanently.
    """

    position: int
    sequence: int
    timeline: int
    again: int
    moved: bool
    withdrawn: int
    lost: int


class TopicsEnd(NamedTuple):
    """How a lane's topics end. `timeline`: the highest one that a tail carries; `first_offset`: of its events.

    `hidden`: more follows a tail, in an open transaction.
    """

    tails: Tails
    timeline: int
    first_offset: int
    hidden: bool = False


class Seen(NamedTuple):
    """The state that a decision was based on: any later claim, batch or decision changes one of its fields."""

    epoch: int
    batch: int
