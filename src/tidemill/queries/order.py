"""The order of a page: total, so that a cursor is one place in it.

What was asked for comes first, then the columns of the key. Facts have no key: their time comes next, newest first,
then the command, then a hash of all that is visible of the row. Facts that are equal in that as well are
interchangeable, so a cursor counts how many of them were given.

Facts of one owner that are shown in revisions have the number of theirs before the hash: it moves none of them, and a
cursor carries it, so that a later page of another revision is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tidemill.queries.collections import COMMAND_ID, VisibleCollection
from tidemill.queries.filters import EVERYTHING, Filter, demanded
from tidemill.queries.request import SortKey


class OrderKey(NamedTuple):
    """A part of an order. `column`: None for the hash of the row. Ascending nulls come last, descending ones first."""

    column: str | None
    descending: bool = False
    nullable: bool = False


Order = tuple[OrderKey, ...]

ROW_HASH = OrderKey(None)


class Position(NamedTuple):
    """A place in an order: the values of its keys as the server writes them.

    `given`: how many rows with these values were given, where rows can share them; else 0.
    """

    values: tuple[str | None, ...]
    given: int = 0


def total_order(collection: VisibleCollection, sort: Sequence[SortKey], where: Filter = EVERYTHING) -> Order:
    """Return the order of a page that was asked to be sorted. `where`: its filter."""
    keys = {key.column: key.descending for key in sort}
    for column, descending in _appended(collection):
        keys.setdefault(column, descending)
    if (revision := revision_of_page(collection, where)) is not None:
        keys.setdefault(revision, False)
    order = tuple(
        OrderKey(column, descending, collection.columns[column].nullable)
        for column, descending in keys.items()
    )
    return order if collection.key else (*order, ROW_HASH)


def revision_of_page(collection: VisibleCollection, where: Filter) -> str | None:
    """Return the column that has one value in all rows of a page until they are replaced; None if there is none."""
    of = collection.collection.revisions
    if of is None or of.revision not in collection.columns:
        return None
    is_of_one = any((part.column, part.operator) == (of.owner, "eq") for part in demanded(where))
    return of.revision if is_of_one else None


def _appended(collection: VisibleCollection) -> Iterator[tuple[str, bool]]:
    yield from ((column, False) for column in collection.key)
    if collection.key:
        return
    if collection.time_column is not None:
        yield collection.time_column, True
    if COMMAND_ID in collection.columns:
        yield COMMAND_ID, False


def is_shared(order: Order) -> bool:
    """Return whether several rows can have one position."""
    return order[-1].column is None
