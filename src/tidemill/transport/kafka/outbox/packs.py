"""Packs: outbox rows encoded as Kafka records when they are written, so that the relay sends them as they are.

`unpack` is the inverse, for what cannot be sent so: after a reconciliation, from the middle of a pack, or when a topic
refuses a record. The records then made of the rows are byte for byte those that were packed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from tidemill.admin.rows import SentEntry
from tidemill.domain.identity import event_id, identify
from tidemill.domain.lane import NO_OFFSET, Lane
from tidemill.domain.messages import Outcome
from tidemill.outbox.pack import Pack, PackStart
from tidemill.outbox.ports import OutboxItem, OutcomeCodec, SentPositions
from tidemill.transport.kafka.outbox.compression import ZSTD
from tidemill.transport.kafka.outbox.plain_records import plain_bodies, plain_run
from tidemill.transport.kafka.outbox.record_batch import MAX_AROUND, OVERHEAD, bodies, numbered
from tidemill.transport.kafka.outbox.records import RecordBuilder
from tidemill.transport.wire.record_format import decode_record

MAX_PACK_BYTES: Final = 500 << 10
"""Bytes of each of the two blobs before compression: a subscriber unpacks a batch as a whole."""

_WORTH: Final = 4
"""So many plain commands at least: what they share is encoded first, which takes as long as some of them."""

_ALL: Final = SentPositions(-1, -1, -1)
_PARKED: Final = Outcome.PARKED.letter
_APPLIED: Final = Outcome.APPLIED.letter


class KafkaPacks:
    """See `PackFormat`."""

    def __init__(self, outcomes: OutcomeCodec, *, batch_bytes: int = MAX_PACK_BYTES + OVERHEAD) -> None:
        """`batch_bytes`: maximum size of one Kafka batch."""
        self._outcomes = outcomes
        self._max_bytes = min(MAX_PACK_BYTES, batch_bytes - OVERHEAD)
        self._builders: dict[int, tuple[PackStart, RecordBuilder]] = {}

    def pack(self, lane: Lane, start: PackStart, items: Sequence[OutboxItem]) -> list[Pack]:
        heads = _heads(items)
        encoded = _Encoded(items, heads, *self._bodies(lane, start, items))
        packs: list[Pack] = []
        for cut in _cuts(encoded, self._max_bytes):
            packs.append(_pack(encoded, cut, start))
            start = start._replace(sequence=packs[-1].sequence, chain=packs[-1].chain)
        return packs

    def _bodies(
        self, lane: Lane, start: PackStart, items: Sequence[OutboxItem]
    ) -> tuple[list[bytes], list[bytes]]:
        """Return the records, events and outcomes: of runs of plain commands quickly, of the rest one by one."""
        builder, at = self._builder(lane, start), 0
        events, outcomes = list[bytes](), list[bytes]()
        while at < len(items):
            end = plain_run(items, at)
            pieces = self._outcomes.plain(lane, items[at]) if end - at >= _WORTH else None
            if pieces is not None:
                more = plain_bodies(builder, pieces, items[at:end])
            else:
                end = _odd_run(items, max(end, at + 1))
                more = self._one_by_one(lane, builder, items[at:end])
            events += more[0]
            outcomes += more[1]
            at = end
        return events, outcomes

    def _one_by_one(
        self, lane: Lane, builder: RecordBuilder, items: Sequence[OutboxItem]
    ) -> tuple[list[bytes], list[bytes]]:
        heads = _heads(items)
        values = self._outcomes.encode(lane, heads)
        events, outcomes = builder.events_and_outcomes(items, zip(heads, values, strict=True), _ALL)
        return [record.encoded for record in events], [record.encoded for record in outcomes]

    def unpack(self, lane: Lane, pack: Pack) -> list[OutboxItem]:  # noqa: ARG002  a format may need the lane
        by, more = pack.moved_positions, pack.moved_sequences
        return [
            item._replace(position=item.position + by, sequence=item.sequence + more)
            for item in self._encoded_items(pack)
            if pack.first_position <= item.position + by <= pack.position
        ]

    def _builder(self, lane: Lane, start: PackStart) -> RecordBuilder:
        """Return the builder of a lane, which knows its keys and types, as long as its history is not changed."""
        known, builder = self._builders.get(lane.id, (None, None))
        if builder is None or known is None or known[2:] != start[2:]:
            builder = RecordBuilder(lane, start.timeline, start.withdrawn)
            self._builders[lane.id] = start, builder
        return builder

    def _encoded_items(self, pack: Pack) -> Iterator[OutboxItem]:
        """Yield the rows with the numbers that they had when they were encoded."""
        events: dict[int, list[OutboxItem]] = defaultdict(list)
        for body in bodies(ZSTD.decompress(pack.events)) if pack.events else ():
            event = _event(body, pack)
            events[event.position].append(event)
        chained = pack.chain_before
        for body in bodies(ZSTD.decompress(pack.outcomes)):
            head = self._head(body, pack)
            own = events.get(head.position, [])
            yield _joined(head, own[0] if own else None, chained)
            yield from (_following(head, event) for event in own[1:])
            chained = own[-1].chain if own else chained

    def _head(self, body: bytes, pack: Pack) -> OutboxItem:
        """Return the row of an outcome, as if it had no event."""
        key, value, headers = decode_record(body)
        fields, named = self._outcomes.decode(value or b""), dict(headers)
        written, service = fields["command_id"], fields["service_name"]
        command_id = None if written is None else identify(written, service or "")
        first, trace, cause = fields["original"], named.get("traceparent"), named.get("ce_causationid")
        client_id = written if cause is None else cause.decode()
        return OutboxItem(
            position=fields["position"],
            item=0,
            outcome=Outcome(fields["outcome"]).letter,
            original=None if first is None else Outcome(first).letter,
            code=fields["code"],
            detail=fields["error_message"],
            command_id=command_id,
            service=service,
            correlation=fields["correlation_id"],
            sequence=fields["sequence"],
            at=pack.at,
            seconds=fields["execution_time"],
            record_offset=fields["record_offset"],
            key=key,
            event_type=None,
            payload=None,
            chain=0,
            trace=None if trace is None else trace.decode(),
            client_id=None if client_id == command_id else client_id,
            rows=fields["affected_rows"],
        )


class _Encoded(NamedTuple):
    """Rows of consecutive positions, with their records."""

    items: Sequence[OutboxItem]
    heads: Sequence[OutboxItem]
    events: Sequence[bytes]
    outcomes: Sequence[bytes]


class _Cut(NamedTuple):
    """What goes into one pack: a span of each of the four sequences."""

    items: slice
    heads: slice
    events: slice


def _heads(items: Sequence[OutboxItem]) -> Sequence[OutboxItem]:
    """Return the rows that carry outcomes; `sequence`: the position's last event."""
    if not any(item.item for item in items):
        return items
    heads: list[OutboxItem] = []
    for item in items:
        if item.item == 0:
            heads.append(item)
        else:
            heads[-1] = heads[-1]._replace(sequence=item.sequence)
    return heads


