"""One declaration of what a field takes gives its JSON Schema and the documentation of its drafted schema."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from pydantic import Field, StringConstraints

from tidemill.api import (
    CleanLabel,
    CleanText,
    Email,
    Json,
    Label,
    PasswordHash,
    checks,
    entity,
    hash_password,
)
from tidemill.catalog.drafts import draft_schema
from tidemill.domain.field_rules import type_words
from tidemill.domain.messages import CommandBase, Message

CODE = re.compile(r"^[A-Z]{3}$")


class Sample(Message):
    """One sample."""

    checks = (checks.Within("time", since=datetime(2000, 1, 1, tzinfo=UTC), ahead=timedelta(minutes=5)),)

    time: datetime = Field(description="When.")
    value: Annotated[float, Field(ge=0, le=1e15)] | None = Field(default=None, description="What.")


class RecordSamples(CommandBase):
    """Record samples."""

    checks = (checks.PlacesIn("columns", "names"), checks.SameLength("columns", "names"), checks.Zoned("at"))

    names: list[Label] = Field(min_length=1, max_length=1_000, description="The columns.")
    columns: list[int] = Field(description="Their places.")
    at: datetime
    samples: list[Sample] = Field(description="The samples.")
    title: CleanLabel = Field(description="A title.")
    note: CleanText | None = Field(default=None, description="A note.")
    mail: Email = Field(description="An address.")
    code: Annotated[str, StringConstraints(pattern=CODE.pattern)] = Field(description="A code.")
    secret: PasswordHash = Field(description="A hash.")
    data: Json = Field(description="Data.")
    half: Annotated[int, Field(gt=0, lt=10, multiple_of=2)] = Field(description="Half.")
    bare: Annotated[int, Field(ge=1)]


SCHEMA = RecordSamples.model_json_schema()
PROPERTIES = SCHEMA["properties"]
DOCS = {field["name"]: field["doc"] for field in draft_schema(RecordSamples, "tests")["fields"]}


def test_what_json_schema_has_no_keyword_for_is_a_sentence_of_the_description() -> None:
    described = {name: schema.get("description") for name, schema in PROPERTIES.items()}
    clean = "No spaces around it, composed (NFC), no control characters"
    assert described["at"] == "With a time zone."
    assert described["columns"] == "Their places. Places in names, from 0. As many as names."
    assert described["title"] == f"A title. {clean}."
    assert described["note"] == f"A note. {clean} but line feeds and tabs."
    assert described["names"] == "The columns."
    time = SCHEMA["$defs"]["Sample"]["properties"]["time"]
    assert time["description"] == "When. Not before 2000-01-01, at most 300 s ahead of the server."
    assert time["format"] == "date-time"


def test_what_json_schema_has_a_keyword_for_is_one() -> None:
    assert PROPERTIES["columns"]["items"] == {"type": "integer", "minimum": 0}
    assert PROPERTIES["mail"]["format"] == "idn-email"
    assert PROPERTIES["code"]["pattern"] == CODE.pattern
    assert (PROPERTIES["names"]["minItems"], PROPERTIES["names"]["maxItems"]) == (1, 1_000)
    assert (PROPERTIES["title"]["minLength"], PROPERTIES["title"]["maxLength"]) == (1, 200)
    value = SCHEMA["$defs"]["Sample"]["properties"]["value"]["anyOf"][0]
    assert (value["minimum"], value["maximum"]) == (0, 1e15)
    assert re.search(PROPERTIES["secret"]["pattern"], hash_password("a password"))


def test_the_documentation_of_a_draft_says_all_of_it_in_words() -> None:
    assert DOCS["names"] == "The columns. 1 to 1,000 items. Each: 1 to 200 characters. No control characters."
    assert DOCS["columns"] == "Their places. Places in names, from 0. As many as names."
    assert DOCS["title"].endswith("no control characters. 1 to 200 characters.")
    assert DOCS["code"] == "A code. Matches ^[A-Z]{3}$."
    assert DOCS["half"] == "Half. Above 0. Below 10. A multiple of 2."
    assert DOCS["data"] == "Data. A JSON object, at most 64 KiB, no key twice."
    (samples,) = (field for field in draft_schema(RecordSamples, "t")["fields"] if field["name"] == "samples")
    docs = {field["name"]: field["doc"] for field in samples["type"]["items"]["fields"]}
    assert docs["value"] == "What. From 0 to 1000000000000000.0."
    assert docs["time"] == "When. Not before 2000-01-01, at most 300 s ahead of the server."


def test_words_of_a_type_do_not_stand_for_a_description_that_is_missing() -> None:
    assert DOCS["bare"] == ""
    assert DOCS["command_id"].startswith("Identifies the command")
    assert "characters" not in DOCS["command_id"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Annotated[str, StringConstraints(min_length=2)], ["At least 2 characters."]),
        (Annotated[list[int], Field(max_length=3)] | None, ["At most 3 items."]),
        (Annotated[int, Field(ge=1)], ["At least 1."]),
        (Annotated[float, Field(le=2.5)] | None, ["At most 2.5."]),
        (tuple[Label, ...], ["Each: 1 to 200 characters. No control characters."]),
        (str, []),
    ],
)
def test_words_of_types(kind: Any, words: list[str]) -> None:
    class One(Message):
        one: kind

    assert type_words(One.model_fields["one"]) == words


def test_the_commands_of_an_entity_have_the_rules_of_its_fields() -> None:
    class Owner(Message):
        """An owner."""

        mail: Email | None = Field(default=None, description="Where mail goes.")

    for command in (entity(Owner).messages.create, entity(Owner).messages.update):
        mail = command.model_json_schema()["properties"]["mail"]
        assert mail["description"] == "Where mail goes. An e-mail address in its usual form."
        assert {"type": "string", "maxLength": 254, "format": "idn-email"} in mail["anyOf"]


def test_a_keyword_refuses_nothing_that_its_check_takes() -> None:
    class Places(Message):
        checks = (checks.PlacesIn("columns", "names"),)
        names: list[str]
        columns: list[int]

    minimum = Places.model_json_schema()["properties"]["columns"]["items"]["minimum"]
    assert Places(names=["a"], columns=[minimum]).columns == [minimum]
    with pytest.raises(ValueError, match="places begin with 0"):
        Places(names=["a"], columns=[minimum - 1])
