"""Parts for tests of the way out: rows as the way in writes them, without the way in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tidemill.commands.rows import LedgerRow, LogRow, OutboxRow, ParkedRow
from tidemill.domain.identity import chain, event_id
from tidemill.domain.lane import Claim, Lane, Progress, StreamTopics
from tidemill.outbox.pack import PackStart
from tidemill.outbox.ports import OutboxItem, PackFormat
from tidemill.storage.commands.packed_outbox import PACK_COLUMNS, packed_rows
from tidemill.storage.database.header_json import headers_text

EVENT_TYPE = "tidemill.market_data.MarketDataRecorded"
BEGAN = datetime(2026, 11, 21, 7, 30, 0, 250, tzinfo=UTC)
AGGREGATE = "market-data"


def lane_of(
    number: int = 1, partition: int = 0, *, partitions: int = 4, topics: StreamTopics | None = None
) -> Lane:
    """Return a lane of the market data stream."""
    return Lane(number, AGGREGATE, partition, partitions, topics or StreamTopics.of(AGGREGATE))


def claim_of(lane: Lane, epoch: int = 1) -> Claim:
    """Return a claim on a lane whose progress does not matter: the relay asks the database."""
    return Claim(lane, epoch, Progress(0, 0, None, 0, 0, 0, 1, BEGAN))


@dataclass(frozen=True, slots=True)
class Written:
    """What one batch left of a lane. `start`: where it began, for its packs."""

    lane: Lane
    start: PackStart
    outbox: Sequence[OutboxRow]
    parked: Sequence[ParkedRow]
    ledger: LedgerRow

    def items(self) -> list[OutboxItem]:
        """Return the rows as the relay reads them."""
        return [item_of(row) for row in self.outbox]

    def packs(self, packs: PackFormat) -> list[tuple[Any, ...]]:
        """Return the rows of `tm.pack` that the way in writes instead."""
        lane_id = self.lane.id
        return packed_rows(packs, self.ledger.gen, {lane_id: self.lane}, {lane_id: self.start}, self.outbox)

    def log(self) -> list[LogRow]:
        """Return what the way in writes to the log: the events of a pack's positions are looked up there."""
        heads = [row for row in self.outbox if row.item == 0]
        own = [[row for row in self.outbox if row.position == head.position] for head in heads]
        return [
            LogRow(
                lane=head.lane,
                gen=head.gen,
                position=head.position,
                command_id=head.command_id,
                digest=0,
                outcome=head.outcome or b"",
                events=sum(row.payload is not None for row in rows),
                sequence=rows[-1].sequence,
                at=head.at,
                type=head.event_type,
                service=head.service,
                code=head.code,
                detail=head.detail,
                repeats=None,
            )
            for head, rows in zip(heads, own, strict=True)
        ]


def item_of(row: OutboxRow) -> OutboxItem:
    """Return a row as the relay reads it."""
    return OutboxItem._make(row[2:])


