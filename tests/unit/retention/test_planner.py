"""What leaves next, what waits and why."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest
from sqlalchemy import Column, DateTime, MetaData, Table

from tests.support.archive.slices import (
    DAY,
    FILE,
    NOW,
    brought_to,
    live,
    measured_slice,
    moved,
    slice_id,
)
from tidemill.domain.archive.policy import QuietHours, Retention
from tidemill.domain.archive.slices import ArchiveState, SliceId, Source
from tidemill.retention import transitions
from tidemill.retention.explanations import lasted, moment, why_not_dropped
from tidemill.retention.operator_transitions import hold
from tidemill.retention.planner import ChunkFacts, Facts, LateFacts, RetentionPlan, plan
from tidemill.retention.slices import Hold
from tidemill.retention.table_obstacles import obstacles

S = ArchiveState
TICKS = Table("ticks", MetaData(schema="public"), Column("time", DateTime(timezone=True)))
POLICY = Retention(table=TICKS, after=730 * DAY)
FIRST = slice_id()


def chunk(day: int = 0, **told: object) -> ChunkFacts:
    which = slice_id(day)
    words: dict[str, object] = {
        "chunk": live(which).chunk,
        "start": which.start,
        "end": which.end,
        "size_bytes": 1000,
        "last_write": NOW - DAY,
    }
    return ChunkFacts(**(words | told))  # type: ignore[arg-type]


def late(day: int = 0, **told: object) -> LateFacts:
    which = slice_id(day)
    words: dict[str, object] = {"start": which.start, "end": which.end, "row_count": 3}
    return LateFacts(**(words | told))  # type: ignore[arg-type]


def planned(policy: Retention = POLICY, **facts: object) -> RetentionPlan:
    return plan(policy, Facts("public.ticks", **facts), as_of=NOW, now=NOW)  # type: ignore[arg-type]


def waits(policy: Retention = POLICY, **facts: object) -> list[tuple[str, str]]:
    found = planned(policy, **facts)
    assert not found.seal
    assert not found.queued
    return [(each.code, each.message) for each in found.waiting]


def test_oldest_first_by_range_not_by_name() -> None:
    chunks = (chunk(3, chunk="a"), chunk(1, chunk="c"), chunk(2, chunk="b"))
    found = planned(replace(POLICY, most_seals=2), chunks=chunks)
    assert [each.chunk for each in found.seal] == ["c", "b"]
    assert [each.chunk for each in found.queued] == ["a"]
    assert found.seal[0].id == slice_id(1)


def test_a_table_whose_chunks_share_a_range_stays_as_a_whole() -> None:
    """It is partitioned by space too: a restore would make several chunks of one range."""
    chunks = (chunk(1), chunk(2, chunk="a"), chunk(2, chunk="b"))
    assert [code for code, _ in waits(chunks=chunks)] == ["PARTITIONED"] * 3
    (told,) = obstacles(POLICY, Facts("public.ticks", chunks=chunks))
    assert "a and b are of one range: public.ticks has another partitioning column" in told
    assert not list(obstacles(POLICY, Facts("public.ticks", chunks=chunks[:2])))


def test_what_is_under_way_takes_room() -> None:
    busy = tuple(brought_to(state, slice_id(day)) for day, state in enumerate((S.SEALED, S.VERIFIED)))
    chunks = tuple(chunk(day) for day in range(5))
    found = planned(replace(POLICY, most_seals=3), chunks=chunks, slices=busy)
    assert (len(found.seal), len(found.queued), len(found.waiting)) == (1, 2, 2)


def test_what_waits_for_a_person_takes_none() -> None:
    held = (brought_to(S.HELD, slice_id(0)), brought_to(S.QUARANTINED, slice_id(1)))
    found = planned(replace(POLICY, most_seals=1), chunks=tuple(chunk(day) for day in range(3)), slices=held)
    assert [each.id for each in found.seal] == [slice_id(2)]


def test_a_young_range_waits_until_its_day() -> None:
    which = slice_id(300)
    found = planned(chunks=(chunk(300),))
    assert [(each.code, each.until) for each in found.waiting] == [("YOUNG", which.end + 730 * DAY)]


def test_the_last_instant_counts() -> None:
    end = NOW - 730 * DAY
    exact = ChunkFacts("c", end - DAY, end, 1, last_write=end)
    assert planned(chunks=(exact,)).seal
    assert not planned(chunks=(replace(exact, end=end + timedelta(microseconds=1)),)).seal


def test_ages_are_counted_to_another_day() -> None:
    start = datetime(2009, 1, 1, tzinfo=UTC)
    years = tuple(
        chunk(chunk=f"c{year}", start=start.replace(year=year), end=start.replace(year=year + 1))
        for year in range(2005, 2013)
    )
    found = plan(POLICY, Facts("public.ticks", years), as_of=datetime(2012, 1, 1, tzinfo=UTC), now=NOW)
    assert [each.chunk for each in found.seal] == ["c2005", "c2006", "c2007", "c2008", "c2009"]


def test_a_chunk_that_is_written_to_waits_for_quiet() -> None:
    found = planned(chunks=(chunk(last_write=NOW - timedelta(minutes=59)),))
    assert [(each.code, each.until) for each in found.waiting] == [("WRITTEN", NOW + timedelta(minutes=1))]
    assert "written to 59 minutes ago" in found.waiting[0].message
    assert planned(chunks=(chunk(last_write=NOW - timedelta(hours=1)),)).seal
    assert planned(replace(POLICY, quiet=timedelta(0)), chunks=(chunk(last_write=NOW),)).seal


def test_a_chunk_whose_writes_nobody_counted_waits_until_somebody_has() -> None:
    assert [code for code, _ in waits(chunks=(chunk(last_write=None),))] == ["UNSEEN"]
    assert planned(replace(POLICY, quiet=timedelta(0)), chunks=(chunk(last_write=None),)).seal


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (-DAY, "0 seconds"),
        (timedelta(seconds=119), "119 seconds"),
        (timedelta(minutes=119), "119 minutes"),
        (DAY * 1.5, "36 hours"),
        (30 * DAY, "30 days"),
    ],
)
def test_spans_are_said_in_the_unit_that_fits(span: timedelta, said: str) -> None:
    assert lasted(span) == said


def test_a_compressed_chunk_becomes_a_slice_that_says_so_and_tells_nothing_of_others() -> None:
    one = planned(chunks=(chunk(compressed=True),)).seal[0].slice(NOW)
    assert one.compressed
    gone = replace(brought_to(S.DROPPED, slice_id(5)), compressed=True, size_bytes=1)
    assert planned(chunks=(chunk(),), slices=(gone,)).ratio == planned(chunks=(chunk(),)).ratio


def test_a_hold_is_named() -> None:
    start, end = slice_id(0).start, slice_id(0).end
    ((code, message),) = waits(
        chunks=(chunk(),), holds=(Hold("public.ticks", start, end, "a law suit", "ada", NOW),)
    )
    assert code == "HOLD"
    assert "ada" in message
    assert "a law suit" in message


def test_a_policy_that_is_switched_off() -> None:
    assert [code for code, _ in waits(replace(POLICY, enabled=False), chunks=(chunk(),), late=(late(),))] == [
        "DISABLED"
    ] * 2


def test_quiet_hours_put_everything_off() -> None:
    found = planned(replace(POLICY, quiet_hours=QuietHours(time(11), time(13))), chunks=(chunk(),))
    assert (len(found.seal), len(found.queued)) == (0, 1)
    assert found.quiet_until == NOW.replace(hour=13)
    assert planned(replace(POLICY, quiet_hours=QuietHours(time(13), time(11))), chunks=(chunk(),)).seal


def test_what_was_given_up_rests_then_is_tried_again() -> None:
    one = brought_to(S.ABORTED)
    ((code, message),) = waits(chunks=(chunk(),), slices=(one,))
    assert code == "ABORTED"
    assert "infinity in price" in message
    found = plan(
        POLICY, Facts("public.ticks", (chunk(size_bytes=5),), slices=(one,)), as_of=NOW, now=NOW + DAY
    )
    assert found.seal[0].known == one
    again = found.seal[0].slice(NOW)
    assert (again.state, again.size_bytes, again.id) == (S.ABORTED, 5, one.id)
    assert moved(transitions.choose(again, NOW)).state is S.ELIGIBLE


def test_a_new_candidate_becomes_a_slice() -> None:
    one = planned(chunks=(chunk(),)).seal[0].slice(NOW)
    assert (one.state, one.source, one.chunk, one.size_bytes) == (S.LIVE, Source.CHUNK, chunk().chunk, 1000)


def test_a_chunk_that_somebody_else_dropped() -> None:
    assert [code for code, _ in waits(slices=(brought_to(S.ABORTED),))] == ["GONE"]


def test_restored_rows_are_never_archived_again() -> None:
    back = brought_to(S.RESTORED)
    ((code, message),) = waits(chunks=(chunk(chunk=back.chunk),), slices=(back,))
    assert code == "RESTORED"
    assert moment(back.restore_until) in message


def test_an_external_chunk_in_a_restored_range_waits() -> None:
    back = brought_to(S.RESTORED)
    codes = [
        code
        for code, _ in waits(
            chunks=(chunk(chunk="x"), chunk(chunk=back.chunk)), slices=(back,), late=(late(),)
        )
    ]
    assert codes == ["RESTORED"] * 3


def test_an_external_chunk_in_a_dropped_range_is_the_next_generation() -> None:
    found = planned(chunks=(chunk(chunk="strange"),), slices=(brought_to(S.DROPPED),))
    assert [(each.id, each.source, each.chunk) for each in found.seal] == [
        (slice_id(generation=2), Source.CHUNK, "strange")
    ]


def test_late_rows_of_a_dropped_range_are_the_next_generation_after_their_quiet_period() -> None:
    gone = brought_to(S.DROPPED)
    found = planned(slices=(gone,), late=(late(last_write=NOW - DAY),))
    (one,) = found.seal
    assert (one.id, one.source) == (slice_id(generation=2), Source.LATE)
    assert "late" in one.chunk
    assert [code for code, _ in waits(slices=(gone,), late=(late(last_write=NOW),))] == ["WRITTEN"]


def test_a_range_goes_round_one_slice_at_a_time() -> None:
    found = planned(chunks=(chunk(chunk="strange"),), slices=(brought_to(S.DROPPED),), late=(late(),))
    assert [each.id.generation for each in found.seal] == [2]
    second = brought_to(S.SEALED, slice_id(generation=2), source=Source.LATE)
    assert [code for code, _ in waits(slices=(brought_to(S.DROPPED), second), late=(late(),))] == [
        "SEALED",
        "RANGE_BUSY",
    ]


def week(start: datetime = FIRST.start) -> ChunkFacts:
    """A chunk of a longer interval, which begins where the first day did."""
    return chunk(chunk="week", start=start, end=slice_id(6).end)


def test_a_longer_chunk_that_begins_where_one_left_is_the_next_generation() -> None:
    gone = (brought_to(S.DROPPED), brought_to(S.DROPPED, slice_id(3)))
    found = planned(chunks=(week(),), slices=gone)
    assert [each.id for each in found.seal] == [replace(slice_id(generation=2), end=slice_id(6).end)]
    strange = planned(chunks=(week(slice_id(-1).start),), slices=gone)
    assert [each.id.generation for each in strange.seal] == [1]


@pytest.mark.parametrize("day", [-1, 0, 3, 6, 7])
def test_ranges_that_overlap_go_round_one_at_a_time(day: int) -> None:
    busy = brought_to(S.SEALED, slice_id(day))
    found = planned(chunks=(week(),), slices=(busy,))
    assert bool(found.seal) == (day in (-1, 7))
    codes = [(each.code, each.message) for each in found.waiting if each.chunk == "week"]
    assert codes in ([], [("RANGE_BUSY", codes and codes[0][1])])
    if codes:
        assert f"{busy.id}, which overlaps it, is sealed" in codes[0][1]


def test_of_ranges_that_overlap_the_oldest_is_sealed_first() -> None:
    gone = tuple(brought_to(S.DROPPED, slice_id(day)) for day in (0, 3, 8))
    rows = tuple(late(day, last_write=NOW - DAY) for day in (3, 8))
    found = planned(chunks=(week(),), slices=gone, late=rows)
    assert [each.id.start for each in found.seal] == [slice_id(0).start, slice_id(8).start]


def test_late_rows_leave_as_a_slice_that_reaches_as_far_as_they_do() -> None:
    """All that have the same start are taken together, also by a slice that was given up."""
    longer = replace(slice_id(generation=3), end=slice_id(6).end)
    aborted = brought_to(S.ABORTED, slice_id(generation=2), source=Source.LATE)
    slices = (brought_to(S.DROPPED), aborted, brought_to(S.DROPPED, longer))
    rows = late(end=longer.end, last_write=NOW - DAY)
    found = plan(POLICY, Facts("public.ticks", slices=slices, late=(rows,)), as_of=NOW, now=NOW + DAY)
    assert [each.id for each in found.seal] == [replace(longer, generation=4)]
    assert [(each.id, each.code) for each in found.waiting] == [(aborted.id, "RANGE_BUSY")]


def test_late_rows_of_a_sealed_or_open_range_wait() -> None:
    sealed = brought_to(S.SEALED)
    assert [code for code, _ in waits(chunks=(chunk(),), slices=(sealed,), late=(late(),))] == [
        "SEALED",
        "RANGE_BUSY",
    ]
    assert [code for code, _ in waits(late=(late(),))] == ["RANGE_OPEN"]


def test_late_rows_that_were_given_up_keep_their_generation() -> None:
    aborted = brought_to(S.ABORTED, slice_id(generation=2), source=Source.LATE)
    facts = Facts("public.ticks", slices=(brought_to(S.DROPPED), aborted))
    found = plan(POLICY, facts, as_of=NOW, now=NOW + DAY)
    assert [each.known for each in found.seal] == [aborted]


def test_late_rows_join_the_late_slice_that_was_given_up() -> None:
    aborted = brought_to(S.ABORTED, slice_id(generation=2), source=Source.LATE)
    slices, rows = (brought_to(S.DROPPED), aborted), (late(size_bytes=7, last_write=NOW),)
    assert [code for code, _ in waits(slices=slices, late=rows)] == ["ABORTED"]
    found = plan(POLICY, Facts("public.ticks", slices=slices, late=rows), as_of=NOW, now=NOW + DAY)
    assert [(each.known, each.size_bytes) for each in found.seal] == [(aborted, 7)]


def test_a_plan_says_why_a_chunk_is_there() -> None:
    chunks = tuple(chunk(day, chunk=f"c{day}") for day in (0, 1, 2, 300))
    found = planned(replace(POLICY, most_seals=1), chunks=chunks)
    assert "next round" in (found.why("c0") or "")
    assert "1 go before it" in (found.why("c1") or "")
    assert "730 days" in (found.why("c300") or "")
    assert found.why("unknown") is None
    quiet = planned(replace(POLICY, quiet_hours=QuietHours(time(11), time(13))), chunks=chunks)
    assert "after the quiet hours, 2026-03-01 13:00" in (quiet.why("c0") or "")


def test_bytes_in_the_lake_are_guessed_then_measured() -> None:
    assert planned(chunks=(chunk(), chunk(1, compressed=True))).lake_bytes == 250 + 1000
    gone = replace(brought_to(S.DROPPED, slice_id(5)), size_bytes=2500)
    assert gone.verified is not None
    assert gone.verified.copy.files == (FILE,)
    found = planned(chunks=(chunk(),), slices=(gone,))
    assert found.ratio == pytest.approx(0.1)
    assert found.lake_bytes == 100


def test_planning_ten_thousand_slices_is_quick() -> None:
    gone = brought_to(S.DROPPED)
    slices = tuple(
        replace(gone, id=SliceId("public.ticks", gone.id.start - day * DAY, gone.id.end - day * DAY))
        for day in range(10_000)
    )
    chunks = tuple(chunk(day) for day in range(1, 1000))
    found = planned(chunks=chunks, slices=slices)
    assert len(found.seal) + len(found.queued) + len(found.waiting) == 999


# Reasons.


@pytest.mark.parametrize("state", S)
def test_every_state_says_what_it_waits_for(state: ArchiveState) -> None:
    said = why_not_dropped(brought_to(state), NOW)
    assert "None" not in said
    assert len(said) > 10


def test_reasons_are_exact() -> None:
    requested = brought_to(S.REQUESTED)
    assert "e1 (attempt 1)" in why_not_dropped(requested, NOW)
    assert "tidemill serve archiver" in why_not_dropped(requested, NOW + DAY)
    assert "overdue" in why_not_dropped(brought_to(S.COPYING), NOW + DAY)
    assert why_not_dropped(brought_to(S.SEALED), NOW) != why_not_dropped(measured_slice(), NOW)
    stopped = moved(hold(brought_to(S.VERIFIED), NOW, who="ada", why="a law suit"))
    assert "a law suit" in why_not_dropped(stopped, NOW)
    assert "row_count 3 instead of 2" in why_not_dropped(brought_to(S.QUARANTINED), NOW)
    assert "no reason given" in why_not_dropped(replace(brought_to(S.ABORTED), reason=None), NOW)
    assert moment(None) == "an unknown time"
