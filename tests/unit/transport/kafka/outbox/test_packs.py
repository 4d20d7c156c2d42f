"""A pack holds, byte for byte, the records that the relay would make of its rows; and its rows can be had again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine.streams import MARKET_DATA, messages_of
from tidemill.domain.identity import chain, event_id, identify
from tidemill.domain.lane import Lane
from tidemill.outbox.pack import Pack, PackStart
from tidemill.outbox.ports import OutboxItem, Published, SentPositions, Slab
from tidemill.outbox.position_range import chunk_of
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.outbox.compression import COMPRESSIONS, ZSTD
from tidemill.transport.kafka.outbox.packs import KafkaPacks
from tidemill.transport.kafka.outbox.record_batch import OVERHEAD, BatchFormat, bodies
from tidemill.transport.kafka.outbox.records import RecordBuilder

OUTCOMES = asyncio.run(AvroOutcomeCodec.open(MARKET_DATA.topics, messages_of("outcome"), clock=SystemClock()))
LANE = Lane(id=9, aggregate="market-data", partition=63, partitions=64, topics=MARKET_DATA.topics)
NOON = datetime(2026, 12, 2, 12, 0, 0, 123_456, tzinfo=UTC)
TYPES = st.sampled_from(["tidemill.market_data.MarketDataRecorded", "tidemill.users.UserCreated"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
KEYS = st.none() | st.binary(max_size=6) | st.just(b"AAPL") | st.just(b"k" * 300)
EVERYTHING = SentPositions(-1, -1, -1)


@st.composite
def commands(draw: st.DrawFn) -> dict[str, Any]:
    """One record: what became of it, and what its rows share."""
    outcome = draw(st.sampled_from([b"a", b"a", b"a", b"r", b"d", b"p"]))
    refused = outcome in (b"r", b"p")
    service = None if outcome == b"p" else draw(TEXTS)
    written = None if outcome == b"p" else draw(st.uuids().map(str) | TEXTS.filter(bool))
    own = None if written is None else identify(written, service or "")
    if refused and draw(st.booleans()):  # its id could not be read, or is empty, which is none
        own, written = None, draw(st.sampled_from([None, ""]))
    return {
        "outcome": outcome,
        "original": draw(st.sampled_from([b"a", b"r"])) if outcome == b"d" else None,
        "code": "INVALID" if refused else None,
        "detail": draw(TEXTS) if refused else None,
        "command_id": own,
        "client_id": None if written == own else written,
        "service": service,
        "correlation": draw(st.none() | TEXTS),
        "key": draw(KEYS),
        "trace": draw(st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        "rows": draw(st.none() | st.integers(1, 10_000)) if outcome in (b"a", b"d") else None,
        "events": [(draw(TYPES), draw(st.binary(max_size=40))) for _ in range(draw(st.integers(0, 3)))]
        if outcome == b"a"
        else [],
    }


def items_of(
    made: Sequence[dict[str, Any]], start: PackStart, *, position: int = 0, gap: int = 0
) -> list[OutboxItem]:
    """Return the rows of commands, numbered as a batch numbers them."""
    items, sequence, chained = [], start.sequence, start.chain
    for index, each in enumerate(made):
        shared = {name: value for name, value in each.items() if name != "events"}
        for number in range(max(1, len(each["events"]))):
            kind, payload = each["events"][number] if each["events"] else (None, None)
            if payload is not None:
                sequence += 1
                chained = chain(chained, event_id(each["command_id"], number + 1))
            first = {} if number == 0 else dict.fromkeys(("outcome", "original", "code", "detail", "rows"))
            items.append(
                OutboxItem(
                    **shared | first,
                    position=position + index + 1,
                    item=number,
                    sequence=sequence,
                    at=NOON,
                    seconds=0.25,
                    record_offset=500 + index + (gap if index else 0),
                    event_type=kind,
                    payload=payload,
                    chain=chained,
                )
            )  # fmt: skip
    return items


def records_of(items: Sequence[OutboxItem], start: PackStart) -> tuple[list[bytes], list[bytes]]:
    """Return what the relay makes of rows, one by one: events and outcomes."""
    chunk = chunk_of(LANE.id, items, Published(items[0].position - 1, start.sequence, None))
    heads = chunk.heads(0)
    values = OUTCOMES.encode(LANE, heads)
    events, outcomes = RecordBuilder(LANE, start.timeline, start.withdrawn).events_and_outcomes(
        items, zip(heads, values, strict=True), EVERYTHING
    )
    return [each.encoded for each in events], [each.encoded for each in outcomes]


def packed(packs: Sequence[Pack]) -> tuple[list[bytes], list[bytes]]:
    """Return the records that packs hold."""
    events = [body for pack in packs if pack.events for body in bodies(ZSTD.decompress(pack.events))]
    return events, [body for pack in packs for body in bodies(ZSTD.decompress(pack.outcomes))]


STARTS = st.builds(
    PackStart,
    sequence=st.integers(0, 9_000),
    chain=st.integers(-(2**62), 2**62),
    timeline=st.integers(1, 3),
    withdrawn=st.sampled_from([(), ((101, 120), (151, 170))]),
)


@given(
    made=st.lists(commands(), min_size=1, max_size=12),
    start=STARTS,
    position=st.integers(0, 20_000),
    max_bytes=st.sampled_from([1, 700, 1_500, 100_000]),
)
def test_packs_hold_the_records_of_their_rows(
    made: list[dict[str, Any]], start: PackStart, position: int, max_bytes: int
) -> None:
    items = items_of(made, start, position=position)
    packs = KafkaPacks(OUTCOMES, batch_bytes=max_bytes + OVERHEAD).pack(LANE, start, items)
    assert packed(packs) == records_of(items, start)
    assert (packs[0].first_position, packs[0].sequence_before) == (position + 1, start.sequence)
    assert (packs[-1].position, packs[-1].sequence, packs[-1].chain) == (
        items[-1].position, items[-1].sequence, items[-1].chain,
    )  # fmt: skip
    for before, pack in pairwise(packs):
        assert pack.first_position == before.position + 1
        assert (pack.sequence_before, pack.chain_before) == (before.sequence, before.chain)
    for pack in packs:
        one = pack.first_position == pack.position
        blobs = [ZSTD.decompress(blob) for blob in (pack.events, pack.outcomes) if blob]
        assert one or max(map(len, blobs)) <= max_bytes


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Runs of plain commands, of few services and types, with odd ones between them."""
    made: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 4))):
        service, kind = draw(st.sampled_from(["quotes", "é"])), draw(TYPES)
        made += [
            {
                "outcome": b"a",
                "command_id": str(draw(st.uuids())),
                "service": service,
                "key": draw(KEYS),
                "events": [(kind, draw(st.binary(max_size=9)))],
            }
            | dict.fromkeys(("original", "code", "detail", "client_id", "correlation", "trace", "rows"))
            for _ in range(draw(st.integers(0, 9)))
        ]
        made += draw(st.lists(commands(), max_size=2))
    return made or [draw(commands())]


