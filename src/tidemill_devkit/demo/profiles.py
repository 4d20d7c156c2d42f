"""The plan's part about connector profiles: a life of each kind, and every rejection of its rules.

Names are unique across profiles, and profiles of different lanes are processed concurrently. What depends on another
profile's name is therefore done within one lane; a client that works across lanes would wait for the outcome.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import Any, Final

from tidemill.contexts.connector_profiles.messages import (
    DeactivateConnectorProfile,
    RegisterConnectorProfile,
    UpdateConnectorProfile,
)
from tidemill.domain.messages import CommandBase
from tidemill.domain.partitioner import partition_of
from tidemill_devkit.demo.records import Planned, applied, cut_short, parked, rejected

PROFILES: Final = "connector-profiles"
SERVICE: Final = "connector-admin"

DIRECTORY: Final = {
    "Market feed": True,
    "Market feed (primary)": True,
    "Corporate actions": True,
    "Corporate actions (retired)": False,
    "Archive drop": True,
}
"""The expected connector directory at the end: name -> active."""


def profile_records(now: datetime, lanes: int) -> list[Planned]:
    """Return the records in order. `now`: the timestamp of the commands; `lanes`: of the aggregate."""
    return list(_Story(now, lanes).records())


class _Story:
    def __init__(self, now: datetime, lanes: int) -> None:
        self._now = now
        self._numbers = count(1)
        self._lanes = lanes

    def records(self) -> Iterator[Planned]:
        """Yield the commands of two clients for five profiles; the second one does not always read first."""
        feed, backup, actions, successor, drop = self._neighbours(
            "feed", "backup", "actions", "successor", "drop"
        )
        first = applied(
            PROFILES, self._register(feed, "Market feed", type="websocket", url="wss://feed.example")
        )
        yield first
        yield applied(PROFILES, self._register(actions, "Corporate actions", type="sftp"))
        yield applied(PROFILES, self._register(drop, "Archive drop", type="s3", bucket="archive"))
        yield first.again()
        yield self._reused_id(first)
        yield rejected(PROFILES, self._register(feed, "Another feed", type="rest"), "ALREADY_EXISTS")
        yield rejected(PROFILES, self._register(backup, "Market feed", type="rest"), "NAME_TAKEN")
        renamed = self._update(feed, name="Market feed (primary)", expected_version=1)
        yield applied(PROFILES, renamed)
        yield applied(PROFILES, self._register(backup, "Market feed", type="rest"))  # the old name is free
        stale = self._update(feed, profile_data=_data(type="rest"), expected_version=1)
        yield rejected(PROFILES, stale, "VERSION_CONFLICT")
        yield rejected(PROFILES, self._update("nobody", name="Nobody's feed"), "NOT_FOUND")
        yield applied(PROFILES, self._update(actions, name="Corporate actions (retired)"))
        yield applied(PROFILES, self._deactivate(actions))
        yield rejected(PROFILES, self._update(actions, name="Corporate actions II"), "NOT_FOUND")
        yield applied(PROFILES, self._register(successor, "Corporate actions", type="sftp"))
        yield from self._mistakes(drop)

    def _mistakes(self, profile_id: str) -> Iterator[Planned]:
        no_json = UpdateConnectorProfile.model_construct(
            **self._base(), profile_id=profile_id, profile_data="{type: s3}"
        )
        yield rejected(PROFILES, no_json, "INVALID")
        elsewhere = rejected(PROFILES, self._update(profile_id, name="Elsewhere"), "WRONG_KEY")
        yield replace(elsewhere, key=f"profile/{profile_id}")
        yield parked(PROFILES, self._update(profile_id, name="Cut short"), "MALFORMED", cut_short)

    def _neighbours(self, *stems: str) -> list[str]:
        """Return an id for each stem, all of one lane."""
        home = self._lane(stems[0])
        return [
            next(name for number in count(1) if self._lane(name := _numbered(stem, number)) == home)
            for stem in stems
        ]

    def _lane(self, profile_id: str) -> int:
        return partition_of(profile_id.encode(), self._lanes)

    def _reused_id(self, first: Planned) -> Planned:
        other = first.command.model_copy(update={"name": "Not the same"})
        return rejected(PROFILES, other, "ID_REUSE")

    def _register(self, profile_id: str, name: str, **data: str) -> CommandBase:
        return RegisterConnectorProfile(
            **self._base(), profile_id=profile_id, name=name, profile_data=_data(**data)
        )

    def _update(self, profile_id: str, **changes: Any) -> CommandBase:
        return UpdateConnectorProfile(**self._base(), profile_id=profile_id, **changes)

    def _deactivate(self, profile_id: str) -> CommandBase:
        return DeactivateConnectorProfile(**self._base(), profile_id=profile_id)

    def _base(self) -> dict[str, Any]:
        return {
            "command_id": f"step-{next(self._numbers)}",
            "service_name": SERVICE,
            "timestamp": self._now,
        }


def _data(**members: str) -> str:
    return json.dumps(members)


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"
