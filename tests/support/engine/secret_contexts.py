"""A context with secrets, which no deployment has: doors with a code, and a vault of settings."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from tests.support.engine.entity_contexts import Commands
from tidemill.api import Json, Label, Message, Secret
from tidemill.api.entities.declaration import entity
from tidemill.domain.stream import Stream
from tidemill.security.master_keys import MasterKey, MasterKeys

PARTITIONS = 4


class Door(Message):
    """A door that a code opens."""

    name: Label = Field(description="What is written on it.")
    code: Annotated[Label, Secret()] = Field(description="What opens it.")
    settings: Annotated[Json, Secret(("password", "oauth.token"))] | None = Field(
        default=None, description="How its lock is reached."
    )


doors = entity(Door)
DOORS = doors.context(partitions=PARTITIONS)
STREAM = Stream.of(DOORS)
door = Commands(doors)

OLD, NEW = MasterKey("old", bytes(range(32))), MasterKey("new", bytes(range(1, 33)))
OLD_ONLY, BOTH, NEW_ONLY = MasterKeys([OLD]), MasterKeys([NEW, OLD]), MasterKeys([NEW])


def settings(**members: Any) -> str:
    """Return the text of a door's settings."""
    return json.dumps(members)
