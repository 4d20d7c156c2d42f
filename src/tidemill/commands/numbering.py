"""The rows of a batch: records and events are numbered densely, and become the rows that the transaction writes.

Pure. Position counts the records of a lane, sequence counts its events; both are numbered here, in offset order, from
what the ledger says under the lane's lock.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tidemill.commands.decide_fold import AppliedRows, EncodedEvent, HandlerResult
from tidemill.commands.rows import LedgerRow, LoggedCommand, LogRow, OutboxRow, ParkedRow
from tidemill.commands.validation import MAX_KEY_BYTES, IncomingCommand
from tidemill.domain.decision import Rejected
from tidemill.domain.errors import Unreadable
from tidemill.domain.identity import chain, event_id
from tidemill.domain.lane import Anchor, Claim, InboundRecord, Progress
from tidemill.domain.messages import CommandBase, Outcome
from tidemill.domain.rejections import RejectionCode

_MAX_DETAIL_CHARACTERS = 1000
_SINGLE: Final = struct.Struct("f")
_MAX_TRACE_CHARACTERS = 128

# The letters, looked up once: a look-up through the enum takes longer than making the row.
_made: Final = tuple.__new__  # a named tuple without the call of its own `__new__`, which counts the values
_APPLIED, _REJECTED, _DUPLICATE, _PARKED = (outcome.letter for outcome in Outcome)


@dataclass(frozen=True, slots=True)
class Repeat:
    """A record whose id is known: `first` is the outcome of the first one; `reused` if its payload differed."""

    first: LoggedCommand
    reused: bool


Disposition = HandlerResult | Repeat
"""The outcome of a record: events, a rejection, unreadable, or a repeat of an earlier command."""


@dataclass
class BatchRows:
    """The rows of one batch, over all of its lanes."""

    log: list[LogRow] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    parked: list[ParkedRow] = field(default_factory=list)
    ledger: list[LedgerRow] = field(default_factory=list)
    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))


class LaneNumbering:
    """Numbers the records of one lane within one batch."""

    def __init__(
        self, batch_rows: BatchRows, claim: Claim, progress: Progress, gen: int, at: datetime, seconds: float
    ) -> None:
        """`seconds`: how long the batch has taken so far, which its outcomes report as execution time."""
        self._rows = batch_rows
        self._claim = claim
        self._before = progress
        self._gen = gen
        self._at = at
        self._seconds = _SINGLE.unpack(_SINGLE.pack(seconds))[0]  # as the outbox keeps it, and the reply, too
        self._lane = claim.lane.id
        self._position = progress.position
        self._sequence = progress.sequence
        self._chain = progress.chain
        self._counts = dict.fromkeys((_APPLIED, _REJECTED, _DUPLICATE, _PARKED), 0)
        self._more_rows: int | None = None  # beyond one for each applied command; None: they were not counted

    def enter(self, arrival: IncomingCommand, disposition: Disposition) -> OutboxRow:
        """Give the record its position and its rows; return the row that carries its outcome."""
        self._position += 1
        if isinstance(disposition, list):
            return self._applied(arrival, disposition)
        if isinstance(disposition, Rejected):
            return self._refused(arrival, disposition.code, disposition.message)
        if isinstance(disposition, Unreadable):
            return self._unreadable(arrival, disposition)
        if isinstance(disposition, AppliedRows):
            self._more_rows = (self._more_rows or 0) + disposition.rows - 1
            return self._applied(arrival, disposition.events, disposition.rows)
        if disposition.reused:
            first = disposition.first
            place = f"see position {first.position} of lane {first.lane}"
            text = f"{first.command_id} was first used for another command, {place}"
            return self._refused(arrival, RejectionCode.ID_REUSE, text, repeats=first.command_id)
        return self._repeated(arrival, disposition.first)

    def close(self, last: InboundRecord | None, *, reason: str | None = None) -> None:
        """Write the lane's ledger row: the batch ends after `last`; None: it consumed nothing, for a `reason`."""
        before, counts = self._before, self._counts
        anchor = before.anchor if last is None else Anchor(last.offset, checksum(last))
        for outcome, count in counts.items():
            self._rows.counts[Outcome.of_letter(outcome)] += count
        self._rows.ledger.append(
            LedgerRow(
                lane=self._lane,
                gen=self._gen,
                batch=before.batch + 1,
                epoch=self._claim.epoch,
                timeline=before.timeline,
                from_offset=before.next_offset,
                to_offset=before.next_offset if last is None else last.offset + 1,
                anchor_offset=anchor.offset if anchor is not None else None,
                anchor_checksum=anchor.checksum if anchor is not None else None,
                position=self._position,
                sequence=self._sequence,
                chain=self._chain,
                applied=counts[_APPLIED],
                rejected=counts[_REJECTED],
                duplicate=counts[_DUPLICATE],
                parked=counts[_PARKED],
                events=self._sequence - before.sequence,
                at=self._at,
                reason=reason,
                rows=None if self._more_rows is None else counts[_APPLIED] + self._more_rows,
            )
        )

    def _applied(
        self, arrival: IncomingCommand, events: Sequence[EncodedEvent], rows: int | None = None
    ) -> OutboxRow:
        command_id = arrival.command_id
        assert command_id is not None
        if len(events) == 1 and arrival.command is not None:
            return self._applied_once(arrival, arrival.command, command_id, events[0], rows)
        self._log(arrival, _APPLIED, command_id, events=len(events), rows=rows)
        if not events:
            return self._send(arrival, _APPLIED, command_id, rows=rows)
        first = self._send(arrival, _APPLIED, command_id, event=events[0], rows=rows)
        for item, event in enumerate(events[1:], start=1):
            self._send(arrival, None, command_id, event=event, item=item)
        return first

    def _applied_once(
        self,
        arrival: IncomingCommand,
        command: CommandBase,
        command_id: str,
        event: EncodedEvent,
        rows: int | None,
    ) -> OutboxRow:
        """Do what `_log` and `_send` do, for what happens to nearly every record: it is applied with one event."""
        self._counts[_APPLIED] += 1
        self._sequence += 1
        self._chain = chain(self._chain, event_id(command_id, 1))
        record, key, service = arrival.record, arrival.record.key, command.service_name
        lane, gen, position, sequence, at = self._lane, self._gen, self._position, self._sequence, self._at
        kind = None if arrival.decoded is None else arrival.decoded.name
        logged = (lane, gen, position, command_id, arrival.digest, _APPLIED, 1, sequence, at, kind, service)
        self._rows.log.append(_made(LogRow, (*logged, None, None, None, rows)))
        key = key if key is None or len(key) <= MAX_KEY_BYTES else None
        trace = trace_of(record) if record.headers else None
        head = (lane, gen, position, 0, _APPLIED, None, None, None, command_id, service)
        sent = (command.correlation_id, sequence, at, self._seconds, record.offset, key)
        tail = (event.type, event.payload, self._chain, trace, client_id(arrival, command_id), rows)
        row = _made(OutboxRow, head + sent + tail)
        self._rows.outbox.append(row)
        return row

    def _refused(
        self, arrival: IncomingCommand, code: str, message: str, *, repeats: str | None = None
    ) -> OutboxRow:
        detail = clean(message)
        own_id = None if repeats is not None else arrival.command_id
        self._log(arrival, _REJECTED, own_id, code=code, detail=detail, repeats=repeats)
        return self._send(arrival, _REJECTED, arrival.command_id, code=code, detail=detail)

    def _unreadable(self, arrival: IncomingCommand, disposition: Unreadable) -> OutboxRow:
        record, detail = arrival.record, clean(disposition.detail)
        assert arrival.headers_text is not None, "made before the lanes were locked"
        self._rows.parked.append(
            ParkedRow(
                lane=self._lane,
                position=self._position,
                topic=self._claim.lane.topics.commands,
                partition=record.partition,
                record_offset=record.offset,
                key=record.key,
                value=record.value,
                headers=arrival.headers_text,
                code=disposition.code,
                detail=detail,
                at=self._at,
            )
        )
        self._log(arrival, _PARKED, None, code=disposition.code, detail=detail)
        return self._send(arrival, _PARKED, None, code=disposition.code, detail=detail)

    def _repeated(self, arrival: IncomingCommand, first: LoggedCommand) -> OutboxRow:
        self._log(arrival, _DUPLICATE, None, code=first.code, detail=first.detail, repeats=first.command_id)
        return self._send(
            arrival,
            _DUPLICATE,
            first.command_id,
            original=first.outcome,
            code=first.code,
            detail=first.detail,
            rows=first.rows or None,
        )

    def _log(  # noqa: PLR0913  a row has as many columns
        self,
        arrival: IncomingCommand,
        outcome: bytes,
        command_id: str | None,
        *,
        events: int = 0,
        code: str | None = None,
        detail: str | None = None,
        repeats: str | None = None,
        rows: int | None = None,
    ) -> None:
        self._counts[outcome] += 1
        decoded = arrival.decoded
        self._rows.log.append(
            LogRow(
                self._lane,
                self._gen,
                self._position,
                command_id,
                arrival.digest,
                outcome,
                events,
                self._sequence + events,
                self._at,
                decoded.name if decoded is not None else None,
                service_of(arrival),
                code,
                detail,
                repeats,
                rows,
            )
        )

    def _send(  # noqa: PLR0913  a row has as many columns
        self,
        arrival: IncomingCommand,
        outcome: bytes | None,
        command_id: str | None,
        *,
        event: EncodedEvent | None = None,
        item: int = 0,
        original: bytes | None = None,
        code: str | None = None,
        detail: str | None = None,
        rows: int | None = None,
    ) -> OutboxRow:
        if event is not None:
            assert command_id is not None
            self._sequence += 1
            self._chain = chain(self._chain, event_id(command_id, item + 1))
        command, record = arrival.command, arrival.record
        row = OutboxRow(
            self._lane,
            self._gen,
            self._position,
            item,
            outcome,
            original,
            code,
            detail,
            command_id,
            service_of(arrival),
            command.correlation_id if command is not None else None,
            self._sequence,
            self._at,
            self._seconds,
            record.offset,
            record.key if record.key is None or len(record.key) <= MAX_KEY_BYTES else None,
            event.type if event is not None else None,
            event.payload if event is not None else None,
            self._chain,
            trace_of(record) if record.headers else None,
            client_id(arrival, command_id),
            rows,
        )
        self._rows.outbox.append(row)
        return row


