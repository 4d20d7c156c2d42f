"""The run of a read: it waits for what its client has seen, is timed and recorded, and says what it shows."""

from __future__ import annotations

import time
from asyncio import CancelledError
from dataclasses import dataclass
from typing import Final, Self

from tidemill.admin.service.query_records import QueryOperation as Work
from tidemill.admin.service.query_records import QueryRecorder, QueryRun
from tidemill.domain.request_codes import RequestCode
from tidemill.http.answer import HttpAnswer
from tidemill.http.exchange import Exchange
from tidemill.http.preferences import READ_WAIT_S
from tidemill.queries.collections import Collections, VisibleCollection
from tidemill.queries.seen import HEADER, NOTHING_SEEN, SeenToken, format_seen, merged, parse_seen
from tidemill.queries.seen_waiter import Behind, SeenWaiter

_VARY: Final = "Authorization, Accept, Prefer, Tidemill-Seen"


@dataclass(frozen=True, kw_only=True)
class ReadParts:
    """What every read needs."""

    collections: Collections
    waiter: SeenWaiter
    recorder: QueryRecorder


class ReadRun:
    """One read: it waits for what its client has seen, is timed and recorded, and its answer says what it shows."""

    def __init__(
        self,
        parts: ReadParts,
        exchange: Exchange,
        collection: VisibleCollection,
        shows: SeenToken,
        behind: Behind | None,
    ) -> None:
        self._parts = parts
        self._exchange = exchange
        self.collection_name = collection.name
        self._shows = shows
        self._behind = behind
        self.seconds = 0.0

    @classmethod
    async def begin(cls, parts: ReadParts, exchange: Exchange, collection: VisibleCollection) -> ReadRun:
        """Wait until the rows show what the client has seen. Raises `RequestRefused`."""
        prefer, header = exchange.prefer, exchange.header(HEADER.lower())
        declared = collection.collection
        seen = NOTHING_SEEN if header is None else parse_seen(header)
        behind = None
        if seen:
            wait_s = READ_WAIT_S if prefer.wait_s is None else prefer.wait_s
            reached = await parts.waiter.reached(
                seen,
                declared.projection,
                wait_s,
                stale_ok=prefer.stale_ok,
                visible=lambda aggregate: _may_know(parts, exchange, aggregate),
            )
            behind = reached if isinstance(reached, Behind) else None
        shows = seen if behind is None else NOTHING_SEEN
        if prefer.seen_all:
            shows = merged(shows, await parts.waiter.lanes_of(declared.aggregate, declared.projection))
        return cls(parts, exchange, collection, shows, behind)

    def timed(self, pattern: str, work: Work = Work.FIND) -> _TimedBlock:
        """Return what times and records the block; `pattern`: the shape of what is asked."""
        return _TimedBlock(self, pattern, work)

    def note(self, run: QueryRun) -> None:
        """Record how it ran."""
        self.seconds = run.seconds
        caller = self._exchange.caller.name
        query = self._parts.recorder.query(caller, self._exchange.header("x-correlation-id"))
        self._parts.recorder.note(query, run)

    def finished(self, answer: HttpAnswer) -> HttpAnswer:
        """Return the answer with the headers of a read."""
        answer.add(b"cache-control", "private, no-cache")
        answer.add(b"vary", _VARY)
        answer.add(b"server-timing", f"db;dur={self.seconds * 1000:.2f}")
        if self._shows:
            answer.add(HEADER.lower().encode(), format_seen(self._shows))
        if self._behind is not None:
            answer.add(b"tidemill-behind", self._behind.header)
        return answer


CLIENT_LEFT: Final = "CLIENT_LEFT"
"""The code of a query that ended with its client, which nobody was answered."""


def recorded_code(error: BaseException) -> str:
    """Return the code with which a query that failed is recorded."""
    if isinstance(error, CancelledError):
        return CLIENT_LEFT
    return str(getattr(error, "code", RequestCode.INTERNAL))


class _TimedBlock:
    """Times a block, and records it with its rows or with the code of its refusal."""

    def __init__(self, read: ReadRun, pattern: str, work: Work) -> None:
        self._read = read
        self._pattern = pattern
        self._work = work
        self._began_s = 0.0
        self.rows = 0
        self.sql: str | None = None

    def __enter__(self) -> Self:
        self._began_s = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._read.note(
            QueryRun(
                collection=self._read.collection_name,
                operation=self._work,
                pattern=self._pattern,
                seconds=time.perf_counter() - self._began_s,
                rows=self.rows,
                sql=self.sql,
                code=None if error is None else recorded_code(error),
            )
        )


def _may_know(parts: ReadParts, exchange: Exchange, aggregate: str) -> bool:
    """Tell whether the principal has a grant for a collection of an aggregate: else its lanes do not exist for it."""
    return any(
        exchange.caller.grant(collection.name) is not None
        for collection in parts.collections
        if collection.collection.aggregate == aggregate
    )
