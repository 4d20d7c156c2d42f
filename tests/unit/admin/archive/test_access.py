"""An operator's work on the archive: which table and slice are meant, and what happens when others are in the way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from tests.unit.admin.audit.test_balance import lane_state
from tidemill.admin.archive.access import ArchiveAccess, slice_at
from tidemill.admin.archive.ports import ArchiveInspector, RestoreStore
from tidemill.admin.lanes.comparison import LaneComparison
from tidemill.admin.ports import LaneReader
from tidemill.admin.rows import LaneState
from tidemill.catalog.streams import ContextStream
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.archive.slices import ArchiveState, SliceId, Source
from tidemill.domain.errors import LaneHalted, TransientError, UsageError
from tidemill.domain.lane import Claim
from tidemill.outbox.ports import ForeignTail
from tidemill.retention.planner import Facts
from tidemill.retention.ports import Overtaken
from tidemill.retention.slices import Slice
from tidemill.retention.stream import archive_stream
from tidemill.retention.stream import context as archive_context

STREAM = ContextStream(archive_context, archive_stream("tidemill"))
AT = datetime(2010, 3, 1, tzinfo=UTC)
TABLE = "public.market_data"


class Lanes:
    """The archive's lane, and how its topics compare with it."""

    def __init__(self, *, fault: Exception | None = None, **changed: Any) -> None:
        topics = STREAM.stream.topics
        named = {
            "aggregate": "archival",
            "command_topic": topics.commands,
            "event_topic": topics.events,
            "outcome_topic": topics.outcomes,
            "dead_letter_topic": topics.dead_letters,
        }
        self.state = lane_state(1, position=1, sequence=1, **named | changed)
        self.fault = fault
        self.halts: list[tuple[str, str]] = []

    async def lanes(self) -> list[LaneState]:
        return [self.state]

    async def compare(self, state: LaneState) -> None:
        if self.fault is not None:
            raise self.fault

    async def halt(self, claim: Claim, code: str, detail: str) -> None:
        self.halts.append((code, detail))


def access(lanes: Lanes, *, announcing: bool = False) -> ArchiveAccess:
    policy = market_data.retention
    assert policy is not None
    return ArchiveAccess(
        policies={policy.table_name: policy},
        as_of=None,
        stream=STREAM,
        store=cast("ArchiveInspector", object()),
        restores=cast("RestoreStore", object()),
        lanes=cast("LaneReader", lanes),
        comparison=cast("LaneComparison", lanes),
        halt=lanes.halt,
        announcing=announcing,
        pause_s=0.0,
    )


class Work:
    """Something to do, which others are in the way of so many times."""

    def __init__(self, disturbed: int) -> None:
        self.disturbed, self.tries = disturbed, 0

    async def __call__(self, claim: Claim) -> int:
        self.tries += 1
        if self.tries <= self.disturbed:
            raise Overtaken("a step came in between")
        return claim.epoch


async def test_what_others_were_in_the_way_of_is_tried_again() -> None:
    work = Work(disturbed=2)
    assert await access(Lanes()).order(work) == 1
    assert work.tries == 3


async def test_it_is_given_up_after_some_tries_and_says_that_nothing_was_changed() -> None:
    with pytest.raises(TransientError, match="a step came in between; nothing was changed: try again"):
        await access(Lanes()).order(Work(disturbed=99))


async def test_what_publishes_needs_a_lane_that_is_not_halted() -> None:
    lanes = Lanes(halt_code="OFFSET_LOST", halt_detail="gone")
    with pytest.raises(LaneHalted):
        await access(lanes, announcing=True).order(Work(0))
    assert await access(lanes).order(Work(0)) == 1, "what publishes nothing needs it not"


@pytest.mark.parametrize(
    ("fault", "code"),
    [(LaneHalted(1, "TOPIC_BEHIND", "lost"), "TOPIC_BEHIND"), (ForeignTail("t", 0, 5), "FOREIGN_TAIL")],
)
async def test_a_lane_that_contradicts_its_topics_is_halted(fault: Exception, code: str) -> None:
    lanes, work = Lanes(fault=fault), Work(0)
    with pytest.raises(LaneHalted):
        await access(lanes, announcing=True).order(work)
    assert [found for found, _ in lanes.halts] == [code]
    assert work.tries == 0


@pytest.mark.parametrize("name", ["market_data", TABLE])
def test_a_table_is_named_with_or_without_its_schema(name: str) -> None:
    assert access(Lanes()).policy(name).table_name == TABLE


def test_a_table_that_does_not_leave_is_refused_with_those_that_do() -> None:
    with pytest.raises(UsageError, match=f"table 'quotes' has no retention: choose one of {TABLE}"):
        access(Lanes()).chosen("quotes")


def test_a_rehearsal_does_not_wait_for_quiet() -> None:
    opened = access(Lanes())
    assert opened.rehearsed(None) is opened
    rehearsed = opened.rehearsed(AT)
    assert rehearsed.as_of == AT
    assert [policy.quiet for policy in rehearsed.chosen(None)] == [timedelta(0)]


def slice_of(generation: int, state: ArchiveState = ArchiveState.QUARANTINED) -> Slice:
    which = SliceId(TABLE, AT, AT + timedelta(days=7), generation)
    return Slice(which, state, AT, Source.CHUNK, "c")


def facts(*slices: Slice) -> Facts:
    return Facts(TABLE, slices=slices)


def test_a_slice_is_named_by_a_time_in_its_range() -> None:
    assert slice_at(facts(slice_of(1)), AT + timedelta(days=6), None).generation == 1
    with pytest.raises(UsageError, match=r"no slice of public\.market_data with 2010-03-08"):
        slice_at(facts(slice_of(1)), AT + timedelta(days=7), None)


def test_of_several_generations_one_must_be_chosen() -> None:
    known: Sequence[Slice] = [slice_of(1), slice_of(2, ArchiveState.HELD)]
    with pytest.raises(
        UsageError, match=r"choose one by --generation; they are 1 \(quarantined\), 2 \(held\)"
    ):
        slice_at(facts(*known), AT, None)
    assert slice_at(facts(*known), AT, 2) == known[1].id
