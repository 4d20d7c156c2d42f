"""What HTTP may send of a context, refused at start where it could not work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidemill.contexts.client_configs import client_configs
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.contexts.users import context as users
from tidemill.domain.collection import Crud
from tidemill.domain.errors import ContractError


def test_an_entity_has_its_verbs_by_itself() -> None:
    (state,) = users.states
    assert state.view is not None
    for table in (state.table, state.view.table):
        crud = users.crud_of(table)
        assert [model.__name__ for model in crud.commands] == ["CreateUser", "UpdateUser", "DeleteUser"]
        assert (crud.key, crud.match, crud.clear, crud.reused) == (
            "user_id",
            "expected_version",
            "clear",
            False,
        )
    assert client_configs.state.http is not None


def test_facts_have_what_their_context_declares() -> None:
    (spec,) = market_data.commands
    assert spec.appends_to is not None
    assert market_data.crud_of(spec.appends_to) == Crud(create=RecordMarketData)
    assert replace(market_data, http=None).crud_of(spec.appends_to) == Crud()
    assert market_data.crud_of(users.states[0].table) == Crud()


def test_a_command_of_another_context_is_refused() -> None:
    with pytest.raises(ContractError, match="does not accept RecordMarketData"):
        replace(connector_profiles, http=Crud(create=RecordMarketData))


@pytest.mark.parametrize("changes", [{"key": "no_such"}, {"match": "no_such"}, {"clear": "no_such"}])
def test_a_field_that_a_command_lacks_is_refused(changes: dict[str, str]) -> None:
    state = connector_profiles.state
    assert state is not None
    assert state.http is not None
    with pytest.raises(ContractError, match="has no field no_such"):
        replace(connector_profiles, state=replace(state, http=replace(state.http, **changes)))  # type: ignore[arg-type]
