"""What may be declared secret, and how a declaration is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import Field

from tests.support.engine.secret_contexts import DOORS, STREAM
from tidemill.api import (
    ContractError,
    Json,
    Label,
    Message,
    Secret,
    accepted,
    append,
    decide,
    fact_table,
)
from tidemill.api.entities.declaration import entity
from tidemill.api.entities.options import refers, unique
from tidemill.contexts.connector_profiles import context as profiles
from tidemill.domain.context import secrets_declared
from tidemill.domain.messages import CommandBase, EventBase
from tidemill.domain.secrets import CREDENTIALS, secret_fields, secrets_of
from tidemill.domain.stream import Stream


def model(kind: Any) -> type[Message]:
    return type(
        "Thing",
        (Message,),
        {"__doc__": "A thing.", "__annotations__": {"x": kind}, "x": Field(description="x")},
    )


@pytest.mark.parametrize(
    "kind", [Annotated[Label, Secret()], Annotated[Label | None, Secret()], Annotated[Label, Secret()] | None]
)
def test_a_declaration_is_found_wherever_it_is_written(kind: Any) -> None:
    assert secrets_of(model(kind)) == {"x": Secret()}


def test_an_entity_carries_it_to_its_commands_and_a_stream_knows_it() -> None:
    secrets = {spec.model.__name__: sorted(secrets_of(spec.model)) for spec in DOORS.commands}
    assert secrets == {
        "CreateDoor": ["code", "settings"],
        "UpdateDoor": ["code", "settings"],
        "DeleteDoor": [],
    }
    assert {name: sorted(fields) for name, fields in STREAM.secrets.items()} == {
        "doors": ["code", "settings"]
    }


def test_the_credentials_of_profiles_are_secret_where_there_are_keys() -> None:
    assert Stream.of(profiles).secrets == {
        "connector_profiles": {"profile_data": Secret(CREDENTIALS, required=False)}
    }


@pytest.mark.parametrize(
    "option",
    [
        {"unique": (unique("x"),)},
        {"unique": (unique("x", ignore_case=True),)},
        {"refers": (refers("x", to="others", code="NO"),)},
    ],
)
def test_what_compares_ciphertexts_is_refused(option: Any) -> None:
    made = entity(model(Annotated[Label, Secret()]), **option)
    with pytest.raises(ContractError, match=r"things.x is secret: it can be neither unique nor a reference"):
        made.context()


def test_only_a_text_can_be_secret() -> None:
    with pytest.raises(ContractError, match=r"CreateThing.x is secret: it must be a text, not"):
        entity(model(Annotated[int, Secret()])).context()


def test_a_member_of_json_may_be_secret_beside_members_that_are_not() -> None:
    assert entity(model(Annotated[Json, Secret(("password",))])).context().state is not None


def test_an_event_has_room_for_a_ciphertext() -> None:
    class Short(EventBase):
        """An event with a rule."""

        code: Label

    assert DOORS.state is not None
    state = replace(DOORS.state, events=(Short,))
    with pytest.raises(ContractError, match=r"Short.code holds a ciphertext, so it has to be str"):
        secret_fields([(DOORS.commands[0].model, state)])


def test_two_commands_declare_it_alike() -> None:
    class Other(CommandBase):
        """Another command of doors."""

        door_id: Label
        code: Annotated[Label, Secret(required=False)]

    spec = replace(DOORS.commands[0], model=Other)
    with pytest.raises(ContractError, match=r"Other.code: another command declares it secret in another way"):
        replace(DOORS, commands=(*DOORS.commands, spec))


@pytest.mark.parametrize("decided", [False, True])
def test_facts_have_no_row_whose_key_could_be_erased(decided: bool) -> None:
    class Record(CommandBase):
        """A fact."""

        x: Annotated[Label, Secret()]

    class Recorded(EventBase):
        """A fact."""

        x: str

    table = fact_table("facts", Record)
    appended = append(Record, into=table, event=Recorded)
    spec = decide(Record, lambda *_: accepted(), into=table) if decided else appended
    with pytest.raises(ContractError, match=r"Record.x is secret, but appended facts"):
        secrets_declared([spec], ())
