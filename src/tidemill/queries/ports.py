"""The ports of queries: rows of a collection, progress of lanes, what left for the archive, declared queries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, Protocol
from uuid import UUID

from tidemill.domain.query import Query
from tidemill.domain.read_view import ReadModel
from tidemill.domain.table_shape import TableShape
from tidemill.queries.collections import VisibleCollection
from tidemill.queries.filters import Filter
from tidemill.queries.order import Order, Position
from tidemill.queries.request import CountMode
from tidemill.queries.seen import SeenProgress, SeenToken
from tidemill.queries.value_types import Bound


class ProgressKey(NamedTuple):
    """A lane, and the read model whose progress there is asked for; an empty name: that of the lane itself."""

    aggregate: str
    partition: int
    projection: str = ""


class LaneProgressReader(Protocol):
    """How far lanes and read models are. Every call may raise `Unavailable`."""

    async def progress(self, keys: Collection[ProgressKey]) -> Mapping[ProgressKey, SeenProgress]:
        """Return how far these are, all at one moment; lanes that do not exist are left out.

        A statement that begins after the return sees at least what it says. A read model that is not recorded, or has
        no checkpoint for the lane, has folded nothing.
        """
        ...

    async def seen(self, aggregate: str, projection: str | None) -> SeenToken:
        """Return how far the lanes of an aggregate with events are; with `projection`, how far it has folded them."""
        ...


class TimeSpan(NamedTuple):
    """`start <= time < end`; None: without bound."""

    start: datetime | None = None
    end: datetime | None = None


class ArchiveMark(NamedTuple):
    """A moment of the archive. `entry`: the newest of its trail. `has_late`: late rows of the table are kept."""

    entry: int
    has_late: bool


class ArchivedSpanReader(Protocol):
    """The archive's registry, for readers of facts. Every call may raise `Unavailable`."""

    async def mark(self, table: str) -> ArchiveMark:
        """Return the present moment."""
        ...

    async def left(self, table: str, mark: ArchiveMark, span: TimeSpan) -> Sequence[TimeSpan]:
        """Return the parts of `span` whose rows are not all in the table, or were not at any time since the mark.

        They are in order, do not touch each other, and have both bounds.
        """
        ...

    async def was_applied(self, aggregate: str, command_id: UUID) -> bool:
        """Tell whether the log knows a command that was applied and wrote a row; it forgets after its horizon."""
        ...


Place = tuple[str | None, ...]
"""Where a row of a query is: the values of its `order`, then those of `constant`, as the server writes them."""


class PlacedRow(NamedTuple):
    """A row as a JSON object, and its place; empty where the query has no order."""

    json: str
    place: Place


class DeclaredQueryStore(Protocol):
    """Where declared queries run, read only. Every call may raise `Unavailable`."""

    async def fault(self, query: Query, tables: Sequence[TableShape]) -> str | None:
        """Return why a query cannot be asked, None if it can.

        It does not run, it returns other columns than it declares, or it reads something else than `tables`.
        """
        ...

    async def rows(
        self, query: Query, values: Sequence[Any], limit: int, timeout_s: float, after: Place | None = None
    ) -> list[PlacedRow]:
        """Return at most `limit` rows in their order. `values`: in the order of the parameters.

        `after`: the place that they follow, of a query with an order.

        Raises `RequestRefused`: QUERY_TIMEOUT; BAD_VALUE, the server refuses a value; QUERY_UNFIT.
        """
        ...


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of a row. `value`: as text, of the column's type."""

    column: str
    value: str
    comparison: Literal["=", ">=", "<"] = "="


class ReadModelReader(Protocol):
    """Where collections are read, and only read."""

    async def read(
        self, model: ReadModel, conditions: Sequence[Condition], limit: int
    ) -> list[dict[str, Any]]:
        """Return at most `limit` rows of which all conditions hold, column -> value, in key order; facts newest first.

        The conditions are about columns of the table. Raises `UsageError` (a value is not of its column's type, or
        the column cannot be compared; it took too long), `TableMisfit` (the table does not exist or may not be
        read), `Unavailable`.
        """
        ...


@dataclass(frozen=True, slots=True)
class DocumentQuery:
    """A document by its key. `fields`: empty for all."""

    collection: VisibleCollection
    key: tuple[Bound, ...]
    fields: tuple[str, ...] = ()
    numbers_native: bool = False
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Document:
    """A document: JSON in UTF-8. `version`: None if it has none, or none that its reader may see.

    `sql`: the statement that read it, without values, if it was read in SQL; likewise of pages and counts.
    """

    body: bytes
    version: int | None
    sql: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """Rows in an order, those after a position. `max_bytes`: of the rows; one row is always given."""

    collection: VisibleCollection
    where: Filter
    order: Order
    fields: tuple[str, ...] = ()
    after: Position | None = None
    limit: int
    max_bytes: int
    numbers_native: bool = False
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class PageRows:
    """Rows of a page, as a JSON array in UTF-8.

    `more`: whether further rows follow. `last`: the position values of the last row, None if there is no row. `equal`:
    how many rows of this page have these values.
    """

    rows: bytes
    row_count: int
    more: bool
    last: tuple[str | None, ...] | None
    equal: int = 0
    sql: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class CountQuery:
    """How many rows pass a filter. `mode`: any but none."""

    collection: VisibleCollection
    where: Filter
    mode: CountMode
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class CountedRows:
    """A number of rows. `at_least`: there are more."""

    count: int
    at_least: bool = False
    sql: str | None = field(default=None, compare=False)


MAX_CAPPED_COUNT: Final = 10_001
"""Where a capped count ends."""


class CollectionStore(Protocol):
    """Where collections are read for HTTP: answers are JSON as it is sent.

    Every method raises `RequestRefused`: `QUERY_TIMEOUT` (the database took longer than `timeout_s`), `OVERLOADED` (no
    connection was free for a second), `DATABASE_AWAY` (it is unavailable, or lacks what the collection declares). A
    task that is cancelled ends its statement, too.
    """

    async def document(self, query: DocumentQuery) -> Document | None:
        """Return a document by its key, None if there is none."""
        ...

    async def page(self, query: PageQuery) -> PageRows:
        """Return the first rows after a position; fewer than `limit` if they have too many bytes."""
        ...

    async def count(self, query: CountQuery) -> CountedRows:
        """Return how many rows pass a filter: exactly, at most `MAX_CAPPED_COUNT`, or as the database estimates."""
        ...
