"""Where the topics contradict the database, the lane halts with the name that tells what happened."""

from __future__ import annotations

import pytest

from tests.fakes.outbox import MemoryOutbox
from tests.support.engine.outbox import Scribe, claim_of, lane_of
from tidemill.domain.errors import Fenced, LaneHalted
from tidemill.domain.rejections import HALTED
from tidemill.outbox.ports import NOTHING_PUBLISHED, LaneEnd, Published, SentPositions, Tail, Tails
from tidemill.outbox.tail_check import compare_tails, find_resume_point

LANE = lane_of()
EMPTY = Tails(None, None, None)
END = LaneEnd(position=20, sequence=15, timeline=1)
HINT = Published(10, 8, "h:1")


def events(sequence: int, position: int, name: str = "e:1") -> Tails:
    return Tails(Tail(position, sequence, name), None, None)


@pytest.mark.parametrize(
    ("tails", "published", "known"),
    [
        pytest.param(EMPTY, NOTHING_PUBLISHED, None, id="a new lane"),
        pytest.param(EMPTY, Published(10, 0, None), None, id="outcomes gone by retention, no events yet"),
        pytest.param(events(8, 9, "h:1"), HINT, None, id="events older than the outbox remembers"),
        pytest.param(events(8, 9, "h:1"), HINT, {8: "h:1"}, id="as hinted"),
        pytest.param(events(12, 14), HINT, {11: "d:1", 12: "e:1"}, id="acknowledged and not yet hinted"),
        pytest.param(events(12, 14), HINT, None, id="behind the hint, and the outbox has a hole"),
        pytest.param(events(8, 9, "h:1"), Published(10, 8, None), {8: "h:1"}, id="a hint without a name"),
        pytest.param(
            Tails(Tail(9, 8, "h:1"), Tail(10, 8, None), Tail(3, 2, None)),
            HINT,
            None,
            id="dead letters are rare",
        ),
        pytest.param(events(15, 20), HINT, {15: "e:1"}, id="all of it"),
    ],
)
def test_they_agree(tails: Tails, published: Published, known: dict[int, str] | None) -> None:
    compare_tails(LANE, tails, END, published, known)


@pytest.mark.parametrize(
    ("code", "tails", "published", "known"),
    [
        pytest.param("HISTORY_BEHIND", events(16, 20), HINT, None, id="more events than the log"),
        pytest.param("HISTORY_BEHIND", events(15, 21), HINT, None, id="events at later positions"),
        pytest.param(
            "HISTORY_BEHIND",
            Tails(Tail(9, 8, "h:1"), Tail(21, 15, None), None),
            HINT,
            None,
            id="more outcomes",
        ),
        pytest.param(
            "HISTORY_BEHIND",
            Tails(Tail(9, 8, "h:1"), None, Tail(21, 15, None)),
            HINT,
            None,
            id="more letters",
        ),
        pytest.param("TOPIC_BEHIND", EMPTY, HINT, None, id="an emptied event topic"),
        pytest.param("TOPIC_BEHIND", events(7, 8), HINT, {7: "e:1"}, id="a shorter event topic"),
        pytest.param(
            "TOPIC_BEHIND", Tails(Tail(9, 8, "h:1"), Tail(9, 8, None), None), HINT, None, id="fewer outcomes"
        ),
        pytest.param("HISTORY_FORKED", events(8, 9, "x:1"), HINT, None, id="another event than hinted"),
        pytest.param(
            "HISTORY_FORKED", events(8, 9, "h:1"), HINT, {8: "x:1"}, id="another one in spite of the hint"
        ),
        pytest.param("HISTORY_FORKED", events(12, 14), HINT, {12: "x:1"}, id="another event in the outbox"),
        pytest.param("HISTORY_FORKED", events(12, 14), HINT, {}, id="no event in the outbox"),
        pytest.param("HISTORY_FORKED", events(12, 14), HINT, {11: "e:1"}, id="another number in the outbox"),
    ],
)
def test_they_contradict(code: str, tails: Tails, published: Published, known: dict[int, str] | None) -> None:
    with pytest.raises(LaneHalted) as caught:
        compare_tails(LANE, tails, END, published, known)
    assert (caught.value.lane_id, caught.value.code) == (LANE.id, code)
    assert code in HALTED
    assert f"{LANE.topics.events.removesuffix('.events.v1')}." in caught.value.detail


async def test_the_place_is_behind_the_hint_and_leaves_out_what_is_sent() -> None:
    outbox = MemoryOutbox()
    written = Scribe(LANE).applied(6).batch()
    outbox.store(written)
    outbox.hints[LANE.id] = Published(2, 2, "h:1")
    tail = Tail(4, 4, f"{written.outbox[3].command_id}:1")
    place = await find_resume_point(outbox, claim_of(LANE), Tails(tail, Tail(3, 3, None), None))
    assert place.published == Published(2, 2, "h:1")
    assert place.sent == SentPositions(sequence=4, outcomes=3, dead_letters=2)
    assert place.end == LaneEnd(6, 6, 1)


async def test_an_empty_lane_has_a_place_too() -> None:
    outbox = MemoryOutbox()
    outbox.create(LANE.id)
    place = await find_resume_point(outbox, claim_of(LANE), EMPTY)
    assert (place.published, place.sent) == (NOTHING_PUBLISHED, SentPositions(0, 0, 0))


async def test_who_lost_the_claim_learns_it() -> None:
    outbox = MemoryOutbox()
    outbox.create(LANE.id)
    outbox.epochs[LANE.id] = 2
    with pytest.raises(Fenced):
        await find_resume_point(outbox, claim_of(LANE), EMPTY)
