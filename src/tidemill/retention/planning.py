"""What leaves next, what waits, and why: from the catalog, the registry and the policy. Pure: times are handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tidemill.domain.archive import SliceId, Source
from tidemill.domain.retention import Retention
from tidemill.retention.slices import Hold, Limits, Slice

FIRST_RATIO: Final = 0.25
"""Bytes in the lake per byte in the database, until an earlier slice of the table tells better."""


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """A chunk as the catalog has it. `chunk`: `schema.name`. `last_write`: None if unknown."""

    chunk: str
    start: datetime
    end: datetime
    size_bytes: int
    compressed: bool = False
    last_write: datetime | None = None


@dataclass(frozen=True, slots=True)
class LateFacts:
    """Diverted rows of one range that belong to no slice yet."""

    start: datetime
    end: datetime
    row_count: int
    size_bytes: int = 0
    last_write: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one table."""

    chunks: tuple[ChunkFacts, ...] = ()
    late: tuple[LateFacts, ...] = ()
    slices: tuple[Slice, ...] = ()
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A slice that may be sealed now. `known`: its row in the registry, if it was given up before."""

    id: SliceId
    source: Source
    chunk: str
    size_bytes: int
    lake_bytes: int
    compressed: bool = False
    known: Slice | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A slice, or a range that has none yet, that stays in the database for now. `until`: None if that is not known."""

    id: SliceId
    code: str
    message: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`seal`: to be sealed now, oldest first. `queued`: eligible, for the next rounds. `waiting`: not eligible."""

    seal: tuple[Candidate, ...]
    queued: tuple[Candidate, ...]
    waiting: tuple[Waiting, ...]
    ratio: float

    @property
    def lake_bytes(self) -> int:
        """Return about how many bytes the lake will need for all that is eligible."""
        return sum(each.lake_bytes for each in (*self.seal, *self.queued))


def plan(policy: Retention, facts: Facts, *, as_of: datetime, now: datetime) -> Plan:
    """Return what leaves next. `as_of`: the time that ages are counted to; quiet periods and hours are of `now`."""
    raise NotImplementedError


def batches(slices: Sequence[Slice]) -> tuple[tuple[Slice, ...], ...]:
    """Return what may share an event: measured, unrequested slices of one table, oldest first, at most 64."""
    raise NotImplementedError


def due_again(slices: Sequence[Slice], now: datetime, limits: Limits) -> tuple[tuple[Slice, ...], ...]:
    """Return the requests whose deadline passed, grouped as they are sent again: by event and attempt."""
    raise NotImplementedError


def why_not_dropped(which: Slice, now: datetime, limits: Limits) -> str:
    """Return one sentence: what is awaited, and what to do."""
    raise NotImplementedError
