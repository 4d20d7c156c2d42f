"""TimescaleDB's own jobs on a table with retention: refreshes, and drops without a copy. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tidemill.domain.archive.slices import Source
from tidemill.retention.explanations import lasted
from tidemill.retention.slices import Slice


@dataclass(frozen=True, slots=True)
class ContinuousAggregate:
    """A continuous aggregate (`schema.view`) over a table, and how far back its refreshes reach.

    `reaches_back`: what a refresh computes again, counted from its start; None: everything, or whatever an operator
    refreshes by hand, since no policy bounds it.
    """

    view: str
    reaches_back: timedelta | None

    def until(self, range_end: datetime) -> datetime | None:
        """Return when refreshes no longer reach a range, None if never."""
        return None if self.reaches_back is None else range_end + self.reaches_back


@dataclass(frozen=True, slots=True)
class DropJob:
    """A retention policy of TimescaleDB on a table: it drops chunks without a copy. `after`: as configured."""

    job_id: int
    after: str | None


def still_refreshed(
    views: Iterable[ContinuousAggregate], range_end: datetime, now: datetime
) -> ContinuousAggregate | None:
    """Return the view whose refreshes reach a range longest, and would lose its rows; None if there is none."""
    reached = [view for view in views if (until := view.until(range_end)) is None or until > now]
    return max(reached, key=lambda view: view.reaches_back or timedelta.max, default=None)


def why_kept(
    views: Iterable[ContinuousAggregate], archive_slice: Slice, after: timedelta, now: datetime
) -> str | None:
    """Return why a slice's rows must not leave the table now, None if no view would lose them.

    Late rows were never in the source table of views. `after`: as for `why_refreshed`.
    """
    view = still_refreshed(views, archive_slice.id.end, now) if archive_slice.source is Source.CHUNK else None
    return None if view is None else f"VIEW_REFRESHED, {why_refreshed(view, after)}"


def why_refreshed(view: ContinuousAggregate, after: timedelta) -> str:
    """Return why a chunk waits for a view, and what to do. `after`: the age at which rows leave."""
    loses = f"the continuous aggregate {view.view} would lose it: a refresh computes again what it reaches, "
    if view.reaches_back is not None:
        return loses + f"and its policy reaches {lasted(view.reaches_back)} back"
    call = (
        f"add_continuous_aggregate_policy('{view.view}', start_offset => interval '{after.days} days', ...)"
    )
    return loses + (
        f"and no policy bounds that. Refresh it up to now; if it has a policy without start_offset, "
        f"remove_continuous_aggregate_policy('{view.view}'); then {call}"
    )


def drop_warning(table: str, job: DropJob) -> str:
    """Return what a retention policy of TimescaleDB does to a table that also has Tidemill's, and what to do."""
    after = f" after {job.after}" if job.after else ""
    return (
        f"TimescaleDB's own retention policy (job {job.job_id}) drops chunks of {table}{after} without a copy, held or "
        f"not, unless they are sealed by then: select remove_retention_policy('{table}')"
    )
