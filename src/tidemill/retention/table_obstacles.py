"""What keeps a whole table from leaving, or drops its rows past Tidemill, and the advice. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import Source
from tidemill.retention.planner import Facts, needs_late_table, why_partitioned
from tidemill.retention.timescale_jobs import drop_warning, why_refreshed


def obstacles(policy: Retention, facts: Facts) -> Iterator[str]:
    """Return why no chunk of a table can be sealed until an operator fixes it; usually nothing."""
    if facts.late_unfit is not None and needs_late_table(policy, Source.CHUNK):
        yield facts.late_unfit
    partitioned = why_partitioned(facts)
    if partitioned is not None:
        yield partitioned
    for view in facts.views:
        if view.reaches_back is None:
            yield f"chunks of {facts.table} stay: {why_refreshed(view, policy.after)}"


def warnings(facts: Facts) -> tuple[str, ...]:
    """Return what other programs do to a table's rows that Tidemill cannot stop."""
    return tuple(drop_warning(facts.table, job) for job in facts.drop_jobs)
