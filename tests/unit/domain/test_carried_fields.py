"""An event that takes its command's values without validation equals the one that validates them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field, PrivateAttr, StringConstraints, field_validator

from tidemill.domain.carried_fields import changed_message, left_out_by, unvalidated
from tidemill.domain.checks import NotBelow
from tidemill.domain.messages import CommandBase, EventBase, Label

BASE: dict[str, Any] = {
    "command_id": "c1",
    "service_name": "s",
    "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
}


class Enlarge(CommandBase):
    """A command with rules."""

    box_id: Label
    expected_version: int | None = None
    size: Annotated[float, Field(ge=1)] = 1.0
    notes: list[Annotated[str, StringConstraints(max_length=9)]] = Field(default=[])
    lid: Annotated[bool, AfterValidator(bool)] | None = None


class Enlarged(EventBase):
    """Its event, without the rules."""

    box_id: str
    size: float
    notes: list[str]
    lid: bool | None


COMMAND = Enlarge(**BASE, box_id="b1", expected_version=4, size=2.5, notes=["a"], lid=True)


def test_an_event_equals_the_validated_one_in_all_that_can_be_seen_of_it() -> None:
    assert left_out_by(Enlarged, Enlarge) == ("expected_version",)
    event = Enlarged.of(COMMAND)
    fields = {name: getattr(COMMAND, name) for name in Enlarged.model_fields}
    validated = Enlarged.model_validate(fields)
    assert (event, repr(event), list(vars(event))) == (validated, repr(validated), list(vars(validated)))
    assert event.model_fields_set == validated.model_fields_set
    assert event.model_dump_json() == validated.model_dump_json()
    assert event.model_copy(update={"size": 3.0}).size == 3.0
    with pytest.raises(ValueError, match="frozen"):
        event.size = 3.0  # type: ignore[misc]  # that it is refused is the test
    assert COMMAND.expected_version == 4


def event_of(**fields: Any) -> type[EventBase]:
    """Return an event of the command with other types of some fields; None: the field is missing."""
    kinds = {"box_id": str, "size": float, "notes": list[str], "lid": bool | None} | fields
    namespace = {name: kind for name, kind in kinds.items() if kind is not None}
    return type("Other", (EventBase,), {"__annotations__": namespace, "__module__": __name__})


class Inner(BaseModel):
    """A record."""


@pytest.mark.parametrize(
    "kinds",
    [
        {"size": int},
        {"size": Decimal},
        {"lid": bool},
        {"box_id": Annotated[str, StringConstraints(max_length=1)]},
        {"box_id": Label | None, "lid": None},
        {"notes": list[Annotated[str, StringConstraints(max_length=1)]]},
        {"notes": list[int]},
        {"notes": list[Inner]},
        {"colour": str},
    ],
    ids=str,
)
def test_other_types_and_rules_are_validated(kinds: dict[str, Any]) -> None:
    assert left_out_by(event_of(**kinds), Enlarge) is None


def test_a_wider_type_takes_the_value() -> None:
    assert left_out_by(event_of(box_id=str | None, lid=None), Enlarge) == ("expected_version", "lid")


def test_fields_in_another_order_are_validated() -> None:
    other = type("Other", (EventBase,), {"__annotations__": {"size": float, "box_id": str}})
    assert left_out_by(other, Enlarge) is None


class Checked(Enlarged):
    """An event with a validator."""

    @field_validator("box_id")
    @classmethod
    def longer(cls, text: str) -> str:
        return f"{text}!"


class Declared(Enlarged):
    """An event with a declared check."""

    checks = (NotBelow("size", "size"),)


class Private(Enlarged):
    """An event with an attribute of its own."""

    _seen: int = PrivateAttr(default=7)


class Open(Enlarged, extra="allow"):
    """An event that takes any field."""


@pytest.mark.parametrize("event", [Checked, Declared, Private, Open])
def test_classes_with_rules_of_their_own_make_their_events_themselves(event: type[Enlarged]) -> None:
    assert left_out_by(event, Enlarge) is None


def test_a_validator_of_an_event_is_called() -> None:
    assert Checked.of(COMMAND).box_id == "b1!"


def test_a_changed_message_equals_that_of_pydantic_and_leaves_the_other() -> None:
    event = Enlarged.of(COMMAND)
    assert changed_message(event, {"box_id": "b2"}) == event.model_copy(update={"box_id": "b2"})
    assert event.box_id == "b1"
    private = Private.of(COMMAND)
    assert changed_message(private, {"box_id": "b2"})._seen == 7


def test_two_messages_do_not_share_what_they_were_made_of() -> None:
    one, other = (unvalidated(Enlarged, dict(vars(Enlarged.of(COMMAND)))) for _ in range(2))
    assert one.model_fields_set is not other.model_fields_set
    assert vars(one) is not vars(other)
