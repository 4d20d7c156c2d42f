"""The event that is made from its command: the same fields, without what they demand."""

from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from tidemill.api import CommandBase, ContractError, Label, Message, checks, fact_event
from tidemill.catalog.drafts import draft_schema
from tidemill_devkit.testing import sample


class Weight(Message):
    """One weight."""

    checks = (checks.NotBelow("grams", "tare"),)

    grams: Annotated[int, Field(ge=0)] = Field(description="What it weighs.")
    tare: int = Field(default=0, description="What is taken off.")


class Weigh(CommandBase):
    """Weigh several things."""

    scale: Label = Field(description="The scale.")
    weights: list[Weight] = Field(min_length=1, description="What it showed.")


Weighed = fact_event("Weighed", Weigh, "Things were weighed.")


def test_an_event_has_the_fields_of_its_command_in_their_order() -> None:
    assert list(Weighed.model_fields) == list(Weigh.model_fields)
    assert (Weighed.__name__, Weighed.__doc__) == ("Weighed", "Things were weighed.")
    command = sample(Weigh, scale="s", weights=[{"grams": 3}])
    assert Weighed.of(command).model_dump() == command.model_dump()


def test_an_event_stays_readable_when_a_rule_becomes_stricter() -> None:
    wrong = {"scale": "", "weights": [{"grams": -1, "tare": 5}]}
    with pytest.raises(ValidationError):
        sample(Weigh, **wrong)
    assert sample(Weighed, **wrong).model_dump()["weights"] == [{"grams": -1, "tare": 5}]
    assert sample(Weighed, scale="s", weights=[]).model_dump()["weights"] == []


def test_schemas_of_command_and_event_differ_in_nothing_but_their_name() -> None:
    command, event = draft_schema(Weigh, "a"), draft_schema(Weighed, "a")
    items = [each["fields"][-1]["type"]["items"] for each in (command, event)]
    assert [item["name"] for item in items] == ["Weight", "Weight"]
    assert [field["name"] for field in items[0]["fields"]] == [field["name"] for field in items[1]["fields"]]


def test_an_event_says_what_happened() -> None:
    with pytest.raises(ContractError, match="Nothing: its doc does not say what happened"):
        fact_event("Nothing", Weigh, " ")