@given(made=streams(), start=STARTS, position=st.sampled_from([0, 95, 8_180, 99_996, 2**40]))
def test_runs_of_plain_commands_make_the_same_records(
    made: list[dict[str, Any]], start: PackStart, position: int
) -> None:
    items = items_of(made, start, position=position)
    assert packed(KafkaPacks(OUTCOMES).pack(LANE, start, items)) == records_of(items, start)


@given(made=st.lists(commands(), min_size=1, max_size=8), start=STARTS, later=STARTS)
def test_rows_that_were_unpacked_make_the_same_records(
    made: list[dict[str, Any]], start: PackStart, later: PackStart
) -> None:
    items, packs = items_of(made, start), KafkaPacks(OUTCOMES)
    (pack,) = packs.pack(LANE, start, items)
    again = packs.unpack(LANE, pack)
    assert records_of(again, start) == records_of(items, start)
    other = later._replace(sequence=start.sequence)
    assert records_of(again, other) == records_of(items, other), "of another timeline, too"


@given(made=st.lists(commands(), min_size=2, max_size=8), start=STARTS, data=st.data())
def test_a_reconciliation_moves_numbers_and_splits_packs(
    made: list[dict[str, Any]], start: PackStart, data: st.DataObject
) -> None:
    items, packs = items_of(made, start), KafkaPacks(OUTCOMES)
    (pack,) = packs.pack(LANE, start, items)
    after = data.draw(st.integers(0, len(made) - 1))
    by, more = data.draw(st.integers(0, 50)), data.draw(st.integers(0, 50))
    moved = pack._replace(
        first_position=after + 1 + by, position=pack.position + by, moved_positions=by, moved_sequences=more
    )
    expected = [
        each._replace(position=each.position + by, sequence=each.sequence + more)
        for each in items
        if each.position > after
    ]
    found = packs.unpack(LANE, moved)
    assert [(each.position, each.item, each.sequence, each.payload, each.chain) for each in found] == [
        (each.position, each.item, each.sequence, each.payload, each.chain) for each in expected
    ]


