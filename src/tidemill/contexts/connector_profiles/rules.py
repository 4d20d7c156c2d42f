"""The rules of connector profiles: pure functions of a profile and a command.

That a name is free is declared (`Unique`) and checked by the engine, which knows the names of the other profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tidemill.api import Decision, Rejected, accepted, rejected
from tidemill.contexts.connector_profiles.messages import (
    ConnectorProfileDeactivated,
    ConnectorProfileRegistered,
    ConnectorProfileUpdated,
    DeactivateConnectorProfile,
    RegisterConnectorProfile,
    UpdateConnectorProfile,
)
from tidemill.contexts.connector_profiles.state import ConnectorProfile

CODES: Final[Mapping[str, str]] = {
    "ALREADY_EXISTS": "an id is used once, also after deactivation: choose another profile_id",
    "NAME_TAKEN": "another active profile of the service has this name: choose another, or deactivate that one",
    "NOT_FOUND": "no active profile has this id: register it, or correct profile_id",
    "VERSION_CONFLICT": "the profile changed since expected_version: read it again, then decide again",
}


def register(profile: ConnectorProfile | None, command: RegisterConnectorProfile) -> Decision:
    """Accept an id that was never used."""
    if profile is not None:
        since = profile.created_at.isoformat(timespec="seconds")
        return rejected("ALREADY_EXISTS", f"profile {command.profile_id} exists since {since}")
    return accepted(ConnectorProfileRegistered.of(command))


def update(profile: ConnectorProfile | None, command: UpdateConnectorProfile) -> Decision:
    """Accept a change of an active profile that its sender has read in its present version."""
    return _refusal(profile, command) or accepted(ConnectorProfileUpdated.of(command))


def deactivate(profile: ConnectorProfile | None, command: DeactivateConnectorProfile) -> Decision:
    """Accept the end of an active profile that its sender has read in its present version."""
    return _refusal(profile, command) or accepted(ConnectorProfileDeactivated.of(command))


def _refusal(
    profile: ConnectorProfile | None, command: UpdateConnectorProfile | DeactivateConnectorProfile
) -> Rejected | None:
    if profile is None:
        return Rejected("NOT_FOUND", f"there is no profile {command.profile_id}")
    if not profile.active:
        since = profile.updated_at.isoformat(timespec="seconds")
        return Rejected("NOT_FOUND", f"profile {command.profile_id} was deactivated at {since}")
    if command.expected_version not in (None, profile.version):
        return Rejected(
            "VERSION_CONFLICT",
            f"profile {command.profile_id} has version {profile.version}, not {command.expected_version}",
        )
    return None
