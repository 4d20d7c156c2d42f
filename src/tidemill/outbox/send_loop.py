"""What one publisher sends: chunk after chunk of a lane's outbox, the next one read while one is in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tidemill.domain.errors import LaneHalted, TransientError
from tidemill.domain.lane import Lane, TopicRole
from tidemill.domain.messages import Outcome
from tidemill.domain.rejections import HaltCode
from tidemill.outbox.dead_letter_size import size_of, truncated_to
from tidemill.outbox.incident_log import IncidentLog
from tidemill.outbox.pack import Pack
from tidemill.outbox.packed_range import PackedChunk, packed_chunk_of, sendable
from tidemill.outbox.ports import (
    EncodedRecord,
    LanePlace,
    LanePublisher,
    OutboxItem,
    OutboxReader,
    OutcomeCodec,
    PackFormat,
    Published,
    Publishers,
    RecordFormat,
    RecordRefused,
    Slab,
)
from tidemill.outbox.position_range import Chunk, chunk_of
from tidemill.outbox.tail_check import ResumePoint
from tidemill.runtime.retry import Backoff
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.metrics import PUBLISH_SECONDS, PUBLISHED

T = TypeVar("T")
Batch = tuple[TopicRole, str, Sequence[EncodedRecord | Slab]]
Stored = list[OutboxItem] | list[Pack]

SLICE: Final = 500
"""Rows that are encoded at a time, in 3 ms."""

_PARKED: Final = Outcome.PARKED.letter


@dataclass(frozen=True, slots=True)
class RelayParts:
    """The shared objects of the relays of a process. `backoff`: pauses between attempts at an unavailable server.

    `restarts`: lanes whose publisher keeps failing; `waits`: those that wait for the database.
    """

    reader: OutboxReader
    publishers: Publishers
    outcomes: OutcomeCodec
    records: RecordFormat
    packs: PackFormat
    backoff: Backoff
    restarts: IncidentLog = field(default_factory=lambda: IncidentLog(Log.RELAY_RESTARTED))
    waits: IncidentLog = field(default_factory=lambda: IncidentLog(Log.RELAY_WAITS))

    async def with_retries(self, lane: Lane, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the database's answer, waiting for it as long as needed."""
        failures = 0
        while True:
            try:
                answer = await ask()
            except TransientError as error:
                failures += 1
                self.waits.failed(lane, error)
                await asyncio.sleep(self.backoff.pause_s(failures))
            else:
                self.waits.over(lane)
                return answer

    def forget(self, lane: Lane) -> None:
        """Forget a lane's incidents."""
        self.restarts.forget(lane)
        self.waits.forget(lane)

    def tell(self) -> None:
        """Log the incidents that began and ended since the last call."""
        self.restarts.tell()
        self.waits.tell()


