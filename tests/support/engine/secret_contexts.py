"""Contexts with secrets, which no deployment has: doors with a code and settings, houses with rooms."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from tests.support.engine.entity_contexts import Commands
from tidemill.api import Json, Label, Message, Secret
from tidemill.api.entities.declaration import entity, family
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


class House(Message):
    """A house with rooms."""

    name: Label = Field(description="What it is called.")
    alarm: Annotated[Label, Secret()] = Field(description="What silences its alarm.")


class Room(Message):
    """A room of a house."""

    safe: Annotated[Label, Secret()] = Field(description="What opens its safe.")


doors = entity(Door)
houses = entity(House)
rooms = entity(Room, within=houses)
HOUSES = family("houses", houses, rooms, partitions=1)
DOORS = doors.context(partitions=PARTITIONS)
STREAM = Stream.of(DOORS)
door, house, room = Commands(doors), Commands(houses), Commands(rooms)

OLD, NEW = MasterKey("old", bytes(range(32))), MasterKey("new", bytes(range(1, 33)))
OLD_ONLY, BOTH, NEW_ONLY = MasterKeys([OLD]), MasterKeys([NEW, OLD]), MasterKeys([NEW])


def settings(**members: Any) -> str:
    """Return the text of a door's settings."""
    return json.dumps(members)