@dataclass
class Scribe:
    """Writes a lane's batches: positions and sequences dense, chain and ids as they should be.

    `withdrawn`: the spans of events that packs say are not in force any more.
    """

    lane: Lane
    gen: int = 1
    position: int = 0
    sequence: int = 0
    chained: int = 0
    number: int = 0
    timeline: int = 1
    at: datetime = BEGAN
    withdrawn: tuple[tuple[int, int], ...] = ()
    _start: PackStart | None = None
    _outbox: list[OutboxRow] = field(default_factory=list)
    _parked: list[ParkedRow] = field(default_factory=list)

    def applied(self, times: int = 1, *, events: int = 1, **fields: Any) -> Scribe:
        """Add commands that were applied, with that many events each."""
        for _ in range(times):
            command = str(uuid4())
            self._row(0, outcome=b"a", command_id=command, has_event=events > 0, **fields)
            for item in range(1, events):
                self._row(item, outcome=None, command_id=command, has_event=True, **fields)
        return self

    def rejected(self, times: int = 1, **fields: Any) -> Scribe:
        """Add commands that were rejected."""
        for _ in range(times):
            self._row(0, outcome=b"r", command_id=str(uuid4()), code="INVALID", detail="no", **fields)
        return self

    def parked(self, value: bytes | None = b"junk", **fields: Any) -> Scribe:
        """Add a record that could not be read; `key` and `headers` (name, bytes | None) may be given."""
        headers = fields.pop("headers", ())
        row = self._row(0, outcome=b"p", code="MALFORMED", detail="not Avro", **fields)
        text = headers_text(headers)
        where = (row.lane, row.position, self.lane.topics.commands, self.lane.partition, row.record_offset)
        self._parked.append(ParkedRow(*where, row.key, value, text, "MALFORMED", "not Avro", row.at))
        return self

    def batch(self) -> Written:
        """Close the batch: return its rows, and begin the next one a second later."""
        outcomes = [row.outcome for row in self._outbox]
        heads = [outcome for outcome in outcomes if outcome is not None]
        self.number += 1
        ledger = LedgerRow(
            lane=self.lane.id,
            gen=self.gen,
            batch=self.number,
            epoch=1,
            timeline=self.timeline,
            from_offset=self.position - len(heads),
            to_offset=self.position,
            anchor_offset=None,
            anchor_checksum=None,
            position=self.position,
            sequence=self.sequence,
            chain=self.chained,
            applied=heads.count(b"a"),
            rejected=heads.count(b"r"),
            duplicate=heads.count(b"d"),
            parked=heads.count(b"p"),
            events=sum(row.payload is not None for row in self._outbox),
            at=self.at,
            reason=None,
        )
        written = Written(self.lane, self._start or self._begin(), self._outbox, self._parked, ledger)
        self._start, self._outbox, self._parked = None, [], []
        self.at += timedelta(seconds=1)
        return written

    def _begin(self) -> PackStart:
        return PackStart(self.sequence, self.chained, self.timeline, self.withdrawn)

    def _row(self, item: int, *, has_event: bool = False, **fields: Any) -> OutboxRow:
        self._start = self._start or self._begin()
        if item == 0:
            self.position += 1
        if has_event:
            self.sequence += 1
            self.chained = chain(self.chained, event_id(fields["command_id"], item + 1))
        row = OutboxRow(
            lane=self.lane.id,
            gen=self.gen,
            position=self.position,
            item=item,
            outcome=None,
            original=None,
            code=None,
            detail=None,
            command_id=None,
            service="pricing",
            correlation=None,
            sequence=self.sequence,
            at=self.at,
            seconds=0.25,
            record_offset=self.position - 1,
            key=b"AAPL",
            event_type=EVENT_TYPE if has_event else None,
            payload=b"event %d" % self.sequence if has_event else None,
            chain=self.chained,
            trace=None,
            client_id=None,
        )._replace(**fields)
        self._outbox.append(row)
        return row

    def fork(self) -> Scribe:
        """Return a scribe that stands where this one does and goes its own way."""
        return replace(self, _start=None, _outbox=[], _parked=[])


async def store(connection: Any, batches: Iterable[Written], packs: PackFormat | None = None) -> None:
    """Write batches to the database as the way in does, in packs if a format of them is given: all or nothing."""
    async with connection.transaction():
        for written in batches:
            tables: list[tuple[str, Sequence[Any], Sequence[str]]] = [
                ("outbox", written.outbox, OutboxRow._fields),
                ("parked", written.parked, ParkedRow._fields),
                ("batch", [written.ledger], LedgerRow._fields),
            ]
            if packs is not None:
                tables[0] = ("pack", written.packs(packs), PACK_COLUMNS)
                tables.append(("log", written.log(), LogRow._fields))
            for table, rows, columns in tables:
                if rows:
                    await connection.copy_records_to_table(
                        table, schema_name="tm", records=rows, columns=columns
                    )
