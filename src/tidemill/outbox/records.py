"""Outbox rows as Kafka records: events, outcomes, dead letters, with their headers.

CloudEvents 1.0 in binary mode, so that a subscriber needs nothing of ours to read them:

    ce_specversion   1.0
    ce_id            event: <command uuid>:<n>, n from 1; outcome: <aggregate>/<partition>/<position>
    ce_type          the Avro full name of the message
    ce_source        /tidemill/<aggregate>
    ce_time          the server's time of the batch, RFC 3339 with microseconds and Z
    ce_subject       the record's key, where it is printable text
    content-type     application/avro (framed, see the schemas)
    ce_correlationid, ce_causationid, traceparent    where there are any; the cause is the command's id as it was sent
    tm_timeline      raised by a reconciliation of the lane's history
    tm_withdrawn     only behind one that withdrew events: their numbers, as in 101-120,151-170
    tm_position      number of the command's record in its lane
    tm_chain         events only: a running hash over event ids, as a signed number
    tm_sequence      always last; event: its number, 1, 2, 3 ... in every lane; else: that of the last event before

Dead letters keep their own key, value and headers, and get Kafka Connect's error headers beside `tm_...`.
This runs for every event and outcome: what many records share is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from tidemill.domain.lane import Lane
from tidemill.domain.varint import encode_varint
from tidemill.outbox.encoding import Header, encode_field, encode_header
from tidemill.outbox.ports import OutboundRecord, OutboxItem, ParkedRecord
from tidemill.outbox.tails import Sent

OUTCOME_TYPE: Final = "tidemill.outcome.CommandOutcome"


def _beginnings(name: str) -> tuple[bytes, ...]:
    """Return a header up to its value, by the length of the value."""
    return tuple(encode_field(name.encode()) + encode_varint(length) for length in range(256))


_SPECVERSION: Final = encode_header("ce_specversion", b"1.0")
_CONTENT_TYPE: Final = encode_header("content-type", b"application/avro")
_OUTCOME: Final = encode_header("ce_type", OUTCOME_TYPE.encode())
_ID: Final = _beginnings("ce_id")
_CAUSE: Final = _beginnings("ce_causationid")
_POSITION: Final = _beginnings("tm_position")
_CHAIN: Final = _beginnings("tm_chain")
_SEQUENCE: Final = _beginnings("tm_sequence")
_KEYS_KEPT: Final = 4096

_record = OutboundRecord.of


class _Key(NamedTuple):
    """A key as it stands in records: as field, and as the header `ce_subject` or nothing."""

    field: bytes
    subject: bytes


_Common = tuple[bytes, int, bytes, bytes]
"""What a command's records share: the key, so many headers, encoded, and the id that its events' are made from."""


class RecordBuilder:
    """Makes the records of one lane."""

    def __init__(self, lane: Lane, timeline: int, withdrawn: Sequence[tuple[int, int]] = ()) -> None:
        """`withdrawn`: (first, last) of every span of events that are not in force any more."""
        self._lane = lane
        self._timeline = ("tm_timeline", b"%d" % timeline)
        self._outcome_prefix = f"{lane.aggregate}/{lane.partition}/".encode()
        fixed = [
            _SPECVERSION,
            encode_header("ce_source", f"/tidemill/{lane.aggregate}".encode()),
            _CONTENT_TYPE,
            encode_header(*self._timeline),
        ]
        if withdrawn:
            spans = ",".join(f"{first}-{last}" for first, last in withdrawn)
            fixed.append(encode_header("tm_withdrawn", spans.encode()))
        self._fixed = b"".join(fixed)
        self._always = len(fixed) + 2  # and the time, and the position
        self._event_types: dict[str | None, bytes] = {}
        self._keys: dict[bytes | None, _Key] = {}
        self._at: datetime | None = None
        self._timed = b""

    def events_and_outcomes(
        self, items: Iterable[OutboxItem], outcomes: Iterable[tuple[OutboxItem, bytes]], sent: Sent
    ) -> tuple[list[OutboundRecord], list[OutboundRecord]]:
        """Return what of `items` the topics do not hold yet, as `sent` says.

        `outcomes`: every item that carries an outcome to be sent, in order, with its framed message.
        """
        events, others, waiting = [], [], iter(outcomes)
        for item in items:
            position, sequence = b"%d" % item.position, b"%d" % item.sequence
            common = self._common(item, position)
            if item.payload is not None and item.sequence > sent.sequence:
                events.append(self._event(item, item.payload, common, sequence))
            if item.item == 0 and item.position > sent.outcomes:
                head, value = next(waiting)
                if head is not item:  # it carries the number of the position's last event
                    sequence = b"%d" % head.sequence
                others.append(self._outcome(value, common, position, sequence))
        return events, others

    def dead_letters(
        self, items: Sequence[OutboxItem], parked: Sequence[ParkedRecord]
    ) -> list[OutboundRecord]:
        """Return the records behind `items` as they came, with what is wrong with them in Kafka Connect's headers."""
        return [self._dead_letter(item, record) for item, record in zip(items, parked, strict=True)]

    def _dead_letter(self, item: OutboxItem, record: ParkedRecord) -> OutboundRecord:
        place = [
            self._timeline,
            ("tm_position", b"%d" % item.position),
            ("tm_sequence", b"%d" % item.sequence),
        ]
        return OutboundRecord(record.key, record.value, [*record.headers, *_errors(record), *place])

    def _event(self, item: OutboxItem, payload: bytes, common: _Common, sequence: bytes) -> OutboundRecord:
        key, count, headers, command_id = common
        number, chain = b":%d" % (item.item + 1), b"%d" % item.chain
        encoded = (
            key,
            encode_varint(len(payload)),
            payload,
            encode_varint(count + 4),
            headers,
            _ID[len(command_id) + len(number)],
            command_id,
            number,
            self._event_types.get(item.event_type) or self._event_type(item.event_type),
            _CHAIN[len(chain)],
            chain,
            _SEQUENCE[len(sequence)],
            sequence,
        )
        return _record(b"".join(encoded))

    def _outcome(self, value: bytes, common: _Common, position: bytes, sequence: bytes) -> OutboundRecord:
        key, count, headers, _ = common
        encoded = (
            key,
            encode_varint(len(value)),
            value,
            encode_varint(count + 3),
            headers,
            _ID[len(self._outcome_prefix) + len(position)],
            self._outcome_prefix,
            position,
            _OUTCOME,
            _SEQUENCE[len(sequence)],
            sequence,
        )
        return _record(b"".join(encoded))

    def _common(self, item: OutboxItem, position: bytes) -> _Common:
        if item.at != self._at:  # one time per batch
            self._at = item.at
            told = f"{item.at:%Y-%m-%dT%H:%M:%S.%f}Z".encode()
            self._timed = self._fixed + encode_header("ce_time", told)
        key, subject = self._keys.get(item.key) or self._key(item.key)
        correlation, trace = (
            _optional("ce_correlationid", item.correlation),
            _optional("traceparent", item.trace),
        )
        command_id = b"" if item.command_id is None else item.command_id.encode()
        if item.client_id is not None:
            cause = encode_header("ce_causationid", item.client_id.encode())
        else:
            cause = _CAUSE[len(command_id)] + command_id if command_id else b""
        count = self._always + (subject != b"") + (correlation != b"") + (cause != b"") + (trace != b"")
        parts = (self._timed, subject, correlation, cause, trace, _POSITION[len(position)], position)
        return key, count, b"".join(parts), command_id

    def _key(self, key: bytes | None) -> _Key:
        """Return a key, encoded: it may be any bytes, an attribute of CloudEvents may not."""
        if len(self._keys) >= _KEYS_KEPT:
            self._keys.clear()
        text = (key or b"").decode("utf-8", errors="replace")
        named = key and text.isprintable() and text.encode() == key
        self._keys[key] = known = _Key(encode_field(key), encode_header("ce_subject", key) if named else b"")
        return known

    def _event_type(self, name: str | None) -> bytes:
        assert name is not None, "an event has a type"
        self._event_types[name] = encoded = encode_header("ce_type", name.encode())
        return encoded


def _optional(name: str, text: str | None) -> bytes:
    """Return a header, or nothing."""
    return b"" if text is None else encode_header(name, text.encode())


def _errors(record: ParkedRecord) -> list[Header]:
    """Return the headers that dead letter tools know; readers take the last ones if a redriven record has some."""
    stage = "TASK_PUT" if record.code == "CRASHED" else "VALUE_CONVERTER"
    named = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.record_offset),
        "connector.name": "tidemill",
        "task.id": str(record.partition),
        "stage": stage,
        "exception.class.name": record.code,
        "exception.message": record.detail,
    }
    return [(f"__connect.errors.{name}", text.encode()) for name, text in named.items()]
