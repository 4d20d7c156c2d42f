"""What HTTP tells the journal beside intents and outcomes: refused writes, and reads that were not allowed.

A refusal of unknown senders is noted one by one up to a rate; beyond it the next entry says how many there were, so
that whoever guesses tokens fills no disk, and none is left out.
"""

from __future__ import annotations

from typing import Any, Final

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.http.exchange import Exchange
from tidemill.http.route_table import Operation
from tidemill.runtime.clock import Clock
from tidemill.runtime.rate_limits import RateLimiter
from tidemill.security.journal import (
    MAX_TEXT,
    EntryKind,
    JournalEntry,
    storable_text,
)
from tidemill.security.journal_writer import Journal

_MAX_NAME: Final = 120
_UNKNOWN: Final = "unknown senders"
_DENIED: Final = frozenset(
    {
        RequestCode.UNAUTHENTICATED,
        RequestCode.FORBIDDEN,
        RequestCode.NO_COLLECTION,
        RequestCode.SERVICE_MISMATCH,
    }
)
"""Refusals that are noted for reads, too."""

_NOT_NOTED: Final = frozenset({RequestCode.JOURNAL_AWAY, RequestCode.BUS_AWAY})
"""Refusals that cannot be noted, or whose write has its intent."""


class RefusalNotes:
    """Notes what was refused: every write, and every read that was not allowed."""

    def __init__(self, journal: Journal, clock: Clock, *, unknown_per_s: float = 10.0) -> None:
        """`unknown_per_s`: entries about senders without valid credentials."""
        self._journal = journal
        self._limiter = RateLimiter(clock, burst=20, every_s=1.0 / unknown_per_s)
        self._more = 0

    async def note(self, operation: Operation, exchange: Exchange, error: RequestRefused) -> None:
        """Note a refusal, if it is one to be noted. Raises `RequestRefused` (`JOURNAL_AWAY`)."""
        writes = not operation.abandoned
        if error.request_code in _NOT_NOTED or not (writes or error.request_code in _DENIED):
            return
        if exchange.principal is None and self._limiter.take(_UNKNOWN) > 0:
            self._more += 1
            return
        detail: dict[str, Any] = {"code": str(error.request_code), "more": self._more}
        if exchange.principal is None:
            self._more = 0
        else:
            del detail["more"]
        await self._journal.refusal(
            JournalEntry(
                kind=EntryKind.REFUSAL,
                action=f"{exchange.method} {operation.path}"[:MAX_TEXT],
                principal=None if exchange.principal is None else exchange.principal.name,
                collection=_collection(exchange),
                detail=detail | _address(exchange),
            )
        )


def _collection(exchange: Exchange) -> str | None:
    raw = exchange.raw.get("collection")
    return None if raw is None else storable_text(raw.decode("ascii", "replace"))[:_MAX_NAME]


def _address(exchange: Exchange) -> dict[str, str]:
    client = exchange.scope.get("client")
    return {"address": client[0]} if client else {}