def test_what_is_counted_of_a_pack() -> None:
    start = PackStart(0, 0, 1)
    shared: dict[str, Any] = dict.fromkeys(
        ("original", "code", "detail", "client_id", "correlation", "key", "trace", "rows")
    )
    own = str(UUID(int=1))
    applied = shared | {"outcome": b"a", "command_id": own, "service": "s", "events": [("t", b"x")]}
    parked = shared | {
        "outcome": b"p",
        "command_id": None,
        "service": None,
        "events": [],
        "code": "MALFORMED",
    }
    items = items_of([applied, parked, applied | {"rows": 5}], start)
    (pack,) = KafkaPacks(OUTCOMES).pack(LANE, start, items)
    assert (pack.rows, pack.parked, pack.parked_sequences) == (6, [2], [1])
    assert (pack.first_offset, pack.offsets, pack.event_id) == (500, None, event_id(own, 1))
    (pack,) = KafkaPacks(OUTCOMES).pack(LANE, start, items_of([applied, parked], start, gap=3))
    assert (pack.first_offset, pack.offsets) == (500, [500, 504])
    (pack,) = KafkaPacks(OUTCOMES).pack(LANE, start, items_of([parked], start))
    assert (pack.events, pack.event_id, pack.rows) == (None, None, 0)


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_slabs_are_sent_with_every_compression(name: str) -> None:
    start, packs, slabs = PackStart(0, 0, 1), KafkaPacks(OUTCOMES), []
    applied: dict[str, Any] = dict.fromkeys(
        ("original", "code", "detail", "client_id", "correlation", "key", "trace", "rows")
    )
    applied |= {"outcome": b"a", "command_id": str(UUID(int=1)), "service": "s", "events": [("t", b"x" * 50)]}
    expected: list[bytes] = []
    for count in (1, 40, 2_000, 3, 1):
        items = items_of([applied] * count, start, position=len(expected))
        expected += records_of(items, start)[0]
        slabs += [
            Slab(pack.events or b"", pack.sequence - pack.sequence_before)
            for pack in packs.pack(LANE, start, items)
        ]
        start = start._replace(sequence=start.sequence + count, chain=items[-1].chain)
    made = BatchFormat(max_bytes=300_000, at_ms=1, transactional=True, compression=COMPRESSIONS[name])
    batches = list(made.of(slabs))
    assert len(batches) < len(slabs), "small ones are joined"
    assert all(batch.size() <= 300_000 for batch in batches)
    found = [record for batch in batches for record in read(bytes(batch._build()))]
    assert [record.value for record in found] == [b"x" * 50] * 2_045
    assert [dict(record.headers)["tm_sequence"] for record in found] == [b"%d" % n for n in range(1, 2_046)]


def read(batch: bytes) -> list[Any]:
    """Return the records of a batch as the client reads them, with its checksum."""
    records = MemoryRecords(batch)
    found = []
    while (one := records.next_batch()) is not None:
        assert one.validate_crc()
        found += list(one)
    return found
