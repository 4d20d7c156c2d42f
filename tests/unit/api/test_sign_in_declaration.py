"""Who may sign in is declared with fields that suit it, or not at all."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import create_model

from tests.support.engine.sign_in_contexts import members
from tidemill.api import (
    ContractError,
    Json,
    Label,
    Message,
    PasswordHash,
    Secret,
    SignInColumns,
    entity,
    unique,
)
from tidemill.contexts.users import users

FIELDS: dict[str, Any] = {
    "login": Label,
    "pin": Annotated[PasswordHash, Secret()],
    "on": (bool, True),
}
BY_LOGIN = unique("login", ignore_case=True)


def declared(*uniques: Any, fields: dict[str, Any] | None = None) -> SignInColumns | None:
    model = create_model("Guest", __base__=Message, **(FIELDS | (fields or {})))
    sign_in = SignInColumns("login", "pin", active="on")
    return entity(model, unique=uniques or (BY_LOGIN,), sign_in=sign_in).state.sign_in


def test_a_state_keeps_who_may_sign_in() -> None:
    assert declared() == SignInColumns("login", "pin", "on")
    assert users.state.sign_in == SignInColumns("username", "hashed_password", "is_active")


def test_the_column_that_is_looked_up_is_the_one_that_is_unique() -> None:
    assert members.state.sign_in is not None
    assert (members.state.sign_in.folded_name,) == members.state.unique[0].columns


@pytest.mark.parametrize(
    "uniques",
    [(unique("login"),), (unique("login", "on", ignore_case=True),), (unique("pin"),)],
    ids=["with regard to case", "together with another field", "another field"],
)
def test_a_name_that_two_accounts_could_have_is_refused(uniques: tuple[Any, ...]) -> None:
    demand = r'Guest\.login is for signing in: it must be unique .*: unique\("login", ignore_case=True\)'
    with pytest.raises(ContractError, match=demand):
        declared(*uniques)


@pytest.mark.parametrize(
    ("field", "kind", "demand"),
    [
        ("pin", PasswordHash, "must be encrypted"),
        ("pin", Annotated[Json, Secret(("password",))], "must be encrypted"),
        ("pin", (Annotated[PasswordHash, Secret()] | None, None), "must not be null"),
        ("on", (bool | None, None), "must be true or false"),
        ("on", Label, "must be true or false"),
    ],
)
def test_a_field_that_does_not_suit_is_refused(field: str, kind: Any, demand: str) -> None:
    with pytest.raises(ContractError, match=rf"Guest\.{field} is for signing in: it {demand}"):
        declared(fields={field: kind})
