"""The log, as those ask it who wait for outcomes: `submissions.ports.OutcomeLog`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from uuid import UUID

import asyncpg

from tidemill.domain.messages import Outcome
from tidemill.storage.database.pool import Lender, connection
from tidemill.storage.database.statements import load_statements
from tidemill.submissions.ports import LoggedOutcome

_SQL = load_statements(Path(__file__).with_name("submissions.sql"))


class OutcomeDatabase:
    """Reads the log of one database."""

    def __init__(self, pool: Lender) -> None:
        self._pool = pool

    async def outcomes(self, identities: Collection[str]) -> dict[str, LoggedOutcome]:
        ids = sorted(UUID(identity) for identity in identities)
        async with connection(self._pool) as borrowed:
            rows = await borrowed.fetch(_SQL["submitted_outcomes"], ids)
        return {str(row["id"]): _logged(row) for row in rows}

    async def halted(self) -> frozenset[tuple[str, int]]:
        async with connection(self._pool) as borrowed:
            rows = await borrowed.fetch(_SQL["lanes_halted"])
        return frozenset((row["aggregate"], row["partition"]) for row in rows)


def _logged(row: asyncpg.Record) -> LoggedOutcome:
    return LoggedOutcome(
        digest=row["digest"],
        outcome=Outcome.of_letter(row["outcome"]),
        code=row["code"],
        detail=row["detail"],
        aggregate=row["aggregate"],
        partition=row["partition"],
        position=row["position"],
        sequence=row["sequence"],
        rows=row["rows"],
        at=row["at"],
        type=row["type"],
        service=row["service"],
        record_offset=row["record_offset"],
        seconds=row["seconds"] or 0.0,
    )
