"""What readers ask for by name: of a state the rows in force without what is hidden, of facts all rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidemill.domain.errors import ContractError
from tidemill.domain.projection import Projection
from tidemill.domain.table_shape import TableShape, key_names, plain_name


@dataclass(frozen=True)
class ReadView:
    """A read model that the database makes of a state's rows whenever it is read: it has no lag and no rebuild.

    `name`: as readers ask for it (`client-configs`). `table`: name, columns and key of the view in the database, in the
    order of the state's table; each column is one of that table.
    """

    name: str
    table: TableShape

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Return the names of the key's columns, in order."""
        return key_names(self.table)


@dataclass(frozen=True)
class SupersededRemoval:
    """How facts leave their table for good once their revision can never be current again.

    `command`: what the log calls the removal of those of one owner. `newest`: the owner's column with the newest
    revision that was given a number. `filled`: its column that is null unless that revision may still become current.
    """

    command: str
    newest: str
    filled: str


@dataclass(frozen=True)
class CurrentFacts:
    """What readers see of facts that a row owns in revisions: those of the revision that the row names.

    The owner's new revision replaces all of its facts at once, and none of them is deleted for it. `table`: to which
    the facts are appended. `view`: name and columns of the view in the database. `owner`: the column of the facts with
    the key of a row of the state `of`. `revision`: the column, of both, with the number of the revision; numbers only
    grow. `removal`: how those of earlier revisions leave; None: not by themselves.
    """

    table: TableShape
    view: TableShape
    of: str
    owner: str
    revision: str
    removal: SupersededRemoval | None = None

    @property
    def named_of_owner(self) -> frozenset[str]:
        """Return the columns of the owner that are compared with those of its facts."""
        own = {self.revision}
        return frozenset(own if self.removal is None else own | {self.removal.newest, self.removal.filled})


class OwnerState(Protocol):
    """A state whose rows may own facts."""

    @property
    def name(self) -> str: ...

    @property
    def table(self) -> TableShape: ...


def check_current(
    aggregate: str,
    facts: CurrentFacts,
    appended: Collection[TableShape],
    states: Sequence[OwnerState],
) -> None:
    """Raise `ContractError` for facts whose owner, or whose revision, is not there to be compared.

    `appended`: the tables to which the context appends. `states`: its states.
    """
    owner = next((state.table for state in states if state.name == facts.of), None)
    if facts.table not in appended or owner is None:
        raise ContractError(
            f"context {aggregate}: facts of {facts.table.name} are shown by {facts.of}, but it appends none, "
            "or has no such state"
        )
    named = {facts.owner, facts.revision, *(column.name for column in facts.view.columns)}
    if any(name not in owner.columns for name in facts.named_of_owner) or not all(
        name in facts.table.columns for name in named
    ):
        raise ContractError(
            f"context {aggregate}: {facts.view.name}: {facts.table.name} or {facts.of} lacks a column"
        )


@dataclass(frozen=True)
class FactsView:
    """Facts as they are read; they have no key. `time_column`: by which the newest come first, None if there is none.

    `stored`: the table to which they are appended, if readers see a view of it.
    """

    table: TableShape
    time_column: str | None
    stored: TableShape | None = None

    @property
    def appended(self) -> TableShape:
        """Return the table to which the facts are appended."""
        return self.table if self.stored is None else self.stored

    @property
    def name(self) -> str:
        """Return the name by which readers ask for it (`market-data`), with its schema unless that is `public`."""
        return plain_name(self.appended).removeprefix("public.").replace("_", "-")

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Return none: two equal facts are two facts."""
        return ()


ReadModel = Projection | ReadView | FactsView
"""What can be read by name."""
