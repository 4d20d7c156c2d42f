"""Connector profiles: how a service reaches a source; each has a permanent id, and a name while it is active."""

from tidemill.api import Context, Crud, State, Unique, decide
from tidemill.contexts.connector_profiles import rules
from tidemill.contexts.connector_profiles.messages import (
    ConnectorProfileDeactivated,
    ConnectorProfileRegistered,
    ConnectorProfileUpdated,
    DeactivateConnectorProfile,
    RegisterConnectorProfile,
    UpdateConnectorProfile,
)
from tidemill.contexts.connector_profiles.read_models import connector_directory
from tidemill.contexts.connector_profiles.state import ConnectorProfile, connector_profiles, evolve, held_name

context = Context(
    aggregate="connector-profiles",
    key=lambda command: command.profile_id,
    commands=(
        decide(RegisterConnectorProfile, rules.register),
        decide(UpdateConnectorProfile, rules.update),
        decide(DeactivateConnectorProfile, rules.deactivate),
    ),
    state=State(
        model=ConnectorProfile,
        table=connector_profiles,
        key="id",
        evolve=evolve,
        events=(ConnectorProfileRegistered, ConnectorProfileUpdated, ConnectorProfileDeactivated),
        unique=(
            Unique(
                columns=("service_name", "name"),
                of=held_name,
                code="NAME_TAKEN",
                constraint="connector_profiles_active_name",
                where=connector_profiles.c.active,
            ),
        ),
        http=Crud(
            create=RegisterConnectorProfile,
            update=UpdateConnectorProfile,
            delete=DeactivateConnectorProfile,
            key="profile_id",
        ),
    ),
    projections=(connector_directory,),
    codes=rules.CODES,
)
