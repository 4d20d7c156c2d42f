"""What every `OutboxReader` and `OutboxGenerations` promises of packs, asked of the fake and of the real one alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.conformance.outbox_subjects import Subject, real_subject
from tests.support.engine.outbox import Scribe, claim_of
from tests.support.engine.packs import PACKS
from tidemill.domain.identity import event_id
from tidemill.domain.lane import Lane
from tidemill.outbox.pack import Pack
from tidemill.outbox.ports import LaneEnd, OutboxItem, Published

MUCH = 1 << 20
Stored = list[OutboxItem] | list[Pack]


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject()
        return
    async with real_subject(request.getfixturevalue("database")) as real:
        yield real


def spans(stored: Stored) -> list[tuple[int, int]]:
    """Return the first and last position of each pack; of rows there must be none."""
    packs = [each for each in stored if isinstance(each, Pack)]
    assert len(packs) == len(stored), "rows among packs"
    return [(pack.first_position, pack.position) for pack in packs]


def places(stored: Stored) -> list[int]:
    """Return the positions of rows; of packs there must be none."""
    items = [each for each in stored if isinstance(each, OutboxItem)]
    assert len(items) == len(stored), "packs among rows"
    return [item.position for item in items]


async def walk(subject: Subject, lane: Lane, limit: int = 100) -> list[list[tuple[int, int]] | list[int]]:
    """Read all there is, one answer after the other."""
    answers: list[list[tuple[int, int]] | list[int]] = []
    after = 0
    while stored := await subject.outbox.read(lane.id, after, limit, MUCH):
        after = stored[-1].position
        answers.append(spans(stored) if isinstance(stored[0], Pack) else places(stored))
    return answers


async def test_packs_come_back_as_they_were_written(subject: Subject) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    first = scribe.applied(2, events=2, correlation="c", trace="00-1-2-03").rejected().parked().batch()
    second = scribe.rejected(2).batch()
    await subject.store(first, second, packs=PACKS)
    rows = [*first.packs(PACKS), *second.packs(PACKS)]
    assert await subject.outbox.read(lane.id, 0, 100, MUCH) == [Pack(*columns) for _, _, *columns in rows]


async def test_the_first_pack_may_begin_before_what_is_asked_for(subject: Subject) -> None:
    lane, other = subject.lanes
    scribe = Scribe(lane)
    await subject.store(scribe.applied(4).batch(), scribe.applied(3).batch(), packs=PACKS)
    await subject.store(Scribe(other).applied(2).batch(), packs=PACKS)
    assert spans(await subject.outbox.read(lane.id, 0, 100, MUCH)) == [(1, 4), (5, 7)]
    assert spans(await subject.outbox.read(lane.id, 3, 100, MUCH)) == [(1, 4), (5, 7)]
    assert spans(await subject.outbox.read(lane.id, 4, 100, MUCH)) == [(5, 7)]
    assert await subject.outbox.read(lane.id, 7, 100, MUCH) == []
    assert spans(await subject.outbox.read(other.id, 1, 100, MUCH)) == [(1, 2)]


@pytest.mark.parametrize("size", [1, 3])
async def test_a_limit_counts_positions_but_for_the_first_pack(subject: Subject, size: int) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    await subject.store(*(scribe.applied(size, events=2).batch() for _ in range(6)), packs=PACKS)

    async def count(after: int, limit: int) -> int:
        return len(await subject.outbox.read(lane.id, after, limit, MUCH))

    assert await count(0, 1) == 1
    assert await count(0, 2 * size) == 2
    assert await count(0, 3 * size - 1) == max(1, (3 * size - 1) // size)
    assert await count(size, 3 * size) == 3
    assert await count(size - 1, size + 1) == 2, "what lies before is not counted"
    assert await count(0, 100) == 6


async def test_bytes_are_bounded_but_for_the_first_pack(subject: Subject) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    written = [scribe.applied(payload=bytes(range(size))).batch() for size in (50, 90, 20)]
    await subject.store(*written, packs=PACKS)
    packs = [Pack(*columns) for batch in written for _, _, *columns in batch.packs(PACKS)]
    one, two, three = (len(pack.events or b"") + len(pack.outcomes) for pack in packs)

    async def count(after: int, max_bytes: int) -> int:
        return len(await subject.outbox.read(lane.id, after, 100, max_bytes))

    assert await count(0, 1) == 1
    assert await count(0, one + two - 1) == 1
    assert await count(0, one + two) == 2
    assert await count(0, one + two + three) == 3
    assert await count(1, one + two) == (2 if three <= one else 1)


async def test_bytes_are_bounded_unpacked_too(subject: Subject) -> None:
    """They may be sent without compression: of what packs well no more is read than eight times the bound."""
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    written = [scribe.applied(payload=bytes(40_000)).batch() for _ in range(3)]
    await subject.store(*written, packs=PACKS)
    packs = [Pack(*columns) for batch in written for _, _, *columns in batch.packs(PACKS)]
    unpacked = packs[0].unpacked_bytes
    assert unpacked > 40_000 > 8 * sum(len(pack.events or b"") + len(pack.outcomes) for pack in packs)
    for count in (1, 2, 3):
        stored = await subject.outbox.read(lane.id, 0, 100, -(-unpacked * count // 8) + 8)
        assert len(stored) == count


async def test_the_records_that_are_parked_count(subject: Subject) -> None:
    """They are loaded together for their dead letters, and each of them may be large."""
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    for _ in range(5):
        await subject.store(scribe.applied().parked(bytes(40_000)).batch(), packs=PACKS)

    async def read(after: int, max_bytes: int) -> list[tuple[int, int]]:
        return spans(await subject.outbox.read(lane.id, after, 100, max_bytes))

    assert await read(0, 1_000) == [(1, 2)]
    assert await read(0, 100_000) == [(1, 2), (3, 4)]
    assert await read(2, 100_000) == [(3, 4), (5, 6)]
    assert len(await read(0, MUCH)) == 5


async def test_rows_and_packs_take_turns_and_no_answer_crosses_a_border(subject: Subject) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    await subject.store(scribe.applied(2).batch())
    await subject.store(scribe.applied(2).batch(), scribe.rejected().batch(), packs=PACKS)
    await subject.store(scribe.applied(3).batch())
    await subject.store(scribe.applied(1).batch(), packs=PACKS)
    expected = [[1, 2], [(3, 4), (5, 5)], [6, 7, 8], [(9, 9)]]
    assert await walk(subject, lane) == expected
    assert await walk(subject, lane) == expected, "whatever was found last"
    assert await walk(subject, lane, limit=2) == [[1, 2], [(3, 4)], [(5, 5)], [6, 7], [8], [(9, 9)]]
    assert places(await subject.outbox.read(lane.id, 5, 100, MUCH)) == [6, 7, 8]
    assert spans(await subject.outbox.read(lane.id, 3, 100, MUCH)) == [(3, 4), (5, 5)]


async def test_packs_may_come_first(subject: Subject) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    await subject.store(scribe.applied(3).batch(), packs=PACKS)
    await subject.store(scribe.applied(2).batch())
    await subject.store(scribe.applied(1).batch(), packs=PACKS)
    assert await walk(subject, lane) == [[(1, 3)], [4, 5], [(6, 6)]]


async def test_a_hole_is_shown_and_not_hidden(subject: Subject) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    await subject.store(*(scribe.applied(2).batch() for _ in range(4)), packs=PACKS)
    await subject.lose(lane, 3)
    assert await walk(subject, lane) == [[(1, 2)], [(5, 6), (7, 8)]]
    assert await walk(subject, lane, limit=4) == [[(1, 2)], [(5, 6), (7, 8)]], "counted from where it begins"
    await subject.lose(lane, 1)
    assert spans(await subject.outbox.read(lane.id, 0, 1, MUCH)) == [(5, 6)]


async def test_lanes_with_more_are_told_with_their_newest_position(subject: Subject) -> None:
    lane, other = subject.lanes
    mine, theirs = Scribe(lane), Scribe(other)
    await subject.store(mine.applied(5).batch(), theirs.applied(3).batch(), packs=PACKS)
    assert await subject.outbox.pending({lane.id: 4, other.id: 3, 99: 0}) == {lane.id: 5}
    await subject.store(mine.applied().batch())
    await subject.store(theirs.applied().batch(), packs=PACKS)
    assert await subject.outbox.pending({lane.id: 5, other.id: 3}) == {lane.id: 6, other.id: 4}
    assert await subject.outbox.end(claim_of(lane)) == LaneEnd(6, 6, 1)


async def test_the_events_of_a_position_in_a_pack(subject: Subject) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    before = scribe.applied(events=0).rejected().applied().applied(events=3).batch()
    behind = scribe.parked().applied().batch()
    await subject.store(before, behind, packs=PACKS)
    one, three, last = (
        str(rows[at].command_id) for rows, at in ((before.outbox, 2), (before.outbox, 3), (behind.outbox, 1))
    )
    found = [await subject.outbox.events_at(lane.id, position) for position in range(1, 8)]
    assert found == [
        {},
        {},
        {1: event_id(one, 1)},
        {number + 1: event_id(three, number) for number in (1, 2, 3)},
        {},
        {5: event_id(last, 1)},
        None,
    ]
    await subject.lose(lane, 1)
    assert await subject.outbox.events_at(lane.id, 4) is None, "the log alone does not say what was sent"
    assert await subject.outbox.events_at(lane.id, 6) == {5: event_id(last, 1)}


async def test_a_generation_of_packs_leaves_after_its_publication(subject: Subject) -> None:
    lane, other = subject.lanes
    outbox, scribe = subject.outbox, Scribe(lane)
    await subject.store(scribe.applied(3).batch(), Scribe(other).rejected(2).batch(), packs=PACKS)
    scribe.gen = await subject.roll()
    await subject.store(scribe.applied().batch(), packs=PACKS)
    assert await walk(subject, lane) == [[(1, 3), (4, 4)]], "generations are one outbox"

    await outbox.mark({lane.id: Published(3, 3, "e:1"), other.id: Published(1, 0, None)})
    await outbox.note_sent()
    assert await outbox.droppable(timedelta(0)) == []
    await outbox.mark({other.id: Published(2, 0, None)})
    await outbox.note_sent()
    assert await outbox.droppable(timedelta(hours=72)) == []
    await subject.jump(timedelta(hours=72))
    assert await outbox.droppable(timedelta(hours=72)) == [1]
    await outbox.drop(1)
    assert await outbox.droppable(timedelta(hours=72)) == []
    assert await walk(subject, lane) == [[(4, 4)]]
    assert await outbox.read(other.id, 0, 10, MUCH) == []
    assert await outbox.events_at(lane.id, 3) is None
    assert await outbox.pending({lane.id: 3, other.id: 0}) == {lane.id: 4}


async def test_a_generation_that_holds_rows_and_packs_leaves_when_both_were_sent(subject: Subject) -> None:
    lane = subject.lanes[0]
    outbox, scribe = subject.outbox, Scribe(lane)
    await subject.store(scribe.applied(2).batch())
    await subject.store(scribe.applied(2).batch(), packs=PACKS)
    scribe.gen = await subject.roll()
    await outbox.mark({lane.id: Published(2, 2, "e:1")})
    await outbox.note_sent()
    assert await outbox.droppable(timedelta(0)) == [], "its packs were not sent"
    await outbox.mark({lane.id: Published(4, 4, "f:1")})
    await outbox.note_sent()
    assert await outbox.droppable(timedelta(0)) == [1]
    await outbox.drop(1)
    assert await outbox.read(lane.id, 0, 10, MUCH) == []
