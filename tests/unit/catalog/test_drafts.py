"""Drafting a schema from a class, and telling where the two differ."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from tests.support.engine.streams import CONTEXTS, messages_of
from tidemill.catalog.avro import Record, parse
from tidemill.catalog.drafts import draft_schema, out_of_step, schema_text
from tidemill.catalog.fingerprints import layout
from tidemill.catalog.lint import breaches
from tidemill.domain.context import Context
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import CommandBase, Label
from tidemill.runtime.resources import schemas_dir


class Quality(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Place(BaseModel):
    """Where it was measured."""

    name: str


class RecordReading(CommandBase):
    """Record what a sensor read.

    Two readings of one instant are two readings.
    """

    sensor: Label = Field(description="The sensor.")
    value: float
    count: int = 1
    day: date
    exact: Annotated[Decimal, Field(ge=0, max_digits=9, decimal_places=3)]
    quality: Quality
    worst: Quality | None = None
    places: list[Place]
    home: Place
    tags: dict[str, str]
    raw: bytes
    on: bool


def test_every_type_has_its_avro_form() -> None:
    drafted = draft_schema(RecordReading, "plant.sensors")
    kinds = {field["name"]: field["type"] for field in drafted["fields"]}
    quality = {"type": "enum", "name": "Quality", "symbols": ["good", "bad"], "default": "good"}
    place_fields = [{"name": "name", "type": "string", "doc": ""}]
    place = {"type": "record", "name": "Place", "doc": "Where it was measured.", "fields": place_fields}
    assert kinds == {
        "command_id": "string",
        "service_name": "string",
        "timestamp": {"type": "long", "logicalType": "timestamp-micros"},
        "correlation_id": ["null", "string"],
        "sensor": "string",
        "value": "double",
        "count": "long",
        "day": {"type": "int", "logicalType": "date"},
        "exact": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3},
        "quality": quality,
        "worst": ["null", "Quality"],
        "places": {"type": "array", "items": place},
        "home": "Place",
        "tags": {"type": "map", "values": "string"},
        "raw": "bytes",
        "on": "boolean",
    }
    assert out_of_step(RecordReading, tree(drafted)) == []


def test_docs_come_from_the_class_and_the_rest_is_for_a_person() -> None:
    drafted = draft_schema(RecordReading, "plant.sensors")
    assert drafted["doc"] == "Record what a sensor read.\n\nTwo readings of one instant are two readings."
    documented = [field["name"] for field in drafted["fields"] if field["doc"]]
    assert documented == ["command_id", "service_name", "timestamp", "correlation_id", "sensor"]
    faults = breaches(tree(drafted))
    assert {code for code, _ in faults} == {"UNDOCUMENTED"}
    assert any("value: say in `doc`" in text for _, text in faults)


def test_defaults_are_kept() -> None:
    defaults = {
        field["name"]: field["default"]
        for field in draft_schema(RecordReading, "")["fields"]
        if "default" in field
    }
    assert defaults == {"correlation_id": None, "count": 1, "worst": None}


@pytest.mark.parametrize("context", CONTEXTS, ids=lambda context: context.name)
def test_a_draft_of_a_built_in_class_is_its_schema(context: Context) -> None:
    messages = messages_of(context.name)
    for spec in context.commands:
        drafted = tree(draft_schema(spec.model, context.avro_namespace))
        assert layout(drafted) == messages[drafted.name].current.layout


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (Decimal, "max_digits"),
        (int | str, "one type and None"),
        (Literal["a"], "no Avro form"),
        (object, "no Avro form"),
        (dict[int, str], "no Avro form"),
    ],
)
def test_what_has_no_form_is_named(annotation: Any, why: str) -> None:
    model: type[BaseModel] = create_model("Odd", odd=(annotation, ...))
    with pytest.raises(ContractError, match=rf"Odd.odd: .*{why}"):
        draft_schema(model, "")


def test_the_text_of_a_schema_is_the_schema() -> None:
    for path in schemas_dir().glob("*/*/*.avsc"):
        document = json.loads(path.read_text())
        assert json.loads(schema_text(document)) == document
        assert max(map(len, schema_text(document).splitlines())) < 300


def tree(document: dict[str, Any]) -> Record:
    parsed = parse(document)
    assert isinstance(parsed, Record)
    return parsed


class Small(BaseModel):
    a: int
    b: float
    c: datetime | None = None


def small(*fields: tuple[str, Any]) -> Record:
    return tree({"type": "record", "name": "Small", "fields": [{"name": n, "type": t} for n, t in fields]})


TIME = {"type": "long", "logicalType": "timestamp-micros"}


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ([("a", "long"), ("b", "double"), ("c", ["null", TIME])], None),
        ([("a", "int"), ("b", "float"), ("c", ["null", TIME])], None),
        ([("a", "long"), ("b", "double")], "has the fields a, b, c; the schema has a, b"),
        ([("b", "double"), ("a", "long"), ("c", ["null", TIME])], "has the fields a, b, c"),
        ([("a", "double"), ("b", "double"), ("c", ["null", TIME])], "Small.a"),
        ([("a", ["null", "long"]), ("b", "double"), ("c", ["null", TIME])], "Small.a"),
        ([("a", "long"), ("b", "double"), ("c", TIME)], "Small.c"),
        ([("a", "long"), ("b", "double"), ("c", ["null", "long"])], "Small.c"),
    ],
)
def test_differences_are_found(fields: list[tuple[str, Any]], difference: str | None) -> None:
    found = out_of_step(Small, small(*fields))
    assert (found == []) if difference is None else (difference in found[0])
