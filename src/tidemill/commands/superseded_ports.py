"""What the removal of superseded facts needs of the database: a part of the ports of the intake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tidemill.domain.read_view import CurrentFacts
from tidemill.domain.state import State


class OwnerOfFacts(NamedTuple):
    """A row that owns facts in revisions; `has_superseded`: some of them can never be current again."""

    key: str
    has_superseded: bool


class SupersededOwners(Protocol):
    """Who has facts that may be removed, outside of any transaction."""

    async def owners_of_superseded(
        self, facts: CurrentFacts, owner: State, after: str, limit: int
    ) -> list[OwnerOfFacts]:
        """Return the next `limit` rows of a state by their keys, and whether each has facts that may be removed."""
        ...


class SupersededWork(Protocol):
    """The removal, in a transaction that holds the lanes of the owners."""

    async def remove_superseded(
        self, facts: CurrentFacts, owner: State, keys: Sequence[str], limit: int
    ) -> dict[str, int]:
        """Delete at most `limit` facts of these owners whose revision cannot be current again; count them by owner."""
        ...
