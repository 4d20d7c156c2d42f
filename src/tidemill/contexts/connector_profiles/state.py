"""A profile in the database, and how events create and change it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from sqlalchemy.dialects.postgresql import JSONB

from tidemill.api import EventBase, gin, member, row_table
from tidemill.contexts.connector_profiles.messages import (
    ConnectorProfileDeactivated,
    ConnectorProfileRegistered,
    ConnectorProfileUpdated,
)

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ConnectorProfile:
    """A row of `connector_profiles`. `profile_data` is JSON text; the engine fills the last three fields."""

    id: str
    name: str
    service_name: str
    profile_data: Annotated[str, JSONB()]
    active: bool
    version: int = 0
    created_at: datetime = _NEVER
    updated_at: datetime = _NEVER


connector_profiles = row_table(
    "connector_profiles",
    ConnectorProfile,
    key="id",
    index=(
        gin("profile_data", name="connector_profiles_data"),
        member("profile_data", "type", name="connector_profiles_type"),
    ),
)


def evolve(profile: ConnectorProfile | None, event: EventBase) -> ConnectorProfile:
    """Return the profile after the event."""
    match event, profile:
        case ConnectorProfileRegistered(), None:
            return ConnectorProfile(
                id=event.profile_id,
                name=event.name,
                service_name=event.service_name,
                profile_data=event.profile_data,
                active=True,
            )
        case ConnectorProfileUpdated(), ConnectorProfile():
            return replace(
                profile,
                name=profile.name if event.name is None else event.name,
                profile_data=profile.profile_data if event.profile_data is None else event.profile_data,
            )
        case ConnectorProfileDeactivated(), ConnectorProfile():
            return replace(profile, active=False)
    raise TypeError(f"{type(event).__name__} cannot happen to {profile}")


def held_name(profile: ConnectorProfile) -> tuple[str, str] | None:
    """Return the name that a profile holds for itself within its service; deactivation frees it."""
    return (profile.service_name, profile.name) if profile.active else None