def _odd_run(items: Sequence[OutboxItem], end: int) -> int:
    """Return where rows that are not plain end, at or behind `end`: not within a position."""
    while end < len(items) and (items[end].item or not _may_be_plain(items[end])):
        end += 1
    return end


def _may_be_plain(item: OutboxItem) -> bool:
    return item.outcome == _APPLIED and item.payload is not None and item.correlation is item.trace is None


def _ends(bodies_of: Sequence[bytes]) -> list[int]:
    return list(accumulate([len(body) + MAX_AROUND for body in bodies_of]))


def _cuts(encoded: _Encoded, max_bytes: int) -> Iterator[_Cut]:
    """Yield spans of whole positions whose records have at most `max_bytes`; one position at least."""
    items, heads, events, outcomes = encoded
    event_ends, outcome_ends = _ends(events), _ends(outcomes)
    event_places = [item.position for item in items if item.payload is not None]
    item_places = event_places if len(event_places) == len(items) else [item.position for item in items]
    first, base = 0, heads[0].position if heads else 0
    item_at = event_at = 0
    while first < len(heads):
        fit = bisect_right(outcome_ends, max_bytes + (outcome_ends[first - 1] if first else 0))
        event_fit = bisect_right(event_ends, max_bytes + (event_ends[event_at - 1] if event_at else 0))
        if event_fit < len(event_places):
            fit = min(fit, event_places[event_fit] - base)
        end = max(fit, first + 1)
        last = base + end - 1
        item_end, event_end = bisect_right(item_places, last), bisect_right(event_places, last)
        yield _Cut(slice(item_at, item_end), slice(first, end), slice(event_at, event_end))
        first, item_at, event_at = end, item_end, event_end


