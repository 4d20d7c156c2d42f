"""The directory of connectors: their services and types, without the data itself.

All events of a profile are in one lane, so their order there is the order in which they happened.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.api import ContractError, Projection, ReadModelBase, Recorded, row_table
from tidemill.contexts.connector_profiles.messages import (
    ConnectorProfileDeactivated,
    ConnectorProfileRegistered,
    ConnectorProfileUpdated,
)
from tidemill.contexts.connector_profiles.profile_data import type_of


@dataclass(slots=True, kw_only=True)
class ConnectorEntry(ReadModelBase):
    """A connector as readers see it; `type` is the member of that name in its data."""

    profile_id: str
    name: str
    service_name: str
    type: str | None
    active: bool


def enter(row: ConnectorEntry | None, told: Recorded[ConnectorProfileRegistered]) -> ConnectorEntry:
    """Enter a connector that was registered."""
    del row  # an id is registered once
    event = told.event
    return ConnectorEntry(
        profile_id=event.profile_id,
        name=event.name,
        service_name=event.service_name,
        type=type_of(event.profile_data),
        active=True,
    )


def correct(row: ConnectorEntry | None, told: Recorded[ConnectorProfileUpdated]) -> ConnectorEntry:
    """Update the changed fields."""
    entry = _known(row, told.event.profile_id)
    if told.event.name is not None:
        entry.name = told.event.name
    if told.event.profile_data is not None:
        entry.type = type_of(told.event.profile_data)
    return entry


def strike_out(row: ConnectorEntry | None, told: Recorded[ConnectorProfileDeactivated]) -> ConnectorEntry:
    """Mark a connector as out of use; it stays in the directory."""
    entry = _known(row, told.event.profile_id)
    entry.active = False
    return entry


def _known(row: ConnectorEntry | None, profile_id: str) -> ConnectorEntry:
    if row is None:
        raise ContractError(
            f"the directory has no {profile_id}, yet an event changes it: rebuild it from the first event"
        )
    return row


connector_directory = Projection(
    name="connector-directory",
    row=ConnectorEntry,
    table=row_table("connector_directory", ConnectorEntry, key="profile_id"),
    key=lambda event: (event.profile_id,),
    folds={
        ConnectorProfileRegistered: enter,
        ConnectorProfileUpdated: correct,
        ConnectorProfileDeactivated: strike_out,
    },
)
