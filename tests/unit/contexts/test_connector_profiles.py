"""The rules of connector profiles, one decision at a time, and the directory that follows their events."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from tidemill.contexts.connector_profiles import context, rules
from tidemill.contexts.connector_profiles.messages import (
    ConnectorProfileDeactivated,
    ConnectorProfileRegistered,
    ConnectorProfileUpdated,
    DeactivateConnectorProfile,
    RegisterConnectorProfile,
    UpdateConnectorProfile,
)
from tidemill.contexts.connector_profiles.read_models import ConnectorEntry, connector_directory
from tidemill.contexts.connector_profiles.state import ConnectorProfile, evolve, held_name
from tidemill.domain.decision import Accepted, Decision, Rejected
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import EventBase
from tidemill.domain.projection import Recorded

NOW = datetime(2026, 11, 21, tzinfo=UTC)
BASE: dict[str, Any] = {"command_id": "c1", "service_name": "feed", "timestamp": NOW, "correlation_id": "x"}
PROFILE = ConnectorProfile(
    id="p1",
    name="main",
    service_name="feed",
    profile_data="{}",
    active=True,
    version=3,
    created_at=NOW,
    updated_at=NOW,
)
GONE = replace(PROFILE, active=False, version=4)


def register(**changes: Any) -> RegisterConnectorProfile:
    return RegisterConnectorProfile(
        **{**BASE, "profile_id": "p1", "name": "main", "profile_data": "{}", **changes}
    )


def update(**changes: Any) -> UpdateConnectorProfile:
    return UpdateConnectorProfile(**{**BASE, "profile_id": "p1", **changes})


def deactivate(**changes: Any) -> DeactivateConnectorProfile:
    return DeactivateConnectorProfile(**{**BASE, "profile_id": "p1", **changes})


def event_of(decision: Decision) -> EventBase:
    assert isinstance(decision, Accepted), decision
    (event,) = decision.events
    return event


# --- register, update, deactivate -------------------------------------------------------------------------------------


def test_a_registration_is_an_event_with_the_commands_words() -> None:
    command = register(profile_data='{"type": "kafka"}')
    event = event_of(rules.register(None, command))
    assert isinstance(event, ConnectorProfileRegistered)
    assert event.model_dump() == command.model_dump()


@pytest.mark.parametrize("profile", [PROFILE, GONE])
def test_an_id_is_given_once(profile: ConnectorProfile) -> None:
    refused = rules.register(profile, register())
    assert refused == Rejected("ALREADY_EXISTS", "profile p1 exists since 2026-11-21T00:00:00+00:00")


@pytest.mark.parametrize("expected", [None, 3])
def test_an_active_profile_is_updated(expected: int | None) -> None:
    event = event_of(rules.update(PROFILE, update(name="other", expected_version=expected)))
    assert event == ConnectorProfileUpdated(**BASE, profile_id="p1", name="other")


@pytest.mark.parametrize("expected", [None, 3])
def test_an_active_profile_is_deactivated(expected: int | None) -> None:
    event = event_of(rules.deactivate(PROFILE, deactivate(expected_version=expected)))
    assert event == ConnectorProfileDeactivated(**BASE, profile_id="p1")


@pytest.mark.parametrize(
    ("profile", "says"),
    [(None, "there is no profile p1"), (GONE, "p1 was deactivated at 2026-11-21T00:00:00")],
)
def test_what_is_not_there_or_not_active_any_more_is_not_found(
    profile: ConnectorProfile | None, says: str
) -> None:
    for refused in (
        rules.update(profile, update(name="x", expected_version=99)),
        rules.deactivate(profile, deactivate()),
    ):
        assert isinstance(refused, Rejected)
        assert refused.code == "NOT_FOUND"
        assert says in refused.message


@pytest.mark.parametrize("expected", [1, 2, 4])
def test_another_version_than_expected_is_a_conflict(expected: int) -> None:
    for refused in (
        rules.update(PROFILE, update(name="x", expected_version=expected)),
        rules.deactivate(PROFILE, deactivate(expected_version=expected)),
    ):
        assert refused == Rejected("VERSION_CONFLICT", f"profile p1 has version 3, not {expected}")


def test_every_code_is_declared() -> None:
    own = {"ALREADY_EXISTS", "NOT_FOUND", "VERSION_CONFLICT"}
    assert context.state is not None
    assert set(context.codes) == own | {unique.code for unique in context.state.unique}


# --- what a command must be -------------------------------------------------------------------------------------------


def test_an_update_changes_something() -> None:
    with pytest.raises(ValidationError, match="nothing to change"):
        update(expected_version=3)


@pytest.mark.parametrize(
    "wrong", [{"profile_id": ""}, {"name": "a\nb"}, {"name": "x" * 201}, {"profile_data": "[]"}]
)
def test_fields_that_break_the_rules(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        register(**wrong)


@pytest.mark.parametrize("version", [0, -1, 2**63])
def test_versions_count_from_one(version: int) -> None:
    with pytest.raises(ValidationError, match="expected_version"):
        deactivate(expected_version=version)


# --- state ------------------------------------------------------------------------------------------------------------


def test_a_profile_lives_through_its_events() -> None:
    assert context.state is not None
    profile = evolve(None, event_of(rules.register(None, register(profile_data='{"a": 1}'))))
    assert profile == ConnectorProfile(
        id="p1", name="main", service_name="feed", profile_data='{"a": 1}', active=True
    )
    renamed = evolve(
        profile, ConnectorProfileUpdated(**{**BASE, "service_name": "ops"}, profile_id="p1", name="b")
    )
    assert renamed == replace(profile, name="b"), "the profile stays its first service's"
    refilled = evolve(renamed, ConnectorProfileUpdated(**BASE, profile_id="p1", profile_data="{}"))
    assert refilled == replace(renamed, profile_data="{}")
    assert evolve(refilled, ConnectorProfileDeactivated(**BASE, profile_id="p1")) == replace(
        refilled, active=False
    )


def test_events_that_cannot_happen_are_not_folded() -> None:
    with pytest.raises(TypeError, match="ConnectorProfileUpdated"):
        evolve(None, ConnectorProfileUpdated(**BASE, profile_id="p1", name="b"))
    with pytest.raises(TypeError, match="ConnectorProfileRegistered"):
        evolve(PROFILE, event_of(rules.register(None, register())))


def test_an_active_profile_holds_its_name_within_its_service() -> None:
    assert held_name(PROFILE) == ("feed", "main")
    assert held_name(GONE) is None


def test_the_states_fields_are_the_tables_columns() -> None:
    assert context.state is not None
    assert [field.name for field in fields(ConnectorProfile)] == [
        column.name for column in context.state.table.columns
    ]


# --- directory --------------------------------------------------------------------------------------------------------


def entry_after(*events: EventBase) -> ConnectorEntry:
    row: ConnectorEntry | None = None
    for sequence, event in enumerate(events, 1):
        row = connector_directory.folds[type(event)](row, Recorded(event, NOW, 0, sequence))
    assert row is not None
    return row


REGISTERED = ConnectorProfileRegistered(
    **BASE, profile_id="p1", name="main", profile_data='{"type": "kafka", "size": 1}'
)


def test_the_directory_follows_the_events() -> None:
    assert entry_after(REGISTERED) == ConnectorEntry(
        profile_id="p1", name="main", service_name="feed", type="kafka", active=True
    )
    renamed = ConnectorProfileUpdated(**BASE, profile_id="p1", name="b")
    retyped = ConnectorProfileUpdated(**BASE, profile_id="p1", profile_data='{"type": "s3"}')
    untyped = ConnectorProfileUpdated(**BASE, profile_id="p1", profile_data='{"type": null}')
    gone = ConnectorProfileDeactivated(**BASE, profile_id="p1")
    assert (entry_after(REGISTERED, renamed).name, entry_after(REGISTERED, renamed).type) == ("b", "kafka")
    assert (entry_after(REGISTERED, retyped).name, entry_after(REGISTERED, retyped).type) == ("main", "s3")
    assert entry_after(REGISTERED, untyped).type is None
    assert not entry_after(REGISTERED, gone).active


def test_a_directory_without_a_beginning_says_so() -> None:
    with pytest.raises(ContractError, match="rebuild it from the first event"):
        entry_after(ConnectorProfileDeactivated(**BASE, profile_id="p1"))


def test_keys_are_the_profiles_id() -> None:
    assert context.key(register()) == "p1"
    assert connector_directory.key is not None
    assert connector_directory.key(REGISTERED) == ("p1",)
