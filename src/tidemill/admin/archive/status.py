"""The progress of the archive: for `status`, and as metrics, read periodically by the process that serves retention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tidemill.admin.ports import HoldingsReader
from tidemill.admin.rows import Holdings, SliceCount
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState
from tidemill.runtime.clock import Clock
from tidemill.runtime.periodic import EVERY_S, Watch
from tidemill.runtime.telemetry.metrics import (
    ARCHIVE_BYTES,
    ARCHIVE_DIVERTED,
    ARCHIVE_MISMATCHES,
    ARCHIVE_OVERDUE,
    ARCHIVE_SEAL_AGE,
    ARCHIVE_SLICES,
)

_S: Final = ArchiveState
_NOT_UNDER_SEAL: Final = frozenset({_S.LIVE, _S.ELIGIBLE, _S.ABORTED, _S.DROPPED, _S.RESTORED})
_TIERS: Final[Mapping[str, Callable[[Holdings], int]]] = {
    "hot": lambda held: held.hot_bytes,
    "late": lambda held: held.late_bytes,
    "lake": lambda held: held.lake_bytes,
}


@dataclass(frozen=True)
class ArchiveStatus:
    """The progress of the archive of a table.

    `slices`: how many are in each state. `diverted`: late rows that have not left yet. `oldest_seal`:
    since when a range is closed whose rows have not left. `overdue_since`: since when the oldest chunk that is there
    might have left.
    """

    table: str
    slices: Mapping[str, int]
    diverted: int
    oldest_seal: datetime | None
    overdue_since: datetime | None

    @property
    def set_aside(self) -> int:
        """Return how many slices wait for an operator to look at their copies."""
        return self.slices.get(_S.QUARANTINED, 0)


def archive_status(
    policies: Mapping[str, Retention], held: Iterable[Holdings], now: datetime
) -> list[ArchiveStatus]:
    """Return the progress of the archive of each table; `policies`: by table."""
    return [
        ArchiveStatus(
            table=each.table,
            slices=_by_state(each.slices),
            diverted=each.diverted_rows,
            oldest_seal=_oldest_seal(each.slices),
            overdue_since=_overdue_since(policies[each.table].after, each.oldest_end, now),
        )
        for each in held
    ]


def _by_state(slices: Iterable[SliceCount]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for each in slices:
        found[each.state.value] += each.slices
    return {state.value: found[state.value] for state in ArchiveState if found[state.value]}


def _oldest_seal(slices: Iterable[SliceCount]) -> datetime | None:
    under_seal = (each for each in slices if each.stage not in _NOT_UNDER_SEAL)
    return min((each.oldest_seal for each in under_seal if each.oldest_seal is not None), default=None)


def _overdue_since(after: timedelta, oldest_end: datetime | None, now: datetime) -> datetime | None:
    if oldest_end is None or oldest_end + after > now:
        return None
    return oldest_end + after


class ArchiveWatch(Watch):
    """A `Service` that sets the archive's metrics."""

    def __init__(
        self,
        policies: Mapping[str, Retention],
        archive: HoldingsReader,
        *,
        clock: Clock,
        every_s: float = EVERY_S,
    ) -> None:
        """Connect nothing before `run`. `policies`: by table."""
        super().__init__(every_s=every_s)
        self._policies = policies
        self._archive = archive
        self._clock = clock

    async def look(self) -> None:
        """Set the metrics. Raises `TransientError`."""
        held = await self._archive.holdings(list(self._policies))
        now = self._clock.now()
        for each in held:
            ARCHIVE_MISMATCHES.labels(each.table).set(each.mismatches)
            for tier, size in _TIERS.items():
                ARCHIVE_BYTES.labels(each.table, tier).set(size(each))
        _set(archive_status(self._policies, held, now), now)


def _set(found: Sequence[ArchiveStatus], now: datetime) -> None:
    for each in found:
        for state in ArchiveState:
            ARCHIVE_SLICES.labels(each.table, state.value).set(each.slices.get(state.value, 0))
        ARCHIVE_DIVERTED.labels(each.table).set(each.diverted)
        ARCHIVE_SEAL_AGE.labels(each.table).set(_age_s(each.oldest_seal, now))
        ARCHIVE_OVERDUE.labels(each.table).set(_age_s(each.overdue_since, now))


def _age_s(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
