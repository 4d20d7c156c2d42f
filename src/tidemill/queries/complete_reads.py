"""Pages and counts that say what they may lack: of facts whose old rows leave for the lake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from tidemill.queries.archived import ArchivedSpans, PartialAnswer
from tidemill.queries.collections import COMMAND_ID, VisibleCollection
from tidemill.queries.filters import Filter, Predicate, demanded
from tidemill.queries.ports import TimeSpan
from tidemill.queries.reader import CollectionReader, CountAnswer, PageAnswer
from tidemill.queries.request import CountRequest, PageRequest

T = TypeVar("T")

_INSTANT: Final = timedelta(microseconds=1)
_WHOLE: Final = PartialAnswer()


@dataclass(frozen=True)
class CompleteReads:
    """Reads collections, with what the answer may lack. `strict`: such an answer is refused (`ARCHIVED`)."""

    reader: CollectionReader
    archived: ArchivedSpans

    async def page(
        self, collection: VisibleCollection, request: PageRequest, *, strict: bool
    ) -> tuple[PageAnswer, PartialAnswer]:
        """Return a page. Raises `RequestRefused` as `CollectionReader.page`, and `ARCHIVED`.

        The rows of one command are one thing: if they left, that is `ARCHIVED` in any case.
        """
        table = collection.collection.retention
        if table is None:
            return await self.reader.page(collection, request), _WHOLE
        command_id = _only_command(request.where)
        if command_id is not None and request.after is None:
            return await self._of_command(collection, request, table, command_id), _WHOLE
        return await self._told(
            collection, request.where, lambda: self.reader.page(collection, request), strict=strict
        )

    async def count(
        self, collection: VisibleCollection, request: CountRequest, *, strict: bool
    ) -> tuple[CountAnswer, PartialAnswer]:
        """Return a count. Raises `RequestRefused` as `CollectionReader.count`, and `ARCHIVED`."""
        if collection.collection.retention is None:
            return await self.reader.count(collection, request), _WHOLE
        return await self._told(
            collection, request.where, lambda: self.reader.count(collection, request), strict=strict
        )

    async def _told(
        self,
        collection: VisibleCollection,
        where: Filter,
        read: Callable[[], Awaitable[T]],
        *,
        strict: bool,
    ) -> tuple[T, PartialAnswer]:
        table = collection.collection.retention
        assert table is not None
        return await self.archived.answer(table, time_span(collection, where), read, strict=strict)

    async def _of_command(
        self, collection: VisibleCollection, request: PageRequest, table: str, command_id: UUID
    ) -> PageAnswer:
        page = await self.reader.page(collection, request)

        async def found() -> PageAnswer | None:
            nonlocal page
            page = await self.reader.page(collection, request)
            return page if page.row_count else None

        if not page.row_count:
            aggregate = collection.collection.aggregate
            await self.archived.document(found, table=table, aggregate=aggregate, command_id=command_id)
        return page


def time_span(collection: VisibleCollection, where: Filter) -> TimeSpan:
    """Return the times in which every row of a filter lies; bounds that are no plain time are left out."""
    time = collection.collection.time_column
    starts, ends = [], []
    for part in demanded(where):
        if part.column != time or any(not isinstance(value.value, datetime) for value in part.values):
            continue
        times = [value.value for value in part.values]
        if part.operator in {"gt", "gte", "eq", "in"} and times:
            starts.append(min(times))
        if part.operator in {"lt", "lte", "eq", "in"} and times:
            ends.append(max(times) + (_INSTANT if part.operator != "lt" else timedelta()))
    return TimeSpan(max(starts, default=None), min(ends, default=None))


def _only_command(where: Filter) -> UUID | None:
    """Return the command of a filter that names one, and nothing else."""
    if not isinstance(where, Predicate) or (where.column, where.operator) != (COMMAND_ID, "eq"):
        return None
    return _command_of(where)


def _command_of(part: Predicate) -> UUID | None:
    (value,) = part.values
    try:
        return UUID(str(value.value))
    except ValueError:
        return None
