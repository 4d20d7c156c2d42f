"""Continuous aggregates, and a retention policy of TimescaleDB's own, beside ours."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Column, DateTime, MetaData, Table

from tests.support.archive.slices import DAY, NOW, brought_to, live, slice_id
from tidemill.admin.archive.inspection import summary
from tidemill.domain.archive.policy import Retention
from tidemill.domain.archive.slices import ArchiveState, SealMode, Source
from tidemill.retention.planner import ChunkFacts, Facts, LateFacts, plan
from tidemill.retention.table_obstacles import obstacles, warnings
from tidemill.retention.timescale_jobs import ContinuousAggregate, DropJob, still_refreshed, why_kept

TICKS = Table("ticks", MetaData(schema="public"), Column("time", DateTime(timezone=True)))
POLICY = Retention(table=TICKS, after=730 * DAY)
RANGE = slice_id()
AGE = NOW - RANGE.end
CHUNK = ChunkFacts(live(RANGE).chunk, RANGE.start, RANGE.end, 1000, last_write=NOW - DAY)
UNBOUNDED = ContinuousAggregate("public.by_hour", None)


def seen(*views: ContinuousAggregate) -> Facts:
    return Facts("public.ticks", chunks=(CHUNK,), views=views)


def test_a_chunk_leaves_when_no_refresh_of_a_view_reaches_it() -> None:
    found = plan(POLICY, seen(ContinuousAggregate("public.by_hour", AGE)), as_of=NOW, now=NOW)
    assert [each.chunk for each in found.seal] == [CHUNK.chunk]
    assert not found.waiting


def test_a_chunk_that_a_refresh_still_reaches_waits_until_it_does_not() -> None:
    view = ContinuousAggregate("public.by_hour", AGE + DAY)
    found = plan(POLICY, seen(ContinuousAggregate("public.by_day", DAY), view), as_of=NOW, now=NOW)
    assert not found.seal
    (waits,) = found.waiting
    assert (waits.code, waits.until) == ("VIEW_REFRESHED", NOW + DAY)
    assert "public.by_hour" in waits.message
    assert found.why(CHUNK.chunk) == waits.message, "what why-not-dropped says"


def test_a_view_that_no_policy_bounds_keeps_every_chunk_and_says_what_to_do() -> None:
    found = plan(POLICY, seen(UNBOUNDED, ContinuousAggregate("public.by_day", DAY)), as_of=NOW, now=NOW)
    assert not found.seal
    (waits,) = found.waiting
    assert (waits.code, waits.until) == ("VIEW_REFRESHED", None)
    assert (
        "add_continuous_aggregate_policy('public.by_hour', start_offset => interval '730 days'"
        in waits.message
    )
    (told,) = obstacles(POLICY, seen(UNBOUNDED))
    assert waits.message in told


def test_bounded_views_are_no_obstacle_of_the_whole_table() -> None:
    assert not list(obstacles(POLICY, seen(ContinuousAggregate("public.by_hour", AGE + DAY))))


def test_ages_of_a_rehearsal_do_not_move_the_refreshes() -> None:
    """They run at the true time, so that is what counts."""
    found = plan(
        POLICY,
        seen(ContinuousAggregate("public.by_hour", AGE + DAY)),
        as_of=NOW + timedelta(days=3650),
        now=NOW,
    )
    assert [each.code for each in found.waiting] == ["VIEW_REFRESHED"]


def test_late_rows_were_never_in_the_table_and_leave() -> None:
    gone = brought_to(ArchiveState.DROPPED, RANGE)
    late = LateFacts(RANGE.start, RANGE.end, 3, last_write=NOW - DAY)
    facts = replace(seen(UNBOUNDED), chunks=(), slices=(gone,), late=(late,))
    assert len(plan(POLICY, facts, as_of=NOW, now=NOW).seal) == 1


def test_what_is_verified_says_that_a_view_puts_its_drop_off() -> None:
    which = brought_to(ArchiveState.VERIFIED, RANGE)
    found = plan(POLICY, replace(seen(UNBOUNDED), slices=(which,)), as_of=NOW, now=NOW)
    assert [each.code for each in found.waiting] == ["VIEW_REFRESHED"]
    found = plan(POLICY, replace(seen(), slices=(which,)), as_of=NOW, now=NOW)
    assert [each.code for each in found.waiting] == ["VERIFIED"]


def test_rows_of_the_table_are_kept_for_a_view_and_late_ones_are_not() -> None:
    assert "VIEW_REFRESHED" in (why_kept([UNBOUNDED], live(RANGE), POLICY.after, NOW) or "")
    assert why_kept([ContinuousAggregate("public.by_hour", AGE)], live(RANGE), POLICY.after, NOW) is None
    assert why_kept([UNBOUNDED], live(RANGE, Source.LATE), POLICY.after, NOW) is None


def test_of_several_views_the_one_that_reaches_furthest_is_named() -> None:
    views = (ContinuousAggregate("public.a", AGE + DAY), ContinuousAggregate("public.b", AGE + 2 * DAY))
    assert still_refreshed(views, RANGE.end, NOW) == views[1]


@pytest.mark.parametrize(("after", "words"), [("30 days", " after 30 days"), (None, "")])
def test_a_drop_policy_of_timescaledb_is_told_of(after: str | None, words: str) -> None:
    facts = Facts("public.ticks", drop_jobs=(DropJob(1003, after),))
    (told,) = warnings(facts)
    assert f"(job 1003) drops chunks of public.ticks{words} without a copy" in told
    assert "remove_retention_policy('public.ticks')" in told
    assert summary(facts, NOW, SealMode.FREEZE, enabled=True).warnings == (told,)


def test_without_one_there_is_no_warning() -> None:
    assert not warnings(seen(UNBOUNDED))
