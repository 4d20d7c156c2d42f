"""The bytes of a command as those of its event: always the bytes that writing the event would give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine.codecs import MARKET, RECORD, TICK, HandClock, market_codec, read, single_object
from tests.support.engine.commands import base
from tests.support.engine.streams import messages_of
from tidemill.catalog.avro import Record, parse
from tidemill.commands.ports import Decoded
from tidemill.contexts.client_configs import context as client_configs
from tidemill.contexts.market_data.messages import MarketDataRecorded
from tidemill.domain.messages import CommandBase, EventBase
from tidemill.domain.stream import Stream
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.reuse import reused_body

COMMANDS: dict[str, Any] = {spec.model.__name__: spec.model for spec in client_configs.commands}
EVENTS: dict[str, Any] = {event.__name__: event for event in client_configs.events}
KEY = {"client_config_id": "c1"}

PAIRS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "all fields": ("CreateClientConfig", "ClientConfigCreated", {"name": "n", "config_data": "{}"}),
    "one left out": (
        "UpdateClientConfig",
        "ClientConfigUpdated",
        {"name": "n", "expected_version": 7},
    ),
    "one left out that is null": ("UpdateClientConfig", "ClientConfigUpdated", {"config_data": "{}"}),
    "the last one left out": ("DeleteClientConfig", "ClientConfigDeleted", {"expected_version": 300}),
}


async def codec_of_configs() -> StreamCodec:
    messages = messages_of("client_configs")
    return await StreamCodec.open(Stream.of(client_configs), messages, clock=HandClock())


async def sent(codec: StreamCodec, command: CommandBase) -> Decoded:
    return read(codec, await codec.encode_command(command))


@pytest.mark.parametrize(("command_name", "event_name", "fields"), PAIRS.values(), ids=PAIRS)
async def test_an_event_that_says_the_same_has_the_bytes_that_writing_gives(
    command_name: str, event_name: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = await codec_of_configs()
    command = COMMANDS[command_name].model_validate(base(**KEY, **fields))
    event = EVENTS[event_name].of(command)
    decoded, written = await sent(codec, command), codec.encode_event(event)
    monkeypatch.setattr("tidemill.transport.avro.reader.forms.schemaless_writer", None)
    assert codec.encode_event(event, decoded) == written


@pytest.mark.parametrize(
    "change", [{"name": None}, {"clear": ["name"]}, {"client_config_id": "c2", "clear": ["name"]}]
)
async def test_an_event_that_says_something_else_is_written(change: dict[str, Any]) -> None:
    codec = await codec_of_configs()
    command = COMMANDS["UpdateClientConfig"].model_validate(base(**KEY, name="n"))
    event: EventBase = EVENTS["ClientConfigUpdated"].of(command).model_copy(update=change)
    assert codec.encode_event(event, await sent(codec, command)) == codec.encode_event(event)


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"correlation_id": "x" * 200}, {"name": "ö" * 70, "config_data": "[]"}]
)
async def test_a_text_that_differs_is_put_in_its_place(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = await codec_of_configs()
    command = COMMANDS["UpdateClientConfig"].model_validate(base(**KEY, name="n", config_data="{}"))
    event: EventBase = EVENTS["ClientConfigUpdated"].of(command).model_copy(update=change)
    decoded, written = await sent(codec, command), codec.encode_event(event)
    monkeypatch.setattr("tidemill.transport.avro.reader.forms.schemaless_writer", None)
    assert codec.encode_event(event, decoded) == written


async def test_zeros_of_either_sign_are_not_taken_for_each_other() -> None:
    codec = await market_codec()
    decoded = read(codec, single_object(MARKET[RECORD].current, {**TICK, "price": 0.0}))
    event = MarketDataRecorded(**{**TICK, "price": -0.0})
    assert codec.encode_event(event, decoded) == codec.encode_event(event)
    assert codec.encode_event(event, decoded) != codec.encode_event(
        MarketDataRecorded(**{**TICK, "price": 0.0})
    )


def record(*fields: tuple[str, Any]) -> Record:
    parsed = parse({"type": "record", "name": "R", "fields": [{"name": n, "type": t} for n, t in fields]})
    assert isinstance(parsed, Record)
    return parsed


DOUBLES = {"type": "array", "items": "double"}
A, B, C = ("a", "string"), ("b", "long"), ("c", "string")


@pytest.mark.parametrize(
    ("command", "event", "fits"),
    [
        ((A, B, C), (A, B, C), True),
        ((A, B, C), (A, C), True),
        ((A, B, C), (C,), True),
        ((A, B, C), (A, B), True),
        ((A, B, C), (C, A), False),
        ((A, B), (A, B, C), False),
        ((A, B), (A, ("b", "int")), False),
        ((A, ("d", DOUBLES)), (A, ("d", DOUBLES)), True),
        ((A, ("d", ["null", DOUBLES])), (A, ("d", ["null", DOUBLES])), False),
        ((A, ("d", ["null", "double"])), (A, ("d", ["null", "double"])), True),
        ((A, ("d", DOUBLES)), (A,), True),
        ((A, ("u", ["null", "long", "double"])), (A, ("u", ["null", "long", "double"])), False),
        ((A, ("m", {"type": "map", "values": "long"})), (A, ("m", {"type": "map", "values": "long"})), False),
        (
            (A, ("l", {"type": "array", "items": "long"})),
            (A, ("l", {"type": "array", "items": "long"})),
            True,
        ),
    ],
)
def test_an_event_needs_the_fields_of_its_command_in_their_order(
    command: tuple[Any, ...], event: tuple[Any, ...], fits: bool
) -> None:
    assert (reused_body(record(*command), record(*event)) is not None) == fits


@pytest.mark.parametrize("items", ["double", ["null", "double"]])
def test_a_list_with_a_zero_of_another_sign_is_written_anew(items: Any) -> None:
    fields = record(("d", {"type": "array", "items": items}))
    reused = reused_body(fields, fields)
    assert reused is not None
    said = {"d": [1.0, -0.0] if items == "double" else [None, -0.0]}
    assert reused.of(b"as it came", said, {"d": [*said["d"]]}) == b"as it came"
    assert reused.of(b"as it came", said, {"d": [said["d"][0], 0.0]}) is None


@given(
    names=st.sets(st.sampled_from(["name", "config_data", "correlation_id"])),
    version=st.none() | st.integers(1, 2**40),
)
async def test_whatever_is_left_null_the_bytes_are_those_of_writing(
    names: set[str], version: int | None
) -> None:
    codec = await codec_of_configs()
    values = dict.fromkeys(names, "{}") or {"name": "n"}
    if values.keys() == {"correlation_id"}:
        values["name"] = "n"
    command = COMMANDS["UpdateClientConfig"].model_validate(
        base(**KEY, **values) | {"expected_version": version}
    )
    event = EVENTS["ClientConfigUpdated"].of(command)
    assert codec.encode_event(event, await sent(codec, command)) == codec.encode_event(event)
