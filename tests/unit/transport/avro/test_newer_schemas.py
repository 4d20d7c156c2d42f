"""Commands of a schema that is newer than ours: taken whole, and known again after the upgrade, or not taken."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.engine.codecs import (
    MARKET,
    RECORD,
    RECORDED,
    TICK,
    HandClock,
    body,
    market_codec,
    read,
    refused,
    registered,
)
from tests.support.engine.schema_versions import with_field, with_fields, without_field
from tests.support.engine.streams import MARKET_DATA
from tidemill.catalog.registration import register_schemas, subject_of
from tidemill.catalog.schemas import Schema
from tidemill.domain.errors import NewerSchema, Unreadable
from tidemill.projections.ports import EventRecord
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.events import AvroEventCodec
from tidemill.transport.avro.reader.forms import Form, Resolution
from tidemill.transport.avro.reader.newer import NotWhole
from tidemill.transport.avro.wire import prefix_of_id

CURRENT = MARKET[RECORD].current


def optional(name: str, kind: Any = "string") -> dict[str, Any]:
    return {"name": name, "type": ["null", kind], "default": None, "doc": "."}


async def sent(newer: Schema, subject: str = RECORD, **fields: Any) -> tuple[StreamCodec, bytes]:
    """Our codec, and a command that `newer` wrote, which is registered under a subject of the command topic."""
    registry = await registered()
    registry.levels.clear()
    codec = await market_codec(registry)
    schema_id = await registry.register(subject_of(MARKET_DATA.topics.commands, subject), newer.text)
    value = prefix_of_id(schema_id) + body(newer, TICK | fields)
    await codec.prepare([value])
    return codec, value


async def test_a_field_that_we_do_not_know_is_not_dropped() -> None:
    codec, value = await sent(with_fields(CURRENT, optional("venue")), venue="XNAS")
    newer = refused(codec, value)
    assert isinstance(newer, NewerSchema)
    assert (newer.code, newer.type_name, newer.service) == ("NEWER_SCHEMA", RECORD, "quotes")
    assert newer.schema == str(int.from_bytes(value[1:5], "big"))
    assert f"schema {newer.schema} ({RECORD}): it has a value for venue" in newer.detail
    assert "XNAS" not in newer.detail, "what a client sent stands in no log"


async def test_a_field_that_holds_its_default_is_no_loss_and_the_repeat_is_known_after_the_upgrade() -> None:
    grown = with_fields(CURRENT, optional("venue"), {"name": "lots", "type": "int", "default": 1})
    codec, value = await sent(grown, venue=None, lots=1)
    assert read(codec, value).fields == TICK
    after = Form(grown, base=4).read(value, 5)
    assert read(codec, value).facts == after.facts


async def test_a_body_that_is_not_what_its_schema_says_is_parked_whatever_the_schema() -> None:
    for newer in (with_fields(CURRENT, optional("venue")), with_field(CURRENT, "price", type="string")):
        price = "1" if newer.record.fields[6].type.kind == "string" else 1.0  # type: ignore[union-attr]
        codec, value = await sent(newer, venue="XNAS", price=price)
        assert refused(codec, value).code == "NEWER_SCHEMA"
        assert refused(codec, value + b"\x00").code == "MALFORMED"
        assert refused(codec, value[:-1]).code == "MALFORMED"


MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
UNKNOWN_COMMAND = Schema.of(CURRENT.text.replace("RecordMarketData", "RecordTrade"))
RECURSIVE = {"name": "link", "type": ["null", RECORD], "default": None}


@pytest.mark.parametrize(
    ("newer", "fields", "why"),
    [
        (with_field(CURRENT, "price", type="string"), {"price": "1"}, "price: string cannot be read as"),
        (without_field(CURRENT, "symbol"), {}, "symbol: has no default"),
        (with_field(CURRENT, "time", type=MILLIS), {}, "timestamp-millis"),
        (UNKNOWN_COMMAND, {}, "is not a message of tidemill.market-data.commands.v1 that this version knows"),
    ],
)
async def test_what_the_registry_explains_and_we_cannot_read_is_newer(
    newer: Schema, fields: dict[str, Any], why: str
) -> None:
    codec, value = await sent(newer, newer.name, **fields)
    found = refused(codec, value)
    assert isinstance(found, NewerSchema)
    assert found.type_name == newer.name
    assert why in found.detail


@pytest.mark.parametrize(
    ("newer", "subject", "why"),
    [
        (UNKNOWN_COMMAND, "elsewhere", "is not registered under"),
        (with_fields(CURRENT, optional("venue")), "elsewhere", "is not registered under"),
        (
            with_fields(UNKNOWN_COMMAND, RECURSIVE | {"type": ["null", UNKNOWN_COMMAND.name]}),
            None,
            "contains itself",
        ),
    ],
)
async def test_what_nobody_explains_and_what_is_dangerous_is_parked_at_once(
    newer: Schema, subject: str | None, why: str
) -> None:
    codec, value = await sent(newer, subject or newer.name)
    found = refused(codec, value)
    assert not isinstance(found, NewerSchema)
    assert found.code == "UNKNOWN_SCHEMA"
    assert why in found.detail


async def test_readers_of_events_leave_out_what_they_do_not_know() -> None:
    registry = await registered()
    grown = with_fields(MARKET[RECORDED].current, optional("venue"))
    subject = subject_of(MARKET_DATA.topics.events, RECORDED)
    value = prefix_of_id(await registry.register(subject, grown.text)) + body(grown, TICK | {"venue": "XNAS"})
    codec = await AvroEventCodec.open(MARKET_DATA, MARKET, clock=HandClock(), registry=registry)
    await codec.prepare([value])
    (found,) = codec.decode([EventRecord(0, 0, 1, TICK["time"], "", value)])
    assert found.event.model_dump() == TICK


# --- at any depth ----------------------------------------------------------------------------------------------------

INNER = {"name": "a", "type": "int"}
MORE = {"name": "b", "type": "int", "default": 0}


def place(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "Place", "fields": [INNER, *fields]}


def side(*symbols: str) -> dict[str, Any]:
    return {"type": "enum", "name": "Side", "symbols": list(symbols), "default": "BUY"}


def schema(*fields: Any) -> Schema:
    named = [
        {"name": f"f{at}", "type": kind} if not isinstance(kind, tuple) else kind[0]
        for at, kind in enumerate(fields)
    ]
    return Schema.of(json.dumps({"type": "record", "name": "R", "fields": named}))


def whole(newer: Schema, ours: Schema, fields: dict[str, Any]) -> str | None:
    """What our version says that it would lose, None if it takes the value and knows the repeat after the upgrade."""
    form = Form(ours, base=0)
    value = body(newer, fields)
    try:
        taken = Resolution(newer, form, whole=True).read(value, 0)
    except NotWhole as lost:
        return str(lost)
    assert taken.facts == Form(newer, base=0).read(value, 0).facts
    return None


HERE, THERE = {"a": 1, "b": 0}, {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("ours", "newer", "value", "lost"),
    [
        (place(), place(MORE), THERE, "f0.b"),
        (place(), place(MORE), HERE, "f0.b"),
        (["null", place()], ["null", place(MORE)], None, None),
        (["null", place()], ["null", place(MORE)], THERE, "f0.b"),
        ({"type": "array", "items": place()}, {"type": "array", "items": place(MORE)}, [], None),
        ({"type": "array", "items": place()}, {"type": "array", "items": place(MORE)}, [HERE], "f0[].b"),
        ({"type": "map", "values": place()}, {"type": "map", "values": place(MORE)}, {}, None),
        ({"type": "map", "values": place()}, {"type": "map", "values": place(MORE)}, {"k": THERE}, "f0{}.b"),
        (["null", "string", place()], ["null", "string", place(MORE)], "text", None),
        (["null", "string", place()], ["null", "string", place(MORE)], THERE, "f0.b"),
        (["null", place()], place(MORE), THERE, "f0.b"),
        (side("BUY", "SELL"), side("BUY", "SELL", "SHORT"), "SELL", None),
        (side("BUY", "SELL"), side("BUY", "SELL", "SHORT"), "SHORT", "f0 is SHORT"),
        (["null", side("BUY")], ["null", side("BUY", "SHORT")], "SHORT", "f0 is SHORT"),
        (
            {"type": "array", "items": side("BUY")},
            {"type": "array", "items": side("BUY", "SHORT")},
            ["SHORT"],
            "f0[]",
        ),
    ],
)
def test_what_is_unknown_inside_of_a_field_is_found(
    ours: Any, newer: Any, value: Any, lost: str | None
) -> None:
    said = whole(schema(newer, "long"), schema(ours, "long"), {"f0": value, "f1": 7})
    assert (said is None) == (lost is None), said
    assert lost is None or lost in str(said)


@pytest.mark.parametrize(
    ("field", "value", "lost"),
    [
        ({"name": "x", "type": "int"}, 0, True),
        ({"name": "x", "type": "int", "default": 3}, 3, False),
        ({"name": "x", "type": "int", "default": 3}, 0, True),
        ({"name": "x", "type": "double", "default": 0.0}, float("nan"), True),
        ({"name": "x", "type": "bytes", "default": "\u00ff"}, b"\xff", False),
        ({"name": "x", "type": place(MORE), "default": {"a": 0, "b": 0}}, {"a": 0, "b": 0}, False),
        ({"name": "x", "type": place(MORE), "default": {"a": 0, "b": 0}}, THERE, True),
        ({"name": "x", "type": {"type": "array", "items": "int"}, "default": []}, [], False),
        ({"name": "x", "type": {"type": "array", "items": "int"}, "default": []}, [0], True),
    ],
)
def test_a_field_at_the_end_counts_unless_it_holds_its_default(
    field: dict[str, Any], value: Any, lost: bool
) -> None:
    ours = schema("long")
    assert (whole(with_fields(ours, field), ours, {"f0": 7, "x": value}) is not None) == lost


def test_a_field_before_the_end_counts_whatever_it_holds() -> None:
    """The newer version counts it when it compares two payloads, so that the repeat would be another command."""
    ours = schema("long", ["null", "int"])
    document = json.loads(ours.text)
    document["fields"].insert(1, {"name": "x", "type": "int", "default": 0})
    assert whole(Schema.of(json.dumps(document)), ours, {"f0": 7, "x": 0, "f1": None}) is not None


def test_a_field_whose_default_changed_counts_with_what_was_added_behind_it() -> None:
    ours = with_fields(schema("long"), {"name": "x", "type": "int", "default": 0})
    newer = with_fields(schema("long"), {"name": "x", "type": "int", "default": 1}, MORE)
    assert whole(newer, ours, {"f0": 7, "x": 0, "b": 0}) is not None


def test_an_older_version_is_read_as_ever() -> None:
    ours = with_fields(schema("long"), MORE)
    assert whole(schema("long"), ours, {"f0": 7}) is None


TYPES: list[tuple[Any, Any, st.SearchStrategy[Any]]] = [
    ("int", 0, st.integers(-2, 2)),
    ("string", "", st.sampled_from(["", "x"])),
    ("double", 0.5, st.sampled_from([0.5, 0.0, -0.0])),
    (["null", "long"], None, st.none() | st.integers(0, 1)),
    ({"type": "array", "items": "int"}, [], st.lists(st.integers(0, 1), max_size=2)),
    ({"type": "map", "values": "int"}, {}, st.dictionaries(st.sampled_from("ab"), st.integers(0, 1))),
]


@settings(max_examples=300, deadline=None)
@given(
    st.data(),
    st.lists(st.sampled_from(TYPES), max_size=3),
    st.lists(st.sampled_from(TYPES), min_size=1, max_size=3),
)
def test_what_is_taken_is_known_again_by_the_version_that_wrote_it(
    data: st.DataObject, kept: list[Any], added: list[Any]
) -> None:
    def fields(kinds: list[Any], stem: str) -> list[dict[str, Any]]:
        return [{"name": f"{stem}{at}", "type": each[0], "default": each[1]} for at, each in enumerate(kinds)]

    ours = with_fields(schema("long"), *fields(kept, "k"))
    newer = with_fields(ours, *fields(added, "n"))
    values = {
        f"{stem}{at}": data.draw(each[2])
        for stem, of in (("k", kept), ("n", added))
        for at, each in enumerate(of)
    }
    held = all(values[f"n{at}"] == each[1] for at, each in enumerate(added))
    assert (whole(newer, ours, {"f0": 7, **values}) is None) == held


async def test_a_released_version_that_has_more_than_the_current_one_is_not_cut_down_either() -> None:
    grown = with_fields(CURRENT, optional("venue"))
    messages = {**MARKET, RECORD: replace(MARKET[RECORD], released=(grown,))}
    registry = await registered()
    await register_schemas(registry, MARKET_DATA.topics, {RECORD: replace(MARKET[RECORD], current=grown)})
    codec = await market_codec(registry, messages)
    schema_id = await registry.id_of(subject_of(MARKET_DATA.topics.commands, RECORD), grown.text)
    assert schema_id is not None
    value = prefix_of_id(schema_id) + body(grown, TICK | {"venue": "XNAS"})
    assert isinstance(refused(codec, value), NewerSchema)
    (found,) = codec.decode([value])
    assert isinstance(found, Unreadable)
