"""The gate before a stream whose tables may not be as declared.

A stream whose tables differ does not join its consumer group: another process, of a matching version, may take its
lanes. The tables are checked again every few seconds, so that it continues by itself once they are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill.catalog.misfits import CODE, SHOWN, advice_on, breaking
from tidemill.catalog.ports import DeclaredTables, PendingMigrations
from tidemill.catalog.tables import Difference
from tidemill.domain.errors import TableMisfit
from tidemill.domain.stream import Stream
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import TABLE_MISFITS

_log = logger(__name__)


class TableGate:
    """A `Gate`: open while the tables that a stream's commands work with are as declared."""

    def __init__(self, stream: Stream, tables: DeclaredTables, migrations: PendingMigrations) -> None:
        """`tables`: as the writing login sees them."""
        self._stream = stream
        self._tables = tables
        self._migrations = migrations
        self._told: Sequence[Difference] = ()
        self._reason = ""
        self._advice = ""

    async def look(self) -> bool:
        """See `Gate`."""
        breaking_differences = breaking(await self._tables.stream_differences(self._stream))
        if breaking_differences and breaking_differences != self._told:
            self._advice = advice_on(breaking_differences, await self._migrations.missing())
            self._say("; ".join(map(str, breaking_differences[:SHOWN])))
        elif self._told and not breaking_differences:
            _log.warning(Log.TABLE_FITS, aggregate=self._stream.aggregate)
        self._told = breaking_differences
        TABLE_MISFITS.labels(self._stream.aggregate).set(len(breaking_differences))
        return not breaking_differences

    async def demand(self) -> None:
        """Return if the tables are as declared. Raises `TableMisfit`, and what `look` raises."""
        if not await self.look():
            raise TableMisfit("; ".join(map(str, self._told[:SHOWN])))

    def blame(self, error: BaseException) -> bool:
        """See `Gate`."""
        if not isinstance(error, TableMisfit):
            return False
        if not self._told:
            self._reason = error.detail
            self._advice = "fix what the database reported; it is retried automatically, with growing pauses"
            self._say(error.detail)
            TABLE_MISFITS.labels(self._stream.aggregate).set(1)
        return True

    def standing(self) -> Mapping[str, Any]:
        """See `Gate`."""
        differences = [str(each) for each in self._told[:SHOWN]] or [self._reason]
        return {"code": CODE, "differences": differences, "next": self._advice}

    def _say(self, reason: str) -> None:
        _log.error(Log.TABLE_MISFIT, aggregate=self._stream.aggregate, reason=reason, next=self._advice)
