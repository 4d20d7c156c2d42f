"""What the removal of superseded facts needs of the database: a part of the ports of the intake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from tidemill.domain.read_view import CurrentFacts
from tidemill.domain.state import State
from tidemill.domain.table_shape import TableShape


class TablePart(NamedTuple):
    """A chunk of a hypertable, or a whole table. `name`: of the relation, quoted. `start`, `end`: None for all times.

    A statement names one part, so that it locks no more than this one, and a row's place in it is unique.
    """

    name: str
    start: datetime | None = None
    end: datetime | None = None


class SupersededFacts(NamedTuple):
    """Facts in a part of their table that rows of the state `owner` own."""

    facts: CurrentFacts
    owner: State
    part: TablePart


class OwnerOfFacts(NamedTuple):
    """A row that owns facts in revisions; `has_superseded`: some of them can never be current again."""

    key: str
    has_superseded: bool


class SupersededOwners(Protocol):
    """Who has facts that may be removed, outside of any transaction."""

    async def removable_parts(self, table: TableShape) -> list[TablePart]:
        """Return the parts of a table whose rows may be removed, oldest first.

        Not those that share time with a range that the archive has closed, or an operator holds; nor compressed ones.
        """
        ...

    async def owners_of_superseded(
        self, facts: SupersededFacts, after: str, limit: int
    ) -> list[OwnerOfFacts]:
        """Return the next `limit` rows of a state by their keys, and whether each has facts there to be removed."""
        ...


class SupersededWork(Protocol):
    """The removal, in a transaction that holds the lanes of the owners."""

    async def remove_superseded(
        self, facts: SupersededFacts, keys: Sequence[str], limit: int
    ) -> dict[str, int]:
        """Delete at most `limit` facts of these owners whose revision cannot be current again; count them by owner.

        Nothing is deleted of a part that is not removable any more; it stays removable until the transaction ends.
        """
        ...
