"""What every `CommandCodec`, `EventCodec` and `OutcomeCodec` promises, asked of fakes and of Avro alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes.codecs import JsonCodec, encode
from tests.fakes.events import MemoryCodec
from tests.fakes.publishers import PlainOutcomes
from tests.support.engine.outbox import Scribe, lane_of
from tests.support.engine.streams import CONNECTOR_PROFILES, MARKET_DATA, messages_of
from tidemill.commands.ports import CommandCodec, Decoded
from tidemill.contexts.connector_profiles.messages import ConnectorProfileRegistered, RegisterConnectorProfile
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.domain.errors import ContractError, Unreadable
from tidemill.domain.messages import CommandBase
from tidemill.outbox.ports import OutboxItem, OutcomeCodec
from tidemill.projections.ports import EventCodec, EventRecord
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.events import AvroEventCodec
from tidemill.transport.avro.outcome import AvroOutcomeCodec

NOON = datetime(2024, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
BASE: dict[str, Any] = {"command_id": "one", "service_name": "s", "timestamp": NOON, "correlation_id": None}
CLOCK = SystemClock()


@dataclass
class Subject:
    """The codecs of both ends, and how a client would write a command."""

    commands: CommandCodec
    events: EventCodec
    outcomes: OutcomeCodec
    value: Callable[[CommandBase], bytes]
    foreign: bytes


@pytest.fixture(params=["memory", "avro"])
async def subject(request: pytest.FixtureRequest) -> Subject:
    foreign_command = RegisterConnectorProfile(**BASE, profile_id="p", name="n", profile_data="{}")
    if request.param == "memory":
        return Subject(
            JsonCodec(MARKET_DATA),
            MemoryCodec(MarketDataRecorded),
            PlainOutcomes(),
            lambda command: encode(MARKET_DATA, command),
            encode(CONNECTOR_PROFILES, foreign_command),
        )
    market, outcome = messages_of("market_data"), messages_of("outcome")
    codec = await StreamCodec.open(MARKET_DATA, market, clock=CLOCK)
    profiles = await StreamCodec.open(CONNECTOR_PROFILES, messages_of("connector_profiles"), clock=CLOCK)
    written = {each.price: await codec.encode_command(each) for each in map(tick, (1.0, 2.0))}
    return Subject(
        codec,
        await AvroEventCodec.open(MARKET_DATA, market, clock=CLOCK),
        await AvroOutcomeCodec.open(MARKET_DATA.topics, outcome, clock=CLOCK),
        lambda command: written[getattr(command, "price")],  # noqa: B009  a field of one class
        await profiles.encode_command(foreign_command),
    )


def tick(price: float = 1.0) -> RecordMarketData:
    return RecordMarketData(**BASE, symbol="AAPL", time=NOON, price=price, source="test")


def recorded(price: float = 1.0) -> MarketDataRecorded:
    return MarketDataRecorded(**BASE, symbol="AAPL", time=NOON, price=price, source="test")


def read(codec: CommandCodec, value: bytes) -> Decoded:
    (decoded,) = codec.decode([value])
    assert isinstance(decoded, Decoded), decoded
    return decoded


def event_record(value: bytes, sequence: int = 7, partition: int = 3) -> EventRecord:
    return EventRecord(partition, 100, sequence, NOON, MarketDataRecorded.__name__, value)


# --- commands --------------------------------------------------------------------------------------------------------


async def test_a_command_comes_back_with_its_name_and_typed_fields(subject: Subject) -> None:
    await subject.commands.prepare([None, subject.value(tick())])
    decoded = read(subject.commands, subject.value(tick()))
    assert decoded.name in MARKET_DATA.commands
    assert decoded.fields == tick().model_dump()


def test_facts_tell_payloads_apart(subject: Subject) -> None:
    one, same, other = (read(subject.commands, subject.value(tick(price))) for price in (1.0, 1.0, 2.0))
    assert one.facts == same.facts != other.facts
    assert b"one" not in one.facts, "whose command it is, is no fact"


def test_what_cannot_be_read_comes_back_in_its_place(subject: Subject) -> None:
    good = subject.value(tick())
    found = subject.commands.decode([None, good, b"", b"\x07junk", subject.foreign, good[:-1], good])
    kinds = [each.code if isinstance(each, Unreadable) else each.name for each in found]
    (name,) = MARKET_DATA.commands
    assert kinds == ["MALFORMED", name, "MALFORMED", "MALFORMED", "UNKNOWN_SCHEMA", "MALFORMED", name]


def test_an_appended_event_is_the_one_that_carries_the_commands_fields(subject: Subject) -> None:
    decoded = read(subject.commands, subject.value(tick()))
    appended = subject.commands.appended_event(decoded, MarketDataRecorded)
    assert appended == subject.commands.encode_event(recorded())


def test_an_event_that_is_not_the_streams_is_not_written(subject: Subject) -> None:
    foreign = ConnectorProfileRegistered(**BASE, profile_id="p", name="n", profile_data="{}")
    with pytest.raises(KeyError):
        subject.commands.encode_event(foreign)


# --- events ----------------------------------------------------------------------------------------------------------


async def test_events_come_back_in_order_with_their_place(subject: Subject) -> None:
    records = [
        event_record(subject.commands.encode_event(recorded(float(number))), number) for number in (3, 1, 2)
    ]
    await subject.events.prepare([record.value for record in records])
    found = subject.events.decode(records)
    assert [each.event for each in found] == [recorded(3.0), recorded(1.0), recorded(2.0)]
    assert [(each.at, each.order) for each in found] == [(NOON, (3, 3)), (NOON, (3, 1)), (NOON, (3, 2))]
    assert subject.events.decode([]) == []


@pytest.mark.parametrize("cut", [1, 20])
def test_an_event_that_no_class_reads_is_a_broken_contract(subject: Subject, cut: int) -> None:
    good = subject.commands.encode_event(recorded())
    with pytest.raises(ContractError):
        subject.events.decode([event_record(good), event_record(good[:-cut])])


def test_events_field_by_field_are_the_same(subject: Subject) -> None:
    records = [
        event_record(subject.commands.encode_event(recorded(float(number))), number) for number in (3, 1, 2)
    ]
    found = subject.events.decode_columns(records, {MarketDataRecorded})
    assert found is not None
    assert found.recorded() == subject.events.decode(records)
    assert (found.lane, found.sequences, found.fields["price"]) == (3, [3, 1, 2], [3.0, 1.0, 2.0])


def test_events_that_are_not_all_wanted_and_readable_are_not_given_field_by_field(subject: Subject) -> None:
    good = event_record(subject.commands.encode_event(recorded()))
    assert subject.events.decode_columns([good], {ConnectorProfileRegistered}) is None
    assert subject.events.decode_columns([good], ()) is None
    cut = good._replace(value=good.value[:-1])
    for records in ([good, cut], [cut, good]):
        assert subject.events.decode_columns(records, {MarketDataRecorded}) is None


# --- outcomes --------------------------------------------------------------------------------------------------------


def heads() -> list[OutboxItem]:
    scribe = Scribe(lane_of()).applied(2).rejected().parked().applied(events=0)
    return [item for item in scribe.batch().items() if item.item == 0]


def test_each_head_has_its_outcome_and_no_two_are_equal(subject: Subject) -> None:
    items = heads()
    messages = subject.outcomes.encode(lane_of(), items)
    assert len(messages) == len(set(messages)) == len(items)
    assert [message for item in items for message in subject.outcomes.encode(lane_of(), [item])] == messages
    assert subject.outcomes.encode(lane_of(), []) == []


def test_an_outcome_names_its_lane(subject: Subject) -> None:
    one, other = (subject.outcomes.encode(lane_of(number, number), heads()[:1]) for number in (1, 2))
    assert one != other


def test_a_further_event_of_a_command_has_no_outcome(subject: Subject) -> None:
    (_, further) = Scribe(lane_of()).applied(events=2).batch().items()
    with pytest.raises(KeyError):
        subject.outcomes.encode(lane_of(), [further])
