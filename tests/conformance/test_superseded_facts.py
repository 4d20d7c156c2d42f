"""What a `CommandStore` and its `UnitOfWork` promise of facts of superseded revisions, and of their removal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conformance.superseded_points import (
    BY_NUMBER,
    BY_TIME,
    OLD,
    OWNER,
    STREAM,
    TIMES,
    YEAR,
    Axis,
    Meanwhile,
    Subject,
    abandoned,
    about,
    completed,
    opened,
)
from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.commands import Harness, base, codes, create_lanes
from tidemill.commands import superseded
from tidemill.contexts.time_series import time_series
from tidemill.domain.decision import Accepted, Rejected
from tidemill.domain.errors import CommitUnknown
from tidemill.domain.lane import Claim
from tidemill.domain.messages import Outcome
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool


@pytest.fixture(params=[BY_NUMBER, BY_TIME], ids=lambda axis: axis.kind)
def axis(request: pytest.FixtureRequest) -> Axis:
    made: Axis = request.param
    return made


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest, axis: Axis) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject(MemoryCommandStore(STREAM), axis)
        return
    database = request.getfixturevalue("database")
    pool = await create_pool(database, application_name="tidemill-tests", size=2)
    async with pool.acquire() as connection:
        await create_lanes(connection, STREAM)
    service = await create_pool(
        f"{database}?role=tidemill_service", application_name="tidemill-tests", size=4
    )
    yield Subject(CommandDatabase(service), axis, pool)
    await close_pool(service)
    await close_pool(pool)


APPLIED = Outcome.APPLIED.letter


async def test_what_a_save_replaced_is_removed_and_its_rows_are_counted_in_the_log(
    subject: Subject, axis: Axis
) -> None:
    await subject.own(0, 1)
    await subject.send(
        axis.create("a"),
        axis.append("a", 2),
        axis.save("a", 3),
        axis.save("a", 4),
        axis.append("a", 1),
    )
    before = await subject.has_superseded("", 10)
    assert before == [("a", True)]
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 2): 5}
    assert await subject.removals() == [(APPLIED, 0, 5)]
    assert len(subject.followed.woken) == 1, "so that its outcome is sent at once"
    assert await subject.has_superseded("", 10) == [("a", False)]


async def test_an_open_save_stays_and_is_completed_whole(subject: Subject, axis: Axis) -> None:
    await subject.own(0, 1)
    await subject.send(axis.create("a"), axis.save("a", 1), opened("a"), axis.fill("a", 2))
    sweeper = subject.sweeper()
    await sweeper.look()
    assert await subject.rows() == {("a", 1): 1, ("a", 2): 2}
    assert await subject.removals() == []
    await subject.send(axis.fill("a", 1), completed("a", 3))
    await sweeper.look()
    assert await subject.rows() == {("a", 2): 3}


async def test_what_an_abandoned_save_filled_is_removed(subject: Subject, axis: Axis) -> None:
    await subject.own(0, 1)
    await subject.send(
        axis.create("a"),
        axis.save("a", 1),
        opened("a"),
        axis.fill("a", 2),
        abandoned("a"),
    )
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 1): 1}
    assert await subject.removals() == [(APPLIED, 0, 2)]


async def test_a_save_that_rests_is_given_up_by_the_service_and_its_points_are_removed(
    subject: Subject, axis: Axis
) -> None:
    await subject.own(0, 1)
    await subject.send(
        axis.create("a"),
        axis.save("a", 1),
        opened("a"),
        axis.fill("a", 2),
        axis.create("b"),
        opened("b"),
    )
    await subject.rest("a")
    await subject.sweeper().look()
    assert ("a", 2) in await subject.rows(), "only what its row says is given up, not what a clock says"
    await subject.lapses().look()
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 1): 1}
    late = [axis.fill("a", 1), completed("a", 2), completed("b", 0), opened("a", "other")]
    assert codes(await subject.series.send(*late)) == ["NO_SAVE", "NO_SAVE", None, None]


async def test_a_save_is_given_up_from_its_time_on_and_not_before(subject: Subject, axis: Axis) -> None:
    await subject.own(0, 1)
    await subject.send(axis.create("a"), opened("a"), axis.fill("a", 2))
    await subject.rest("a")
    lapse = OWNER.lapse
    assert lapse is not None
    rested = (await subject.store.expired(OWNER, lapse, (datetime.min.replace(tzinfo=UTC), ""), 10))[0]
    assert rested[1] == "a"
    row = SimpleNamespace(deleted=False, open_save="mine", open_expires_at=rested[0])
    command = lapse.make("a", base(service_name="tidemill.expiry"))
    just_before = lapse.rule(row, command, rested[0] - timedelta(microseconds=1))
    assert isinstance(just_before, Rejected)
    assert isinstance(lapse.rule(row, command, rested[0]), Accepted)
    assert isinstance(lapse.rule(None, command, rested[0]), Rejected)


async def test_of_saves_that_were_given_up_the_last_one_stays_while_it_is_open(
    subject: Subject, axis: Axis
) -> None:
    await subject.own(0, 1)
    await subject.send(axis.create("a"), opened("a"), axis.fill("a", 2), abandoned("a"), opened("a", "other"))
    await subject.send(axis.fill("a", 3, "other"))
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 2): 3}


async def test_owners_are_listed_in_pages_by_their_keys(subject: Subject, axis: Axis) -> None:
    await subject.own(0, 1)
    await subject.send(
        axis.create("a"),
        axis.create("b"),
        axis.create("c"),
        axis.save("b", 1),
        axis.save("b", 1),
        axis.save("c", 1),
    )
    first = await subject.has_superseded("", 2)
    assert first == [("a", False), ("b", True)]
    assert await subject.has_superseded("b", 2) == [("c", False)]
    assert await subject.has_superseded("c", 2) == []


async def test_more_than_a_page_leaves_in_one_look_in_bounded_transactions(
    subject: Subject, axis: Axis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superseded, "PAGE_OWNERS", 2)
    monkeypatch.setattr(superseded, "MAX_ROWS", 4)
    await subject.own(0, 1)
    keys = ["a", "b", "c", "d", "e"]
    await subject.send(
        *map(axis.create, keys),
        *(axis.save(key, 5) for key in keys),
        *(axis.save(key, 1) for key in keys),
    )
    await subject.sweeper().look()
    assert await subject.rows() == {(key, 2): 1 for key in keys}
    removed = [rows for _, _, rows in await subject.removals()]
    assert (sum(removed), max(removed)) == (25, 4)


async def test_what_is_removed_is_decided_under_the_lock_of_the_lane(subject: Subject, axis: Axis) -> None:
    await subject.own(0, 1)
    await subject.send(
        axis.create("a"),
        axis.save("a", 2),
        opened("a"),
        axis.fill("a", 3),
        abandoned("a"),
    )

    async def opens() -> None:
        await subject.send(opened("a"), axis.fill("a", 4))

    store: Any = Meanwhile(subject, opens)
    await subject.sweeper(store).look()
    assert await subject.rows() == {("a", 1): 2, ("a", 3): 4}


def keys_of(partition: int) -> str:
    topic = Harness(STREAM, MemoryCommandStore(STREAM)).topic
    return next(name for name in "abcdefgh" if topic.lane(BY_NUMBER.create(name)) == partition)


async def test_a_lane_that_is_not_ours_was_lost_or_is_halted_is_left(subject: Subject, axis: Axis) -> None:
    lost, halted = keys_of(0), keys_of(1)
    await subject.own(0, 1)
    for key in (lost, halted):
        await subject.send(axis.create(key), axis.save(key, 1), axis.save(key, 1))
    claims = dict(subject.lanes.claims)
    await subject.store.claim(STREAM.aggregate, [0], "another")
    await subject.store.halt(claims[1], "HISTORY_BEHIND", "by the test")
    sweeper = subject.sweeper()
    await sweeper.look()
    assert len(await subject.rows()) == 4
    await subject.own(0)
    await sweeper.look()
    assert {*await subject.rows()} == {(lost, 2), (halted, 1), (halted, 2)}
    await subject.lanes.drop([subject.series.lane_of(0)])
    await subject.send(axis.save(lost, 1))
    await sweeper.look()
    assert (lost, 2) in await subject.rows(), "only the owner of a lane removes"


async def test_a_lane_that_was_not_compared_yet_is_left(subject: Subject, axis: Axis) -> None:
    await subject.own(0, 1)
    await subject.send(axis.create("a"), axis.save("a", 1), axis.save("a", 1))
    claims: list[Claim] = await subject.store.claim(STREAM.aggregate, [0, 1], "tidemill-tests")
    await subject.lanes.take(claims)
    subject.lanes.begun([claim.lane.id for claim in claims])
    await subject.sweeper().look()
    assert len(await subject.rows()) == 2


async def test_a_lost_answer_to_the_commit_removes_nothing_twice(axis: Axis) -> None:
    subject = Subject(store := MemoryCommandStore(STREAM), axis)
    await subject.own(0, 1)
    await subject.send(axis.create("a"), axis.save("a", 1), axis.save("a", 1))
    store.lose_commits = 1
    sweeper = subject.sweeper()
    with pytest.raises(CommitUnknown):
        await sweeper.look()
    await sweeper.look()
    assert await subject.removals() == [(APPLIED, 0, 1)]


async def test_a_deleted_series_keeps_what_was_current(subject: Subject, axis: Axis) -> None:
    """A deletion is soft: only what was superseded leaves."""
    await subject.own(0, 1)
    await subject.send(
        axis.create("a"),
        axis.save("a", 1),
        axis.save("a", 2),
        about(time_series.messages.delete, "a"),
    )
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 2): 2}
    assert codes(await subject.series.send(axis.append("a", 1))) == ["NO_SERIES"]


# --- axes of datetimes, whose table is divided by time ---


by_time = pytest.mark.parametrize("axis", [BY_TIME], ids=["datetime"])


def yearly(years: int) -> dict[str, Any]:
    return {"times": [OLD + year * YEAR for year in range(years)]}


@by_time
async def test_of_each_chunk_what_was_superseded_is_removed_by_a_command_of_its_own(
    subject: Subject, axis: Axis
) -> None:
    await subject.own(0, 1)
    first, second = (axis.save("a", 3, **yearly(3)) for _ in range(2))
    await subject.send(axis.create("a"), first, second, axis.append("a", 1))
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 2): 4}
    assert await subject.removals() == [(APPLIED, 0, 1)] * 3


@by_time
async def test_nothing_is_removed_of_a_closed_range_until_it_is_open(subject: Subject, axis: Axis) -> None:
    await subject.own(0, 1)
    await subject.send(axis.create("a"), axis.save("a", 3, **yearly(3)))
    await subject.close(OLD + YEAR)
    await subject.send(axis.save("a", 1))
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 1): 1, ("a", 2): 1}
    await subject.open()
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 2): 1}


@by_time
async def test_a_range_that_is_closed_after_the_look_is_left(subject: Subject, axis: Axis) -> None:
    await subject.own(0, 1)
    await subject.send(axis.create("a"), axis.save("a", 2), axis.save("a", 1))

    async def closes() -> None:
        if await subject.store.removable_parts(TIMES.table):
            await subject.close(OLD)

    store: Any = Meanwhile(subject, closes)
    await subject.sweeper(store).look()
    assert await subject.rows() == {("a", 1): 2, ("a", 2): 1}
    assert await subject.removals() == []
