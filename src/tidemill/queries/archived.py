"""What left for the archive: a reader of facts gets each row, or the span in which it left; never neither.

The rows of a dropped chunk are gone for every transaction, also for one whose snapshot is older, while the registry
that it reads is the old one: one snapshot is not enough. So a *mark* is taken before the rows are read, and what left
is asked after it, together with what has left or returned since the mark. What moves meanwhile may be given and be
reported. An older mark says more, never less: so one is shared by the reads of a moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.ports import ArchivedSpanReader, ArchiveMark, TimeSpan
from tidemill.runtime.clock import Clock
from tidemill.runtime.kept_answer import KeptAnswer

T = TypeVar("T")

WHY: Final = "ARCHIVED"
MARK_KEPT_S: Final = 0.1
_INSTANT: Final = timedelta(microseconds=1)
_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class PartialAnswer:
    """An answer about facts. `incomplete`: spans whose rows left, in order, within what was asked for."""

    incomplete: Sequence[TimeSpan] = ()

    def as_json(self) -> list[dict[str, str]]:
        """Return the member `incomplete` of an answer: `from` inclusive, `to` exclusive."""
        return [
            {"from": instant_text(span.start), "to": instant_text(span.end), "why": WHY}
            for span in self.incomplete
            if span.start is not None and span.end is not None
        ]


def instant_text(instant: datetime) -> str:
    """Return an instant as answers have it: in UTC, with six digits of a second."""
    utc = instant.astimezone(UTC)
    return f"{utc.year:04d}{utc.strftime(_FORMAT)[-23:]}"


class ArchivedSpans:
    """Reads facts together with what left of them. `table`: `schema.table`, as `Collection.retention` has it."""

    def __init__(self, reader: ArchivedSpanReader, clock: Clock, *, mark_kept_s: float = MARK_KEPT_S) -> None:
        """`mark_kept_s`: for how long a mark is shared; what moved that long before a read may be reported, too."""
        self._reader = reader
        self._clock = clock
        self._mark_kept_s = mark_kept_s
        self._marks: dict[str, KeptAnswer[ArchiveMark]] = {}

    async def _mark(self, table: str) -> ArchiveMark:
        if (kept := self._marks.get(table)) is None:
            ask = partial(self._reader.mark, table)
            kept = self._marks[table] = KeptAnswer(ask, self._clock, max_age_s=self._mark_kept_s)
        return await kept.get()

    async def answer(
        self, table: str, span: TimeSpan, read: Callable[[], Awaitable[T]], *, strict: bool = False
    ) -> tuple[T, PartialAnswer]:
        """Return what `read` returns (rows, or a count), and which parts of `span` it may lack.

        `strict`: refuse such an answer (`Prefer: handling=strict`).

        Raises:
            RequestRefused: ARCHIVED, part of the span left.
            Unavailable: the database is unavailable.
        """
        mark = await self._mark(table)
        rows = await read()
        incomplete = await self._reader.left(table, mark, span)
        if incomplete and strict:
            raise _archived(incomplete)
        return rows, PartialAnswer(incomplete)

    async def document(
        self,
        read: Callable[[], Awaitable[T | None]],
        *,
        table: str,
        aggregate: str,
        command_id: UUID | None = None,
        at: datetime | None = None,
    ) -> T | None:
        """Return the row that `read` finds, None if there never was one.

        `command_id`: of the command that wrote it. `at`: its time, where its key has it; then a row whose span left is
        taken to have left.

        Raises:
            RequestRefused: ARCHIVED, it left.
            Unavailable: the database is unavailable.
        """
        mark = await self._mark(table)
        if (row := await read()) is not None:
            return row
        if at is not None and (left := await self._reader.left(table, mark, TimeSpan(at, at + _INSTANT))):
            raise _archived(left)
        if command_id is None or not await self._reader.was_applied(aggregate, command_id):
            return None
        # It may have been written after the first look.
        if (row := await read()) is not None:
            return row
        raise RequestRefused(RequestCode.ARCHIVED, f"the row of command {command_id} left for the lake")


def _archived(spans: Sequence[TimeSpan]) -> RequestRefused:
    parts = PartialAnswer(spans).as_json()
    listed = ", ".join(f"{part['from']} to {part['to']}" for part in parts)
    return RequestRefused(RequestCode.ARCHIVED, f"rows of these times left for the lake: {listed}")
