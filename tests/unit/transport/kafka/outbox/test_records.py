"""Records look as the contract says: CloudEvents, our numbers, dead letters untouched."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine.kafka_batches import pack
from tests.support.engine.outbox import Scribe, lane_of
from tidemill.commands.validation import MAX_KEY_BYTES
from tidemill.domain.headers import CUT_HEADERS, CutHeaders
from tidemill.outbox.dead_letter_size import truncated_to
from tidemill.outbox.ports import EncodedRecord, LanePlace, OutboxItem, ParkedRecord, SentPositions
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.kafka.outbox.records import ENVELOPE_BYTES, RecordBuilder

LANE = lane_of(7, partition=3)
COMMAND = "0192f0c1-2b3c-7def-8123-456789abcdef"
NOTHING = SentPositions(0, 0, 0)


def item(**fields: Any) -> OutboxItem:
    (row,) = Scribe(LANE).applied().batch().items()
    return row._replace(command_id=COMMAND, **fields)


def records(
    *items: OutboxItem, sent: SentPositions = NOTHING, timeline: int = 1
) -> tuple[list[EncodedRecord], list[EncodedRecord]]:
    heads = [(each, b"outcome") for each in items if each.item == 0 and each.position > sent.outcomes]
    return RecordBuilder(LANE, timeline).events_and_outcomes(items, heads, sent)


def test_an_event_has_the_documented_headers() -> None:
    row = item(correlation="order-1", trace="00-4bf9-00f0-01", chain=-7, client_id="mine-1")
    ((event,), _) = records(row, timeline=2)
    assert (event.key, event.value) == (b"AAPL", b"event 1")
    assert dict(event.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": COMMAND.encode() + b":1",
        "ce_type": b"tidemill.market_data.MarketDataRecorded",
        "ce_source": b"/tidemill/market-data",
        "ce_time": b"2026-11-21T07:30:00.000250Z",
        "ce_subject": b"AAPL",
        "ce_correlationid": b"order-1",
        "ce_causationid": b"mine-1",
        "content-type": b"application/avro",
        "traceparent": b"00-4bf9-00f0-01",
        "tm_timeline": b"2",
        "tm_position": b"1",
        "tm_chain": b"-7",
        "tm_sequence": b"1",
    }
    assert event.headers[-1][0] == "tm_sequence"
    assert len({name for name, _ in event.headers}) == len(event.headers)


def test_what_is_not_there_has_no_header() -> None:
    ((event,), (outcome,)) = records(item(key=None))
    for record in (event, outcome):
        assert not {"ce_subject", "ce_correlationid", "traceparent"} & dict(record.headers).keys()
    assert dict(event.headers)["ce_causationid"] == COMMAND.encode()


def test_an_outcome_is_named_by_its_position() -> None:
    _, (outcome,) = records(item(position=41, correlation="order-1"))
    headers = dict(outcome.headers)
    assert (outcome.key, outcome.value) == (b"AAPL", b"outcome")
    assert headers["ce_id"] == b"market-data/3/41"
    assert headers["ce_type"] == b"tidemill.outcome.CommandOutcome"
    assert headers["ce_causationid"] == COMMAND.encode()
    assert headers["ce_correlationid"] == b"order-1"
    assert (headers["tm_position"], headers["tm_sequence"]) == (b"41", b"1")
    assert "tm_chain" not in headers


@pytest.mark.parametrize(
    ("key", "subject"),
    [
        (b"AAPL", b"AAPL"),
        ("Zürich".encode(), "Zürich".encode()),
        (b"a b", b"a b"),
        (b"", None),
        (b"tab\there", None),
        (b"\xff\xfe", None),
        ("\ufffd".encode(), "\ufffd".encode()),
        (None, None),
    ],
)
def test_only_printable_keys_are_subjects(key: bytes | None, subject: bytes | None) -> None:
    ((event,), _) = records(item(key=key))
    assert dict(event.headers).get("ce_subject") == subject
    assert event.key == key


def test_a_key_of_more_than_256_bytes_is_no_subject() -> None:
    ((longest,), _) = records(item(key=b"k" * 256))
    ((longer,), _) = records(item(key=b"k" * 257))
    assert dict(longest.headers)["ce_subject"] == b"k" * 256
    assert "ce_subject" not in dict(longer.headers)
    assert longer.key == b"k" * 257


def test_the_envelope_has_room_for_the_largest_key_and_headers() -> None:
    label = "\U0001d11e" * 200  # four bytes each
    row = item(
        key=b"k" * MAX_KEY_BYTES,
        correlation=label,
        client_id=label,
        trace="t" * 128,
        event_type="tidemill." + "n" * 200,
        sequence=2**62,
        position=2**62,
        chain=-(2**62),
        payload=bytes(1 << 20),
    )
    (events, _) = RecordBuilder(LANE, 2**31 - 1, [(2**62, 2**62)] * 50).events_and_outcomes(
        [row], [(row, b"")], NOTHING
    )
    (batch,) = pack(events, 1 << 20, at_ms=2**40, transactional=True)
    assert batch.size() - (1 << 20) <= ENVELOPE_BYTES


def test_further_events_of_a_command_count_on() -> None:
    rows = Scribe(LANE).applied(events=3).batch().items()
    events, outcomes = records(*rows)
    command = rows[0].command_id
    ids = [dict(event.headers)["ce_id"].decode() for event in events]  # type: ignore[union-attr]
    assert ids == [f"{command}:{number}" for number in (1, 2, 3)]
    assert [dict(event.headers)["tm_position"] for event in events] == [b"1"] * 3
    assert len(outcomes) == 1


def test_what_the_topics_hold_is_left_out() -> None:
    rows = Scribe(LANE).applied(2, events=2).rejected().batch().items()
    events, outcomes = records(*rows, sent=SentPositions(sequence=3, outcomes=1, dead_letters=0))
    assert [dict(event.headers)["tm_sequence"] for event in events] == [b"4"]
    assert [dict(outcome.headers)["tm_position"] for outcome in outcomes] == [b"2", b"3"]


def test_each_batch_keeps_its_own_time() -> None:
    later = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    rows = item(), item(position=2, sequence=2, at=later), item(position=3, sequence=3)
    events, _ = records(*rows)
    times = [dict(event.headers)["ce_time"] for event in events]
    assert times == [
        b"2026-11-21T07:30:00.000250Z", b"2026-12-31T23:59:59.000000Z", b"2026-11-21T07:30:00.000250Z"
    ]  # fmt: skip


def test_many_keys_do_not_pile_up() -> None:
    builder = RecordBuilder(LANE, 1)
    rows = [item(key=b"key %d" % number, position=number, sequence=number) for number in range(1, 5001)]
    events, _ = builder.events_and_outcomes(rows, [], SentPositions(0, 5001, 0))
    assert [dict(event.headers)["ce_subject"] for event in events] == [row.key for row in rows]
    assert len(builder._keys) <= 4096


def test_long_keys_are_not_kept() -> None:
    builder = RecordBuilder(LANE, 1)
    rows = [
        item(key=b"%d" % number + b"k" * 4_000, position=number, sequence=number) for number in range(1, 501)
    ]
    builder.events_and_outcomes(rows, [], SentPositions(0, 501, 0))
    assert sum(len(key or b"") for key in builder._keys) < 1_000


def test_a_dead_letter_is_untouched_but_for_what_is_wrong_with_it() -> None:
    sent: tuple[tuple[str, bytes | None], ...] = (("a", b"\x00\xff"), ("a", None), ("", b""))
    record = ParkedRecord(9, "t.commands.v1", 3, 8, None, b"\x00junk", sent, "MALFORMED", "cut off")
    (letter,) = RecordBuilder(LANE, 1).dead_letters([LanePlace(9, 5)], [record])
    assert (letter.key, letter.value) == (None, b"\x00junk")
    assert tuple(letter.headers[:3]) == sent
    assert dict(letter.headers[3:]) == {
        "__connect.errors.topic": b"t.commands.v1",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"8",
        "__connect.errors.connector.name": b"tidemill",
        "__connect.errors.task.id": b"3",
        "__connect.errors.stage": b"VALUE_CONVERTER",
        "__connect.errors.exception.class.name": b"MALFORMED",
        "__connect.errors.exception.message": b"cut off",
        "tm_timeline": b"1",
        "tm_position": b"9",
        "tm_sequence": b"5",
    }


def test_a_record_that_ended_a_process_says_at_which_stage() -> None:
    record = ParkedRecord(1, "t", 0, 0, b"k", None, (), "CRASHED", "five times")
    (letter,) = RecordBuilder(LANE, 1).dead_letters([LanePlace(1, 1)], [record])
    assert dict(letter.headers)["__connect.errors.stage"] == b"TASK_PUT"
    assert letter.value is None


def test_every_header_is_documented() -> None:
    text = (Path(__file__).parents[5] / "docs" / "records.md").read_text()
    (event,), (outcome,) = records(item(correlation="c", trace="t"))
    cut = CutHeaders(CUT_HEADERS, b"1,001 headers")
    parked = ParkedRecord(1, "t", 0, 0, None, None, (cut,), "TOO_BIG", "d")
    (letter,) = RecordBuilder(LANE, 1).dead_letters([LanePlace(1, 1)], [parked])
    documented = set(re.findall(r"^\| `([\w.-]+)` \|", text, re.MULTILINE))
    bare = truncated_to(letter, parked, "goods/0", 0, OutboundRecord)
    after_a_restore = RecordBuilder(LANE, 2, ((3, 4),))
    (forked,), _ = after_a_restore.events_and_outcomes(
        [item()], [(item(), b"outcome")], SentPositions(0, 0, 0)
    )
    sent = {name for record in (event, outcome, letter, bare, forked) for name, _ in record.headers}
    assert sent == documented
