"""What can be said of a record before any transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tests.fakes.codecs import JsonCodec, encode
from tests.support.engine.commands import FakeRecord, Topic, base
from tidemill.commands.validation import IncomingCommand, Validator, _bounded, _faults
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.decision import Rejected
from tidemill.domain.errors import Unreadable
from tidemill.domain.identity import identify
from tidemill.domain.messages import Label, Message
from tidemill.domain.partitioner import partition_of
from tidemill.domain.stream import Stream

STREAM = Stream.of(replace(market_data, partitions=4))
FACTS: dict[str, Any] = {
    "symbol": "AAPL",
    "time": datetime(2013, 3, 1, tzinfo=UTC),
    "price": 1.0,
    "source": "test",
}


def command(**fields: Any) -> RecordMarketData:
    """Return a command whose fields are not looked at: a client may send anything."""
    return RecordMarketData.model_construct(**base(**FACTS | fields))


def record(at: int = 0, **fields: Any) -> FakeRecord:
    made = command(**fields)
    key = str(fields.get("symbol", "AAPL")).encode()
    return FakeRecord(partition_of(key, 4), at, key, encode(STREAM, made))


async def validated(*records: FakeRecord, stream: Stream = STREAM) -> list[IncomingCommand]:
    return await Validator(stream, JsonCodec(stream)).validate([(1, each) for each in records])


def reason(arrival: IncomingCommand) -> str:
    assert isinstance(arrival.disposition, Rejected)
    return f"{arrival.disposition.code}: {arrival.disposition.message}"


def list_faults(count: int, text: str) -> str:
    """Return what is said of a command with a list of so many faulty items."""

    class Texts(Message):
        texts: list[Label]

    with pytest.raises(ValidationError) as refused:
        TypeAdapter(list[Texts]).validate_python([{"texts": [text] * count}])
    return _bounded([text for _, text in _faults(refused.value, frozenset())[0]])


@pytest.mark.parametrize("count", [1, 8, 17, 18, 19, 37, 2_000])
def test_of_many_faults_the_first_are_told_whole_and_the_others_counted(count: int) -> None:
    text = list_faults(count, "")
    *whole, last = text.split("; ")
    assert len(text) <= 1_000
    rest = int(last.split()[1]) if last.startswith("and ") else 0
    told = whole if rest else [*whole, last]
    assert len(told) + rest == count
    assert told == [f"texts.{n}: String should have at least 1 character" for n in range(len(told))]


def test_a_fault_that_is_too_long_is_cut_and_the_others_counted() -> None:
    faults = ["x" * 1_200, "y", "z"]
    assert _bounded(faults[:1]) == "x" * 1_000
    assert _bounded(faults).endswith("x; and 2 more")
    assert len(_bounded(faults)) <= 1_000


async def test_invalid_commands_are_told_apart_from_good_ones_and_all_their_faults_are_named() -> None:
    arrivals = await validated(
        record(0),
        record(1, price=float("nan"), source=""),
        record(2),
        record(3, high=1.0, low=2.0),
        record(4, symbol="no symbol"),
    )
    assert [arrival.disposition is None for arrival in arrivals] == [True, False, True, False, False]
    assert [arrival.command is not None for arrival in arrivals] == [True, False, True, False, False]
    assert "price: Input should be a finite number" in reason(arrivals[1])
    assert "source: " in reason(arrivals[1])
    assert reason(arrivals[3]) == "INVALID: high 1.0 is below low 2.0"


async def test_an_invalid_command_keeps_its_identity_unless_the_id_is_the_fault() -> None:
    named, unnamed = await validated(
        record(command_id="1", price=float("inf")), record(command_id="\x07", price=float("inf"))
    )
    assert named.command_id == identify("1", "tests")
    assert unnamed.command_id is None


async def test_the_digest_ignores_the_base_fields_and_nothing_else() -> None:
    same = base(**FACTS)
    first, retried, other = await validated(
        record(**same),
        record(**same | {"timestamp": datetime(2026, 2, 2, tzinfo=UTC)}),
        record(**same | {"price": 2.0}),
    )
    assert first.digest == retried.digest != other.digest


async def test_keys_and_partitions_are_checked_where_the_lane_owns_its_keys() -> None:
    good = record()
    wrong_key = replace(good, key=b"MSFT")
    no_key = replace(good, key=None)
    misplaced = replace(good, partition=(good.partition + 1) % 4)
    arrivals = await validated(good, wrong_key, no_key, misplaced)
    assert arrivals[0].disposition is None
    assert reason(arrivals[1]).startswith("WRONG_KEY: the record's key must be 'AAPL'")
    assert reason(arrivals[2]).startswith("WRONG_KEY")
    assert "partitioner=murmur2_random" in reason(arrivals[3])
    careless = await validated(wrong_key, no_key, misplaced, stream=replace(STREAM, keyed=False))
    assert [arrival.disposition for arrival in careless] == [None, None, None]


async def test_what_cannot_be_read_has_neither_command_nor_identity() -> None:
    (arrival,) = await validated(FakeRecord(0, 0, b"AAPL", None))
    assert isinstance(arrival.disposition, Unreadable)
    assert (arrival.command, arrival.command_id) == (None, None)


async def test_a_topic_in_memory_puts_keys_where_murmur2_does() -> None:
    topic = Topic(STREAM)
    assert (await validated(topic.record(RecordMarketData(**base(**FACTS)))))[0].disposition is None
