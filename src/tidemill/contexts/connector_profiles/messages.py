"""The messages of connector profiles: three commands, three events."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from tidemill.api import CleanKey, CommandBase, EventBase, Label, Secret
from tidemill.contexts.connector_profiles.profile_data import checked

ProfileData = Annotated[str, AfterValidator(checked), Secret.of_credentials(required=False)]
"""The text of a JSON object that PostgreSQL can keep as jsonb; see `profile_data`. Its credentials are secret."""

Version = Annotated[int, Field(ge=1, le=2**63 - 1)]
"""How many events a profile has: 1 after its registration."""


class RegisterConnectorProfile(CommandBase):
    """Register a profile under an id that was never used, and a name that is free within the service."""

    profile_id: CleanKey
    name: Label
    profile_data: ProfileData


class UpdateConnectorProfile(CommandBase):
    """Change a profile's name, its data or both. `expected_version`: only if nothing happened since that version."""

    profile_id: Label
    name: Label | None = None
    profile_data: ProfileData | None = None
    expected_version: Version | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.name is None and self.profile_data is None:
            raise ValueError("nothing to change: give name, profile_data or both")
        return self


class DeactivateConnectorProfile(CommandBase):
    """Take a profile out of use. Its name becomes free, its id does not."""

    profile_id: Label
    expected_version: Version | None = None


class ConnectorProfileRegistered(EventBase):
    """A profile was registered; it belongs to the service that sent the command."""

    profile_id: str
    name: str
    profile_data: str


class ConnectorProfileUpdated(EventBase):
    """A profile changed; fields that are None did not change."""

    profile_id: str
    name: str | None = None
    profile_data: str | None = None


class ConnectorProfileDeactivated(EventBase):
    """A profile is out of use, and its name is free."""

    profile_id: str