def checksum(record: InboundRecord) -> int:
    """Return what identifies a record at its offset: CRC-32 over key and value, each with its length."""
    key, value = record.key or b"", record.value or b""
    return zlib.crc32(value, zlib.crc32(b"%d:%d:%b" % (len(key), len(value), key)))


def clean(text: str) -> str:
    """Make a text fit for a column, a header and a terminal: PostgreSQL refuses NUL, UTF-8 refuses lone surrogates."""
    short = text[:_MAX_DETAIL_CHARACTERS].replace("\x00", "\\0")
    return short.encode(errors="backslashreplace").decode()[:_MAX_DETAIL_CHARACTERS]


def header(record: InboundRecord, name: str) -> str | None:
    """Return a header's text, None where it is absent or not UTF-8; of several, the last."""
    found = None
    for key, value in record.headers:
        if key == name and value is not None:
            found = value
    if found is None or b"\x00" in found:
        return None
    try:
        return found.decode()
    except UnicodeDecodeError:
        return None


def trace_of(record: InboundRecord) -> str | None:
    """Return the W3C trace context (55 characters), None where the header has other content."""
    trace = header(record, "traceparent")
    return trace if trace is not None and len(trace) <= _MAX_TRACE_CHARACTERS else None


def service_of(arrival: IncomingCommand) -> str | None:
    """Return the service that sent the command, None where it could not be read or stored."""
    if arrival.command is not None:
        return arrival.command.service_name
    if arrival.decoded is None:
        return None
    name = arrival.decoded.fields.get("service_name")
    return clean(name) if isinstance(name, str) else None


def client_id(arrival: IncomingCommand, command_id: str | None) -> str | None:
    """Return the id as the client wrote it, None where that is the text of `command_id` or could not be read."""
    if arrival.decoded is None:
        return None
    written = arrival.decoded.fields.get("command_id")
    if written == command_id or not isinstance(written, str):
        return None
    return clean(written)
