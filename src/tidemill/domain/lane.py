"""Lanes and streams: the unit of order, ownership and scale.

A *stream* is one family of topics: commands come in, events, outcomes and dead letters go out. Its *lane* number p is
partition p of every one of them. A *claim* is the right to process a lane, fenced by its epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

DEFAULT_PARTITIONS = 64
NO_OFFSET: Final = -1
"""The record offset of decisions without a record."""

MAX_AHEAD: Final = timedelta(minutes=5)
"""How far a clock may be set back while the times of a lane still never decrease. A time further ahead was wrong."""

_MAX_SPANS = 8


class TopicRole(StrEnum):
    """What a topic of a stream carries. The value is the topic name's part before the version."""

    COMMANDS = "commands"
    EVENTS = "events"
    OUTCOMES = "outcomes"
    DEAD_LETTERS = "dead-letters"


@dataclass(frozen=True, slots=True)
class StreamTopics:
    """The names of a stream's four topics."""

    commands: str
    events: str
    outcomes: str
    dead_letters: str

    @classmethod
    def of(cls, aggregate: str, *, prefix: str = "tidemill", version: int = 1) -> StreamTopics:
        """Return the documented names, e.g. `tidemill.market-data.commands.v1`."""
        base = f"{prefix}.{aggregate}"
        commands = f"{base}.commands.v{version}"
        return cls(commands, f"{base}.events.v{version}", f"{base}.outcomes.v{version}", f"{commands}.dlq")

    def named(self) -> dict[TopicRole, str]:
        """Return role -> topic name."""
        return {
            TopicRole.COMMANDS: self.commands,
            TopicRole.EVENTS: self.events,
            TopicRole.OUTCOMES: self.outcomes,
            TopicRole.DEAD_LETTERS: self.dead_letters,
        }


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane as stored in `tm.lane`: `id` is its column `lane`, `partition` its number within the stream."""

    id: int
    aggregate: str
    partition: int
    partitions: int
    topics: StreamTopics

    @property
    def name(self) -> str:
        """Return the name by which verbs and messages know it."""
        return lane_name(self.aggregate, self.partition)


def lane_name(aggregate: str, partition: int) -> str:
    """Return the name of a lane, such as `market-data/17`."""
    return f"{aggregate}/{partition}"


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last record that a lane consumed: the topic must still hold it at the next claim."""

    offset: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a lane: the newest row of its ledger.

    `next_offset` is the command offset to read next; `position` counts log rows, `sequence` counts events, both
    dense from 1; `chain` is the running hash over event ids; `timeline` is raised by a reconciliation.
    `at` is the time of the batch: the next one gets no earlier time, unless it is further ahead than `MAX_AHEAD`.
    """

    batch: int
    next_offset: int
    anchor: Anchor | None
    position: int
    sequence: int
    chain: int
    timeline: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to process a lane until another claim raises its epoch.

    `cautious`: earlier claims ended without any progress, so the lane's records are tried one by one.
    """

    lane: Lane
    epoch: int
    progress: Progress
    cautious: bool = False


class InboundRecord(Protocol):
    """A record of a command topic, by Kafka's own names (aiokafka's `ConsumerRecord` fits)."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


BATCH_BYTES: Final = 8 << 20
"""The most bytes of records that one transaction takes, as `weight` counts them."""

_RECORD_BYTES = 400
_HEADER_BYTES = 100


def weight(record: InboundRecord) -> int:
    """Return about how many bytes a record takes in memory: its content, and the objects that hold it."""
    carried = len(record.value or b"") + len(record.key or b"")
    if not record.headers:
        return _RECORD_BYTES + carried
    for name, value in record.headers:  # a hot path: a generator takes half as long again
        carried += len(name)
        if value:
            carried += len(value)
    return _RECORD_BYTES + carried + _HEADER_BYTES * len(record.headers)


def spans(numbers: Iterable[int]) -> str:
    """Return numbers as short text for a log line, however many they are: `1-3, 7, 12-64`, and how many more."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in found[:_MAX_SPANS]]
    more = sum(last - first + 1 for first, last in found[_MAX_SPANS:])
    return ", ".join(shown) + (f" and {more} more" if more else "")


def lane_spans(lanes: Iterable[Lane]) -> str:
    """Return lanes as short text for a log line, by their names: `market-data/0-3, 7; orders/2`."""
    partitions: dict[str, list[int]] = {}
    for lane in lanes:
        partitions.setdefault(lane.aggregate, []).append(lane.partition)
    return "; ".join(f"{aggregate}/{spans(held)}" for aggregate, held in sorted(partitions.items()))
