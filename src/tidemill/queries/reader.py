"""Reading collections: a document, a page, a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.collections import VisibleCollection, key_values
from tidemill.queries.cursors import Cursors, fingerprint
from tidemill.queries.filters import Filter
from tidemill.queries.order import Order, Position, is_shared, revision_of_page, total_order
from tidemill.queries.ports import (
    CollectionStore,
    CountedRows,
    CountQuery,
    Document,
    DocumentQuery,
    PageQuery,
    PageRows,
)
from tidemill.queries.request import CountMode, CountRequest, PageRequest

MAX_PAGE_BYTES: Final = 8 << 20
DEFAULT_TIMEOUT_S: Final = 5.0
MAX_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class CountAnswer:
    """A number of rows. `at_least`: there may be more."""

    count: int
    mode: CountMode
    at_least: bool = False
    sql: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """A page. `rows`: a JSON array, UTF-8. `next`: the cursor of the next page, None if there is none.

    A page may be shorter than its limit: only `next` tells where the rows end.
    """

    rows: bytes
    row_count: int
    next: str | None
    count: CountAnswer | None = None
    sql: str | None = field(default=None, compare=False)


class CollectionReader:
    """Reads what a principal may see of collections."""

    def __init__(self, store: CollectionStore, *, key: bytes, max_page_bytes: int = MAX_PAGE_BYTES) -> None:
        """`key`: of cursors; all processes share it. `max_page_bytes`: of a page, unless one row is larger."""
        self._store = store
        self._cursors = Cursors(key)
        self._max_page_bytes = max_page_bytes

    async def document(
        self,
        collection: VisibleCollection,
        key_segments: Sequence[str],
        fields: tuple[str, ...] = (),
        *,
        numbers_native: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Document | None:
        """Return the document of a key (see `parse_key`), None if there is none. `fields`: empty for all.

        Raises `RequestRefused`: `BAD_VALUE`, and those of `CollectionStore`.
        """
        if not collection.key:
            return None
        key = tuple(key_values(collection, key_segments))
        return await self._store.document(
            DocumentQuery(collection, key, fields, numbers_native, _bounded(timeout_s))
        )

    async def page(self, collection: VisibleCollection, request: PageRequest) -> PageAnswer:
        """Return a page, and the count if it is asked for.

        Raises `RequestRefused`: `CURSOR_MISMATCH`, `REPLACED`, and those of `CollectionStore`.
        """
        order = total_order(collection, request.sort, request.where)
        arguments = fingerprint(collection, request.where, order)
        after = None if request.after is None else self._cursors.opened(request.after, arguments)
        rows = await self._store.page(
            PageQuery(
                collection=collection,
                fields=request.fields,
                where=request.where,
                order=order,
                after=after,
                limit=request.limit,
                max_bytes=self._max_page_bytes,
                numbers_native=request.numbers_native,
                timeout_s=_bounded(request.timeout_s),
            )
        )
        revision = revision_of_page(collection, request.where)
        if after is not None and revision is not None:
            _demand_revision(collection, [key.column for key in order].index(revision), after, rows)
        count = None
        if request.count is not CountMode.NONE:
            count = await self._counted(collection, request.where, request.count, request.timeout_s)
        return PageAnswer(
            rows.rows, rows.row_count, self._next(rows, order, after, arguments), count, rows.sql
        )

    async def count(self, collection: VisibleCollection, request: CountRequest) -> CountAnswer:
        """Return how many rows pass a filter. Raises `RequestRefused`: those of `CollectionStore`."""
        return await self._counted(collection, request.where, request.mode, request.timeout_s)

    def _next(self, rows: PageRows, order: Order, after: Position | None, arguments: str) -> str | None:
        if not rows.more or rows.last is None:
            return None
        given = 0
        if is_shared(order):
            before = after.given if after is not None and after.values == rows.last else 0
            given = before + rows.equal
        return self._cursors.sealed(Position(rows.last, given), arguments)

    async def _counted(
        self, collection: VisibleCollection, where: Filter, mode: CountMode, timeout_s: float
    ) -> CountAnswer:
        counted: CountedRows = await self._store.count(
            CountQuery(collection, where, mode, _bounded(timeout_s))
        )
        return CountAnswer(counted.count, mode, counted.at_least, counted.sql)


def _demand_revision(collection: VisibleCollection, at: int, after: Position, rows: PageRows) -> None:
    """Refuse rows of another revision than those before. There were more: none means that they were replaced, too.

    `at`: the place of the revision in the order. One statement shows one revision, so the last row tells of all.
    """
    if rows.last is None or rows.last[at] != after.values[at]:
        detail = f"{collection.name}: what the filter names was replaced since the first rows were given"
        raise RequestRefused(RequestCode.REPLACED, detail)


def _bounded(timeout_s: float) -> float:
    return min(timeout_s, MAX_TIMEOUT_S)
