"""What every `OutboxReader` and `OutboxGenerations` promises, asked of the fake and of the real one alike."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.architecture import tree
from tests.conformance.outbox_subjects import Subject, real_subject
from tests.support.engine.outbox import AGGREGATE, Scribe, claim_of, lane_of
from tidemill.domain.errors import ContractError, Fenced
from tidemill.domain.identity import event_id
from tidemill.outbox.pack import Pack
from tidemill.outbox.ports import (
    NOTHING_PUBLISHED,
    Fork,
    LaneEnd,
    OutboxItem,
    Published,
)
from tidemill.storage.database.statements import load_statements

MUCH = 1 << 20


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject()
        return
    async with real_subject(request.getfixturevalue("database")) as real:
        yield real


# --- statements and rows, which need no server -----------------------------------------------------------------------

ADAPTER = Path("src/tidemill/storage/outbox")
STATEMENTS = load_statements(tree.ROOT / ADAPTER / "outbox.sql")


def selected(statement: str) -> list[str]:
    """The names of the columns, in order."""
    found = re.search(r"^select (.*?)\sfrom ", STATEMENTS[statement], re.MULTILINE | re.DOTALL)
    assert found is not None
    columns = re.sub(r"\([^()]*\)", "", found[1]).split(",")
    return [re.sub(r"::\w+$", "", column.strip()).split()[-1].split(".")[-1] for column in columns]


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("read_outbox", OutboxItem._fields),
        ("published", Published._fields),
        ("lane_end", ("epoch", *LaneEnd._fields[:3])),
        ("forks", Fork._fields),
    ],
)
def test_a_statement_selects_what_its_row_has(statement: str, row: tuple[str, ...]) -> None:
    """Rows are made by place, not by name."""
    assert selected(statement) == list(row)


def test_every_statement_is_sent() -> None:
    sent = re.findall(r"_fetch\(\s*\"(\w+)\"", tree.text(ADAPTER / "reader.py"))
    assert set(sent) == STATEMENTS.keys()


# --- what is promised ------------------------------------------------------------------------------------------------


def positions(stored: list[OutboxItem] | list[Pack]) -> list[tuple[int, int]]:
    return [(item.position, item.item) for item in stored if isinstance(item, OutboxItem)]


async def test_rows_come_back_as_they_were_written(subject: Subject) -> None:
    lane = subject.lanes[0]
    fields = {"correlation": "c", "trace": "00-1-2-03", "client_id": "mine", "key": b"\x00k", "detail": "d"}
    written = Scribe(lane).applied(2, events=2, **fields).rejected().applied(events=0).parked().batch()
    await subject.store(written)
    assert await subject.outbox.read(lane.id, 0, 100, MUCH) == written.items()


async def test_only_the_asked_lane_and_what_is_behind(subject: Subject) -> None:
    lane, other = subject.lanes
    await subject.store(Scribe(lane).applied(5).batch(), Scribe(other).applied(3).batch())
    assert positions(await subject.outbox.read(other.id, 1, 100, MUCH)) == [(2, 0), (3, 0)]
    assert await subject.outbox.read(other.id, 3, 100, MUCH) == []


async def test_a_limit_counts_whole_positions(subject: Subject) -> None:
    lane = subject.lanes[0]
    await subject.store(Scribe(lane).applied(4, events=3).batch())
    found = positions(await subject.outbox.read(lane.id, 1, 2, MUCH))
    assert found == [(position, item) for position in (2, 3) for item in (0, 1, 2)]


async def test_bytes_are_bounded_but_for_the_first_position(subject: Subject) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane).applied(3, payload=b"x" * 90, key=b"k" * 10).parked(b"y" * 500, key=None)
    await subject.store(scribe.applied(payload=b"z" * 1000, key=b"").batch())

    async def read(after: int, max_bytes: int) -> list[int]:
        return [item.position for item in await subject.outbox.read(lane.id, after, 100, max_bytes)]

    assert await read(0, 199) == [1]
    assert await read(0, 200) == [1, 2]
    assert await read(0, 801) == [1, 2, 3]
    assert await read(0, 802) == [1, 2, 3, 4], "with two brackets for no headers"
    assert await read(4, 1) == [5]


async def test_headers_of_parked_records_count(subject: Subject) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane).applied(payload=b"x" * 90, key=b"k" * 10)
    for _ in range(20):
        scribe.parked(None, key=None, headers=[("h", bytes(60_000))])
    await subject.store(scribe.applied(payload=b"y", key=b"").batch())

    async def read(after: int, max_bytes: int) -> list[int]:
        return [item.position for item in await subject.outbox.read(lane.id, after, 100, max_bytes)]

    assert await read(0, 1_000) == [1]
    assert await read(0, 200_000) == [1, 2, 3]
    assert await read(1, 1_000) == [2], "one that alone is larger"
    assert await read(1, 200_000) == [2, 3]
    assert await read(21, 1_000) == [22]


async def test_what_no_letter_takes_is_not_loaded(subject: Subject) -> None:
    lane = subject.lanes[0]
    large = b"x" * 1_001
    scribe = Scribe(lane).parked(large, key=b"k", headers=[("a", b"b")]).parked(b"v", key=large)
    await subject.store(scribe.parked(b"v", key=b"k", headers=[("a", large * 2)]).parked(large[1:]).batch())
    found = await subject.outbox.parked(lane.id, [1, 2, 3, 4], 1_000)
    value, key, headers, small = (found[position] for position in (1, 2, 3, 4))
    assert (value.key, value.value, value.headers) == (b"k", None, (("a", b"b"),))
    assert (value.value_bytes, value.bare, value.whole) == (1_001, False, False)
    assert (key.key, key.value, key.value_bytes, key.bare, key.whole) == (None, b"v", None, True, False)
    assert (headers.key, headers.headers, headers.bare, headers.whole) == (b"k", (), True, False)
    assert (small.value, small.value_bytes, small.whole) == (large[1:], None, True)


async def test_a_hole_is_looked_across(subject: Subject) -> None:
    lane = subject.lanes[0]
    first, second = Scribe(lane).applied().batch(), Scribe(lane, position=500, sequence=500, number=1)
    await subject.store(first, second.applied().batch())
    assert positions(await subject.outbox.read(lane.id, 1, 10, MUCH)) == [(501, 0)]


async def test_generations_are_one_outbox(subject: Subject) -> None:
    lane = subject.lanes[0]
    scribe = Scribe(lane)
    await subject.store(scribe.applied(2).batch())
    scribe.gen = await subject.roll()
    await subject.store(scribe.applied(2, events=2).batch())
    found = positions(await subject.outbox.read(lane.id, 0, 100, MUCH))
    assert found == [(1, 0), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1)]
    assert await subject.outbox.end(claim_of(lane)) == LaneEnd(4, 6, 1)


async def test_parked_records_are_kept_as_they_came(subject: Subject) -> None:
    lane = subject.lanes[0]
    headers = [("a", b"\x00\xff"), ("a", None), ("", b""), ("n\x00", b"nul"), ("n\\0", b"no nul")]
    scribe = Scribe(lane).parked(b"\x00", key=None, headers=headers).applied().parked(None, key=b"k")
    await subject.store(scribe.batch())
    found = await subject.outbox.parked(lane.id, [1, 2, 3], MUCH)
    assert found.keys() == {1, 3}
    assert (found[1].key, found[1].value, found[1].headers) == (None, b"\x00", tuple(headers))
    assert (found[3].key, found[3].value, found[3].headers) == (b"k", None, ())
    assert (found[3].topic, found[3].partition, found[3].record_offset) == (
        lane.topics.commands, lane.partition, 2
    )  # fmt: skip
    assert (found[3].code, found[3].detail) == ("MALFORMED", "not Avro")


async def test_lanes_with_more_are_told_with_their_newest_position(subject: Subject) -> None:
    lane, other = subject.lanes
    await subject.store(Scribe(lane).applied(5).batch(), Scribe(other).applied(3).batch())
    assert await subject.outbox.pending({lane.id: 4, other.id: 3}) == {lane.id: 5}
    assert await subject.outbox.pending({lane.id: 5, other.id: 3, 99: 0}) == {}


async def test_hints_only_move_forward(subject: Subject) -> None:
    lane, other = subject.lanes
    outbox = subject.outbox
    assert await outbox.published(lane.id) == NOTHING_PUBLISHED
    await outbox.mark({lane.id: Published(5, 3, "e:1"), other.id: Published(1, 0, None)})
    await outbox.mark({lane.id: Published(4, 4, "f:1"), other.id: Published(2, 1, "g:1")})
    assert await outbox.published(lane.id) == Published(5, 3, "e:1")
    assert await outbox.published(other.id) == Published(2, 1, "g:1")
    await outbox.mark({})


async def test_the_end_is_that_of_the_newest_batch(subject: Subject) -> None:
    lane = subject.lanes[0]
    assert await subject.outbox.end(claim_of(lane)) == LaneEnd(0, 0, 1)
    scribe = Scribe(lane, timeline=2)
    await subject.store(scribe.applied(2, events=2).batch(), scribe.rejected().batch())
    assert await subject.outbox.end(claim_of(lane)) == LaneEnd(3, 4, 2)


async def test_who_lost_a_claim_is_fenced(subject: Subject) -> None:
    lane = subject.lanes[0]
    await subject.claim(lane, 2)
    with pytest.raises(Fenced) as caught:
        await subject.outbox.end(claim_of(lane, 1))
    assert caught.value.lanes == {lane.id}
    await subject.outbox.end(claim_of(lane, 2))


async def test_a_lane_without_a_ledger_is_said(subject: Subject) -> None:
    with pytest.raises(ContractError, match=f"of {AGGREGATE} has no ledger"):
        await subject.outbox.end(claim_of(lane_of(99)))


async def test_the_events_of_a_position(subject: Subject) -> None:
    lane = subject.lanes[0]
    written = Scribe(lane).applied().applied(events=2).rejected().batch()
    await subject.store(written)
    command = written.outbox[1].command_id
    assert command is not None
    events = {2: event_id(command, 1), 3: event_id(command, 2)}
    assert await subject.outbox.events_at(lane.id, 2) == events
    assert await subject.outbox.events_at(lane.id, 3) == {}
    assert await subject.outbox.events_at(lane.id, 4) is None


async def test_a_halt_is_recorded_once_and_by_the_owner_only(subject: Subject) -> None:
    lane, other = subject.lanes
    lanes = [lane.id, other.id, 99]
    await subject.outbox.halt(claim_of(lane), "OUTBOX_GAP", "first")
    await subject.outbox.halt(claim_of(lane), "TOPIC_BEHIND", "second")
    await subject.claim(other, 2)
    await subject.outbox.halt(claim_of(other, 1), "OUTBOX_GAP", "by a former owner")
    assert await subject.outbox.halted(lanes) == {lane.id}
    await subject.lift(lane)
    assert await subject.outbox.halted(lanes) == frozenset()


async def test_a_generation_leaves_after_its_publication(subject: Subject) -> None:
    lane, other = subject.lanes
    outbox, scribe = subject.outbox, Scribe(lane)
    await subject.store(scribe.applied(3).batch(), Scribe(other).applied(2).batch())
    scribe.gen = await subject.roll()
    await subject.store(scribe.applied().batch())

    await outbox.mark({lane.id: Published(3, 3, "e:1"), other.id: Published(1, 1, "f:1")})
    await outbox.note_sent()
    assert await outbox.droppable(timedelta(0)) == []
    await outbox.mark({other.id: Published(2, 2, "g:1")})
    await outbox.note_sent()
    assert await outbox.droppable(timedelta(hours=72)) == []
    await subject.jump(timedelta(hours=72))
    assert await outbox.droppable(timedelta(hours=73)) == []
    assert await outbox.droppable(timedelta(hours=72)) == [1]
    await outbox.drop(1)
    assert await outbox.droppable(timedelta(hours=72)) == []
    assert positions(await outbox.read(lane.id, 0, 10, MUCH)) == [(4, 0)]
    assert await outbox.read(other.id, 0, 10, MUCH) == []
    assert await outbox.events_at(lane.id, 3) is None
    assert await outbox.end(claim_of(other)) == LaneEnd(2, 2, 1)