class SendPace:
    """How much one publication of a lane may hold: `most()` positions and `max_bytes()` of payload just now.

    After a refusal it halves the remaining positions until the refused record is alone.
    If that is a dead letter, `max_letter_bytes` is lowered to what its topic takes.
    """

    def __init__(self, most: Callable[[], int], max_bytes: Callable[[], int], max_letter_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.max_letter_bytes = max_letter_bytes
        self._most = most
        self._doubtful_until = 0

    def positions(self, behind: int) -> int:
        """Return how many positions after `behind` to publish at once."""
        if self._doubtful_until > behind:
            return max(1, (self._doubtful_until - behind) // 2)
        return self._most()

    def doubts(self, behind: int) -> bool:
        """Tell whether one of the records after position `behind` may have been refused: it is found by halving."""
        return self._doubtful_until > behind

    def refused(self, chunk: Chunk | PackedChunk) -> None:
        """Remember that some record of `chunk` was refused."""
        self._doubtful_until = chunk.after.position

    def can_shrink(self, letter_bytes: int) -> bool:
        """Tell whether a refused letter can be shortened further: only the shortest form may exceed the limit."""
        if letter_bytes > self.max_letter_bytes:
            return False
        self.max_letter_bytes = letter_bytes - 1
        return True


class Sending:
    """The work of one publisher, from `place` on.

    `news` is set when the outbox may hold more. `progressed` is called at every acknowledgement, and at an empty
    outbox.
    """

    def __init__(
        self,
        lane: Lane,
        place: ResumePoint,
        publisher: LanePublisher,
        *,
        parts: RelayParts,
        pace: SendPace,
        news: asyncio.Event,
        progressed: Callable[[Published], None],
    ) -> None:
        self.publishing = False
        self.waiting = False
        self._lane = lane
        self._place = place
        self._publisher = publisher
        self._parts = parts
        self._pace = pace
        self._news = news
        self._progressed = progressed
        self._records = parts.records.lane_records(lane, place.end.timeline, place.end.withdrawn)
        self._at = place.published
        self._chained: int | None = None
        self._ahead: asyncio.Task[Stored] | None = None
        self._finishing = False

    def finish(self) -> None:
        """Let `run` end after the publication in flight, or with the next news if it waits for some."""
        self._finishing = True

    async def run(self) -> None:
        """Send until a failure, or until `finish` is called.

        Raises:
            LaneHalted: a gap in the outbox, or a record that the broker refuses permanently.
            Refused: look for that record in smaller publications.
            PublisherFenced, TransientError: the publisher cannot be used again.
        """
        try:
            while not self._finishing:
                stored = await self._next()
                if not stored:
                    return
                chunk = self._chunk(stored)
                if self._more_behind(chunk):
                    self._ahead = asyncio.create_task(self._read(chunk.after.position))
                await self._publish(chunk)
                self._at, self._chained = chunk.after, chunk.chained
                self._progressed(self._at)
        finally:
            if self._ahead is not None:
                self._ahead.cancel()
                await asyncio.gather(self._ahead, return_exceptions=True)

    def _chunk(self, stored: Stored) -> Chunk | PackedChunk:
        """Return what is to be sent next: packs as they are where that is possible, or else their rows."""
        at, lane = self._at, self._lane
        if not isinstance(stored[0], Pack):
            return chunk_of(lane.id, stored, at, self._chained)
        packs, limit = stored, self._pace.positions(at.position)
        if not self._pace.doubts(at.position):
            ready = sendable(packs, at, self._place.sent, self._place.end.timeline, limit)
            if ready:
                return packed_chunk_of(lane.id, ready, at, self._chained)
        items = [item for item in self._parts.packs.unpack(lane, packs[0]) if item.position > at.position]
        within = [item for item in items if item.position < items[0].position + limit]
        return chunk_of(lane.id, within, at, self._chained)

    async def _next(self) -> Stored:
        """Return what is stored next, waiting for news if there is none; nothing if it is to end."""
        stored: Stored = await self._ahead if self._ahead is not None else []
        self._ahead = None
        while not stored and not self._finishing:
            self._news.clear()  # before the read, so that later commits are not missed
            stored = await self._read(self._at.position)
            if not stored:
                self._check_drained()
                self._progressed(self._at)
                self.waiting = True
                await self._news.wait()
                self.waiting = False
        return stored

    async def _read(self, behind: int) -> Stored:
        lane_id, limit, reader = self._lane.id, self._pace.positions(behind), self._parts.reader
        return await self._parts.with_retries(
            self._lane, lambda: reader.read(lane_id, behind, limit, self._pace.max_bytes())
        )

    def _more_behind(self, chunk: Chunk | PackedChunk) -> bool:
        """Tell whether reading ahead pays: small chunks come from an outbox that is nearly empty."""
        backlog = chunk.after.position < self._place.end.position
        return backlog or chunk.positions >= self._pace.positions(chunk.before.position)

    def _check_drained(self) -> None:
        """Nothing follows: then all that the ledger counted before this publisher started must have been sent."""
        end = self._place.end
        short = self._at.position < end.position
        if short or (self._at.position == end.position and self._at.sequence != end.sequence):
            raise LaneHalted(
                self._lane.id,
                HaltCode.OUTBOX_GAP,
                f"the ledger counts {end.position} positions and {end.sequence} events, "
                f"the outbox ends with {self._at.position} and {self._at.sequence}",
            )

    async def _publish(self, chunk: Chunk | PackedChunk) -> None:
        batches = [(role, topic, records) for role, topic, records in await self._batches(chunk) if records]
        if not batches:
            return  # all of it was acknowledged by an earlier publisher
        began = time.perf_counter()
        self.publishing = True
        try:
            await self._publisher.publish({topic: records for _, topic, records in batches})
        except RecordRefused as refused:
            self._pace.refused(chunk)
            if isinstance(chunk, Chunk) and chunk.positions == 1:
                self._demand_shorter(chunk, batches, refused)
            raise
        finally:
            self.publishing = False
        PUBLISH_SECONDS.labels(self._lane.aggregate).observe(time.perf_counter() - began)
        for role, _, records in batches:
            PUBLISHED.labels(self._lane.aggregate, role).inc(_count(records))

    def _demand_shorter(self, chunk: Chunk, batches: Sequence[Batch], refused: RecordRefused) -> None:
        """Return if the refused record is a dead letter that can be shortened. Raises `LaneHalted`."""
        singles = [(topic, list(_singles(records))) for _, topic, records in batches]
        letters = [records for topic, records in singles if topic == self._lane.topics.dead_letters]
        if not (letters and self._pace.can_shrink(size_of(letters[0][0]))):
            raise self._hopeless(chunk, singles, refused) from refused

    async def _batches(self, chunk: Chunk | PackedChunk) -> list[Batch]:
        """Return the part of `chunk` that the topics do not hold yet."""
        topics, events, outcomes = self._lane.topics, list[Any](), list[Any]()
        if isinstance(chunk, PackedChunk):
            events, outcomes, parked = chunk.events(), chunk.outcomes(), chunk.parked()
        else:
            events, outcomes = await self._events_and_outcomes(chunk)
            heads = chunk.heads(self._place.sent.dead_letters)
            parked = [LanePlace(head.position, head.sequence) for head in heads if head.outcome == _PARKED]
        return [
            (TopicRole.EVENTS, topics.events, events),
            (TopicRole.OUTCOMES, topics.outcomes, outcomes),
            (TopicRole.DEAD_LETTERS, topics.dead_letters, await self._dead_letters(parked)),
        ]

    async def _events_and_outcomes(self, chunk: Chunk) -> tuple[list[EncodedRecord], list[EncodedRecord]]:
        sent, events, outcomes = self._place.sent, list[EncodedRecord](), list[EncodedRecord]()
        heads, encode = chunk.heads(sent.outcomes), self._parts.outcomes.encode
        values = [value async for part in _slices(heads) for value in encode(self._lane, part)]
        messages = zip(heads, values, strict=True)  # every slice takes its own of these
        async for items in _slices(chunk.items):
            more = self._records.events_and_outcomes(items, messages, sent)
            events += more[0]
            outcomes += more[1]
        return events, outcomes

    async def _dead_letters(self, places: Sequence[LanePlace]) -> list[EncodedRecord]:
        if not places:
            return []
        positions = [place.position for place in places]
        lane_id, reader = self._lane.id, self._parts.reader
        most = self._pace.max_letter_bytes
        kept = await self._parts.with_retries(self._lane, lambda: reader.parked(lane_id, positions, most))
        missing = [position for position in positions if position not in kept]
        if missing:
            raise LaneHalted(
                lane_id, HaltCode.OUTBOX_GAP, f"the record parked at position {missing[0]} was deleted"
            )
        parked = [kept[position] for position in positions]
        letters = zip(self._records.dead_letters(places, parked), parked, strict=True)
        return [
            truncated_to(letter, record, self._lane.name, most, self._records.record)
            for letter, record in letters
        ]

    def _hopeless(
        self, chunk: Chunk, batches: Sequence[tuple[str, list[EncodedRecord]]], refused: RecordRefused
    ) -> LaneHalted:
        size, topic = max((size_of(record), topic) for topic, records in batches for record in records)
        return LaneHalted(
            self._lane.id,
            HaltCode.EVENT_REFUSED,
            f"position {chunk.after.position}, largest record about {size} bytes, for {topic}: {refused}; "
            "raise that topic's max.message.bytes, then resume the lane",
        )


def _count(records: Sequence[EncodedRecord | Slab]) -> int:
    return sum(record.number if isinstance(record, Slab) else 1 for record in records)


def _singles(records: Sequence[EncodedRecord | Slab]) -> Iterator[EncodedRecord]:
    return (record for record in records if not isinstance(record, Slab))


async def _slices(rows: Sequence[T]) -> AsyncIterator[Sequence[T]]:
    """Yield slice after slice; other tasks of this process run in between."""
    for start in range(0, len(rows), SLICE):
        yield rows[start : start + SLICE]
        await asyncio.sleep(0)
