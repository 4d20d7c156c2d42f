"""How a lane waits before a command that its owner does not know in full."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Newer(NamedTuple):
    """A command that the lane's owner does not know completely.

    `schema`: its id in the registry, or its fingerprint. `type_name`: the message's full name. `service`: the sender,
    where the record names it. `detail`: what is not known.
    """

    offset: int
    schema: str
    type_name: str
    service: str | None
    detail: str


class Wait(NamedTuple):
    """A lane's wait before a command for an owner that knows all of it; times are the database's.

    `until`: when the command is parked at the latest. `over_at`: since when the lane does not wait any more, whatever
    comes, because that time was over, or an operator said so, for a `reason`.
    """

    newer: Newer
    since: datetime
    until: datetime
    over_at: datetime | None = None
    reason: str | None = None