def _pack(encoded: _Encoded, cut: _Cut, start: PackStart) -> Pack:
    items, heads = encoded.items[cut.items], encoded.heads[cut.heads]
    events, last = encoded.events[cut.events], items[-1]
    offsets = [head.record_offset for head in heads]
    first_offset = offsets[0]
    dense = offsets == list(range(first_offset, first_offset + len(offsets)))
    parked = [head for head in heads if head.outcome == _PARKED]
    event_records, outcome_records = numbered(events), numbered(encoded.outcomes[cut.heads])
    return Pack(
        first_position=items[0].position,
        position=last.position,
        sequence_before=start.sequence,
        sequence=last.sequence,
        moved_positions=0,
        moved_sequences=0,
        timeline=start.timeline,
        chain_before=start.chain,
        chain=last.chain,
        event_id=_last_event(items),
        at=last.at,
        seconds=last.seconds,
        first_offset=first_offset,
        offsets=None if dense else offsets,
        rows=sum(_affected(head) for head in heads if head.outcome == _APPLIED),
        parked=[head.position for head in parked] or None,
        parked_sequences=[head.sequence for head in parked] or None,
        unpacked_bytes=len(event_records) + len(outcome_records),
        events=ZSTD.compress(event_records) if events else None,
        outcomes=ZSTD.compress(outcome_records),
    )


def _affected(head: OutboxItem) -> int:
    """Return how many rows an applied command is counted with; the audit counts one for each that is not counted."""
    return 1 if head.rows is None else head.rows


def _last_event(items: Sequence[OutboxItem]) -> str | None:
    for item in reversed(items):
        if item.payload is not None and item.command_id is not None:
            return event_id(item.command_id, item.item + 1)
    return None


def _event(body: bytes, pack: Pack) -> OutboxItem:
    """Return the row of an event, as if it had no outcome."""
    key, payload, headers = decode_record(body)
    named: Mapping[str, Any] = dict(headers)
    command_id, _, number = named["ce_id"].decode().rpartition(":")
    return OutboxItem(
        position=int(named["tm_position"]),
        item=int(number) - 1,
        outcome=None,
        original=None,
        code=None,
        detail=None,
        command_id=command_id,
        service=None,
        correlation=None,
        sequence=int(named["tm_sequence"]),
        at=pack.at,
        seconds=pack.seconds,
        record_offset=0,
        key=key,
        event_type=named["ce_type"].decode(),
        payload=payload,
        chain=int(named["tm_chain"]),
        trace=None,
    )


def _joined(head: OutboxItem, event: OutboxItem | None, chained: int) -> OutboxItem:
    """Return a position's first row: its outcome, and its first event."""
    if event is None:
        return head._replace(chain=chained, rows=head.rows or None)
    written = head.client_id or head.command_id
    default = 1 if head.outcome == _APPLIED else 0
    return head._replace(
        command_id=event.command_id,
        client_id=None if written == event.command_id else written,
        sequence=event.sequence,
        event_type=event.event_type,
        payload=event.payload,
        chain=event.chain,
        rows=None if head.rows == default else head.rows,
    )


def _following(head: OutboxItem, event: OutboxItem) -> OutboxItem:
    """Return a later row of a position: an event, with what it shares with the outcome."""
    written = head.client_id or head.command_id
    return event._replace(
        service=head.service,
        correlation=head.correlation,
        record_offset=head.record_offset,
        trace=head.trace,
        client_id=None if written == event.command_id else written,
    )


def entries_of(pack: Pack, position: int) -> list[SentEntry]:
    """Return what a pack holds of a position: see `admin.ports.PackEntries`."""
    encoded = position - pack.moved_positions
    entries: list[SentEntry] = []
    for body in bodies(ZSTD.decompress(pack.events)) if pack.events else ():
        event = _event(body, pack)
        if event.position == encoded:
            entries.append(_entry(body, pack, position, event))
    return entries or [
        _entry(body, pack, position)
        for body in bodies(ZSTD.decompress(pack.outcomes))
        if int(dict(decode_record(body)[2])["tm_position"] or b"") == encoded
    ]


def _entry(body: bytes, pack: Pack, position: int, event: OutboxItem | None = None) -> SentEntry:
    key, _, headers = decode_record(body)
    named = {name: (value or b"").decode() for name, value in headers if name != "ce_subject"}
    index = position - pack.first_position
    offset = pack.first_offset + index if pack.offsets is None else pack.offsets[index]
    return SentEntry(
        item=0 if event is None else event.item,
        outcome=None,
        original=None,
        sequence=int(named["tm_sequence"]) + pack.moved_sequences,
        at=pack.at,
        record_offset=None if offset == NO_OFFSET else offset,
        key=key,
        event_type=None if event is None else event.event_type,
        payload=None if event is None else event.payload,
        correlation=named.get("ce_correlationid"),
        client_id=named.get("ce_causationid"),
        trace=named.get("traceparent"),
    )
