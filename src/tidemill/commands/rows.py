"""The rows that a batch writes, and what the log remembers of a command: in the order of their columns."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class LoggedCommand(NamedTuple):
    """What the log remembers of a command: enough to answer a duplicate with the first outcome.

    `lane`: its name. `rows`: how many rows it affected.

    Ids are canonical UUID texts here and below: the driver takes text, and a `UUID` object costs more than it helps.
    """

    command_id: str
    digest: int
    outcome: bytes
    code: str | None
    detail: str | None
    lane: str
    position: int
    sequence: int
    rows: int


class LogRow(NamedTuple):
    """One row per record that arrived; column order of `tm.log`.

    `rows`: how many rows an applied command appended; None: one if it appends at all.
    """

    lane: int
    gen: int
    position: int
    command_id: str | None
    digest: int
    outcome: bytes
    events: int
    sequence: int
    at: datetime
    type: str | None
    service: str | None
    code: str | None
    detail: str | None
    repeats: str | None
    rows: int | None = None


class OutboxRow(NamedTuple):
    """What the relay sends; column order of `tm.outbox`. `item` 0 carries the outcome and the first event, if any.

    `item` 1.. are further events (their outcome is null). `sequence`: last event up to and with this row. `payload`:
    the framed event, or null. `record_offset`: of the record in the command topic, `lane.NO_OFFSET` if none brought it
    (null from the next version on: processes of 0.1.0 cannot read that). `client_id`: the id as the client wrote it,
    where that is not the text of `command_id`. `rows`: how many rows the command affected; None: one if there is an
    event.
    """

    lane: int
    gen: int
    position: int
    item: int
    outcome: bytes | None
    original: bytes | None
    code: str | None
    detail: str | None
    command_id: str | None
    service: str | None
    correlation: str | None
    sequence: int
    at: datetime
    seconds: float
    record_offset: int
    key: bytes | None
    event_type: str | None
    payload: bytes | None
    chain: int
    trace: str | None
    client_id: str | None
    rows: int | None = None


class ParkedRow(NamedTuple):
    """An unchanged record; column order of `tm.parked`. `headers`: by `CommandStore.headers_text`."""

    lane: int
    position: int
    topic: str
    partition: int
    record_offset: int
    key: bytes | None
    value: bytes | None
    headers: str
    code: str
    detail: str
    at: datetime


class LedgerRow(NamedTuple):
    """What one batch did to one lane; column order of `tm.batch`.

    `rows`: how many rows its applied commands appended; None: one each.
    """

    lane: int
    gen: int
    batch: int
    epoch: int
    timeline: int
    from_offset: int
    to_offset: int
    anchor_offset: int | None
    anchor_checksum: int | None
    position: int
    sequence: int
    chain: int
    applied: int
    rejected: int
    duplicate: int
    parked: int
    events: int
    at: datetime
    reason: str | None
    rows: int | None = None
