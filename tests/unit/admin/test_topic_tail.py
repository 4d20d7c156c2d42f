"""A record as people see it, whether or not it can be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from tidemill.admin.records.ports import RecordDecoder
from tidemill.admin.records.topic_tail import TopicTail, show
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.contexts.market_data import context
from tidemill.domain.errors import Unreadable, UsageError
from tidemill.domain.lane import TopicRole
from tidemill.domain.stream import Stream

CATALOG = StreamCatalog({context.aggregate: ContextStream(context, Stream.of(context))})
EVENTS = "tidemill.market-data.events.v1"


@dataclass
class Record:
    """A record of Kafka's."""

    value: bytes | None = b"v"
    headers: Sequence[tuple[str, bytes | None]] = ()
    topic: str = EVENTS
    partition: int = 3
    offset: int = 7
    timestamp: int = 1_000
    key: bytes | None = b"k"


class Reads:
    """Reads any value but `?`."""

    async def fields_of(self, value: bytes) -> tuple[str, Mapping[str, Any]]:
        if value == b"?":
            raise Unreadable("MALFORMED", "not Avro")
        return "Priced", {"price": 1}


class Kafka:
    """A topic with records, which notes what is done with it."""

    def __init__(self, *records: Record, exists: bool = True) -> None:
        self.held, self.exists = records, exists
        self.calls: list[object] = []

    def reader(self, topic: str, *, partition: int | None = None) -> Kafka:
        self.calls.append((topic, partition))
        return self

    async def open(self, *, last: int | None = None) -> None:
        self.calls.append(last)
        if not self.exists:
            raise UsageError("there is no such topic")

    async def records(self, *, follow: bool = False) -> AsyncIterator[Record]:
        for record in self.held:
            yield record

    async def close(self) -> None:
        self.calls.append("closed")

    async def decoder(self, part: ContextStream, role: TopicRole) -> RecordDecoder:
        self.calls.append((part.stream.aggregate, role))
        return Reads()


def tail(kafka: Kafka) -> TopicTail:
    return TopicTail(catalog=CATALOG, readers=kafka, decoders=kafka)


async def test_a_record_is_shown_with_its_fields_and_its_number() -> None:
    shown = await show(Record(headers=[("tm_sequence", b"12"), ("ce_type", b"x.Other")]), Reads())
    assert (shown.type, shown.fields, shown.sequence, shown.problem) == ("Priced", {"price": 1}, 12, None)
    assert (shown.time, shown.partition, shown.offset) == (datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 3, 7)


@pytest.mark.parametrize(
    ("record", "decoder", "problem"),
    [
        (Record(value=None), Reads(), "no value"),
        (Record(), None, "not a topic of Tidemill"),
        (Record(value=b"?"), Reads(), "not Avro"),
    ],
)
async def test_what_cannot_be_read_is_shown_with_the_reason(
    record: Record, decoder: RecordDecoder | None, problem: str
) -> None:
    shown = await show(record, decoder)
    assert shown.fields is None
    assert problem in (shown.problem or "")


async def test_a_dead_letter_says_why_it_was_parked_and_what_it_was() -> None:
    headers = [
        ("ce_type", b"x.Priced\xff"),
        ("__connect.errors.exception.class.name", b"MALFORMED"),
        ("__connect.errors.exception.message", b"no Avro"),
    ]
    shown = await show(Record(value=b"?", headers=headers), Reads())
    assert (shown.type, shown.problem) == ("x.Priced\ufffd", "MALFORMED: no Avro")


async def test_the_records_of_a_topic_are_decoded_by_its_role_and_the_reader_is_closed() -> None:
    kafka = Kafka(Record(), Record(value=None))
    found = [each async for each in tail(kafka).records(EVENTS, last=5, partition=3, follow=False)]
    assert [each.problem for each in found] == [None, "no value"]
    assert kafka.calls == [("market-data", TopicRole.EVENTS), (EVENTS, 3), 5, "closed"]


async def test_a_topic_that_there_is_not_leaves_nothing_open() -> None:
    kafka = Kafka(exists=False)
    with pytest.raises(UsageError):
        [each async for each in tail(kafka).records("theirs", last=None, partition=None, follow=True)]
    assert kafka.calls == [("theirs", None), None, "closed"]


def test_a_topic_is_named_by_its_aggregate_and_role_or_by_itself() -> None:
    named = tail(Kafka())
    assert named.find("market_data", TopicRole.DEAD_LETTERS) == "tidemill.market-data.commands.v1.dlq"
    assert named.find("theirs", TopicRole.EVENTS) == "theirs"
