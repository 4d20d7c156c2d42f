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
This runs for every event and outcome: what many records share is made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from tidemill.domain.lane import Lane
from tidemill.outbox.ports import Headers, OutboundRecord, OutboxItem, ParkedRecord
from tidemill.outbox.tails import Sent

OUTCOME_TYPE: Final = "tidemill.outcome.CommandOutcome"

_SPECVERSION: Final = ("ce_specversion", b"1.0")
_CONTENT_TYPE: Final = ("content-type", b"application/avro")
_SUBJECTS_KEPT: Final = 4096

_record = tuple.__new__
"""Makes a record in half the time that the class takes, twice per command."""


class RecordBuilder:
    """Makes the records of one lane."""

    def __init__(self, lane: Lane, timeline: int, withdrawn: Sequence[tuple[int, int]] = ()) -> None:
        """`withdrawn`: (first, last) of every span of events that are not in force any more."""
        self._lane = lane
        self._timeline = ("tm_timeline", b"%d" % timeline)
        self._outcome_prefix = f"{lane.aggregate}/{lane.partition}/".encode()
        self._fixed: Headers = [
            _SPECVERSION,
            ("ce_source", f"/tidemill/{lane.aggregate}".encode()),
            _CONTENT_TYPE,
            self._timeline,
        ]
        if withdrawn:
            spans = ",".join(f"{first}-{last}" for first, last in withdrawn)
            self._fixed.append(("tm_withdrawn", spans.encode()))
        self._outcome_type = ("ce_type", OUTCOME_TYPE.encode())
        self._event_types: dict[str | None, tuple[str, bytes]] = {}
        self._subjects: dict[bytes | None, Headers] = {}
        self._at: datetime | None = None
        self._timed: Headers = []

    def events_and_outcomes(
        self, items: Iterable[OutboxItem], outcomes: Iterable[tuple[OutboxItem, bytes]], sent: Sent
    ) -> tuple[list[OutboundRecord], list[OutboundRecord]]:
        """Return what of `items` the topics do not hold yet, as `sent` says.

        `outcomes`: every item that carries an outcome to be sent, in order, with its framed message.
        """
        events, others, waiting = [], [], iter(outcomes)
        for item in items:
            common, command_id = self._common(item)
            sequence = ("tm_sequence", b"%d" % item.sequence)
            if item.payload is not None and item.sequence > sent.sequence:
                headers = [
                    *common,
                    ("ce_id", b"%b:%d" % (command_id, item.item + 1)),
                    self._event_types.get(item.event_type) or self._event_type(item.event_type),
                    ("tm_chain", b"%d" % item.chain),
                    sequence,
                ]
                events.append(_record(OutboundRecord, (item.key, item.payload, headers)))
            if item.item == 0 and item.position > sent.outcomes:
                head, value = next(waiting)
                if head is not item:  # it carries the number of the position's last event
                    sequence = ("tm_sequence", b"%d" % head.sequence)
                common += (
                    ("ce_id", self._outcome_prefix + b"%d" % item.position),
                    self._outcome_type,
                    sequence,
                )
                others.append(_record(OutboundRecord, (item.key, value, common)))
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

    def _common(self, item: OutboxItem) -> tuple[Headers, bytes]:
        """Return the headers that a command's events and outcome share, in a list of their own, and its id."""
        if item.at != self._at:  # one time per batch
            self._at = item.at
            self._timed = [*self._fixed, ("ce_time", f"{item.at:%Y-%m-%dT%H:%M:%S.%f}Z".encode())]
        headers = self._timed + (self._subjects.get(item.key) or self._subject(item.key))
        if item.correlation is not None:
            headers.append(("ce_correlationid", item.correlation.encode()))
        command_id = item.command_id.encode() if item.command_id is not None else None
        cause = item.client_id.encode() if item.client_id is not None else command_id
        if cause is not None:
            headers.append(("ce_causationid", cause))
        if item.trace is not None:
            headers.append(("traceparent", item.trace.encode()))
        headers.append(("tm_position", b"%d" % item.position))
        return headers, command_id or b""

    def _subject(self, key: bytes | None) -> Headers:
        """Return the subject's header, or none: a key may be any bytes, an attribute of CloudEvents may not."""
        if len(self._subjects) >= _SUBJECTS_KEPT:
            self._subjects.clear()
        text = (key or b"").decode("utf-8", errors="replace")
        named: Headers = [("ce_subject", key)] if key and text.isprintable() and text.encode() == key else []
        self._subjects[key] = named
        return named

    def _event_type(self, name: str | None) -> tuple[str, bytes]:
        assert name is not None, "an event has a type"
        header = ("ce_type", name.encode())
        self._event_types[name] = header
        return header


def _errors(record: ParkedRecord) -> Headers:
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
