"""What a `CommandStore` and its `UnitOfWork` promise of facts of superseded revisions, and of their removal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.codecs import JsonCodec
from tests.fakes.commands import MemoryCommandStore
from tests.fakes.followers import MemoryFollower
from tests.support.engine.commands import Harness, base, codes, create_lanes, outcomes
from tidemill.commands import superseded
from tidemill.commands.expiry import ExpirySweeper, FlowingLanes
from tidemill.commands.handlers import handlers_of
from tidemill.commands.internal_commands import InternalCommandWriter
from tidemill.commands.ports import CommandStore
from tidemill.commands.superseded import SERVICE, SupersededSweeper
from tidemill.contexts.time_series import context, messages, time_series
from tidemill.domain.context import DecideSpec
from tidemill.domain.decision import Accepted, Rejected
from tidemill.domain.errors import CommitUnknown
from tidemill.domain.lane import Claim
from tidemill.domain.messages import CommandBase, Outcome
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool

STREAM = Stream.of(replace(context, partitions=2))
((NAME, FACTS),) = STREAM.removals.items()
OWNER = time_series.state
TABLE = "time_series_numeric_points"


def about(model: type[CommandBase], series: str, **fields: Any) -> CommandBase:
    return model.model_validate(base(time_series_id=series, **fields))


def create(series: str) -> CommandBase:
    axis = {"time_column": "depth", "value_columns": '["open"]', "axis": "float64"}
    return about(time_series.messages.create, series, **axis)


def points(model: type[CommandBase], series: str, size: int, **fields: Any) -> CommandBase:
    lists = {"column_names": ["open"], "columns": [0] * size, "values": [1.0] * size, "floats": [0.5] * size}
    return about(model, series, **lists, **fields)


def append(series: str, size: int) -> CommandBase:
    return points(messages.AppendNumericPoints, series, size)


def save(series: str, size: int) -> CommandBase:
    return points(messages.SaveNumericPoints, series, size)


def fill(series: str, size: int, name: str = "mine") -> CommandBase:
    return points(messages.FillNumericSave, series, size, save=name)


def opened(series: str, name: str = "mine") -> CommandBase:
    return about(messages.OpenTimeSeriesSave, series, save=name)


def abandoned(series: str) -> CommandBase:
    return about(messages.AbandonTimeSeriesSave, series, save="mine")


def completed(series: str, size: int) -> CommandBase:
    return about(messages.CompleteTimeSeriesSave, series, save="mine", points=size)


@dataclass
class Subject:
    """A store with a stream of series, and what a test does by hand."""

    store: CommandStore
    pool: Any = None

    def __post_init__(self) -> None:
        self.series = Harness(STREAM, self.store)
        self.followed = MemoryFollower()
        self.lanes = FlowingLanes(self.followed)

    async def own(self, *partitions: int) -> None:
        """Claim lanes and let them flow."""
        claims = await self.series.claim(partitions)
        await self.lanes.take(claims)
        self.lanes.begun([claim.lane.id for claim in claims])

    async def send(self, *commands: CommandBase) -> None:
        assert outcomes(await self.series.send(*commands)) == {"applied": len(commands)}

    def sweeper(self, store: CommandStore | None = None) -> SupersededSweeper:
        writer = InternalCommandWriter(self.store, SystemClock())
        return SupersededSweeper(
            STREAM, store=store or self.store, writer=writer, lanes=self.lanes, every_s=60.0
        )

    async def rest(self, key: str) -> None:
        """Let the open save of a series have rested too long, as if the time had passed."""
        if isinstance(self.store, MemoryCommandStore):
            held = self.store.tables.states[OWNER.name]
            held[key] = replace(held[key], open_expires_at=datetime(2026, 1, 1, tzinfo=UTC))
        else:
            statement = "update time_series_metadata set open_expires_at = '2026-01-01' where id = $1"
            await self.pool.execute(statement, key)

    def lapses(self) -> ExpirySweeper:
        """Return what gives up saves that rest."""
        handler = handlers_of(STREAM, JsonCodec(STREAM), 1_000_000)[DecideSpec]
        writer = InternalCommandWriter(self.store, SystemClock())
        return ExpirySweeper(
            STREAM, store=self.store, handler=handler, writer=writer, lanes=self.lanes, every_s=60.0
        )

    async def rows(self) -> dict[tuple[str, int], int]:
        """Return how many rows there are of each series and revision."""
        if isinstance(self.store, MemoryCommandStore):
            names = [column.name for column in FACTS.table.columns]
            at = names.index(FACTS.owner), names.index(FACTS.revision)
            rows = [(row[at[0]], row[at[1]]) for row in self.store.tables.appended.get(TABLE, [])]
        else:
            rows = [
                tuple(row) for row in await self.pool.fetch(f"select time_series_id, revision from {TABLE}")
            ]
        return {place: rows.count(place) for place in rows}

    async def removals(self) -> list[tuple[Any, ...]]:
        """Return outcome, events and rows of what the log has of removals."""
        if isinstance(self.store, MemoryCommandStore):
            rows: list[Any] = [row for row in self.store.tables.log[1] if row.service == SERVICE]
            assert {row.type for row in rows} <= {NAME}
            return [(row.outcome, row.events, row.rows) for row in rows]
        logged = "select * from tm.log where service = $1 and type = $2 order by lane, position"
        found = await self.pool.fetch(logged, SERVICE, NAME)
        return [(row["outcome"], row["events"], row["rows"]) for row in found]


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject(MemoryCommandStore(STREAM))
        return
    database = request.getfixturevalue("database")
    pool = await create_pool(database, application_name="tidemill-tests", size=2)
    async with pool.acquire() as connection:
        await create_lanes(connection, STREAM)
    service = await create_pool(
        f"{database}?role=tidemill_service", application_name="tidemill-tests", size=4
    )
    yield Subject(CommandDatabase(service), pool)
    await close_pool(service)
    await close_pool(pool)


APPLIED = Outcome.APPLIED.letter


async def test_what_a_save_replaced_is_removed_and_its_rows_are_counted_in_the_log(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.send(create("a"), append("a", 2), save("a", 3), save("a", 4), append("a", 1))
    before = await subject.series.store.owners_of_superseded(FACTS, OWNER, "", 10)
    assert before == [("a", True)]
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 2): 5}
    assert await subject.removals() == [(APPLIED, 0, 5)]
    assert len(subject.followed.woken) == 1, "so that its outcome is sent at once"
    assert await subject.store.owners_of_superseded(FACTS, OWNER, "", 10) == [("a", False)]


async def test_an_open_save_stays_and_is_completed_whole(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.send(create("a"), save("a", 1), opened("a"), fill("a", 2))
    sweeper = subject.sweeper()
    await sweeper.look()
    assert await subject.rows() == {("a", 1): 1, ("a", 2): 2}
    assert await subject.removals() == []
    await subject.send(fill("a", 1), completed("a", 3))
    await sweeper.look()
    assert await subject.rows() == {("a", 2): 3}


async def test_what_an_abandoned_save_filled_is_removed(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.send(create("a"), save("a", 1), opened("a"), fill("a", 2), abandoned("a"))
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 1): 1}
    assert await subject.removals() == [(APPLIED, 0, 2)]


async def test_a_save_that_rests_is_given_up_by_the_service_and_its_points_are_removed(
    subject: Subject,
) -> None:
    await subject.own(0, 1)
    await subject.send(create("a"), save("a", 1), opened("a"), fill("a", 2), create("b"), opened("b"))
    await subject.rest("a")
    await subject.sweeper().look()
    assert ("a", 2) in await subject.rows(), "only what its row says is given up, not what a clock says"
    await subject.lapses().look()
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 1): 1}
    late = [fill("a", 1), completed("a", 2), completed("b", 0), opened("a", "other")]
    assert codes(await subject.series.send(*late)) == ["NO_SAVE", "NO_SAVE", None, None]


async def test_a_save_is_given_up_from_its_time_on_and_not_before(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.send(create("a"), opened("a"), fill("a", 2))
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


async def test_of_saves_that_were_given_up_the_last_one_stays_while_it_is_open(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.send(create("a"), opened("a"), fill("a", 2), abandoned("a"), opened("a", "other"))
    await subject.send(fill("a", 3, "other"))
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 2): 3}


async def test_owners_are_listed_in_pages_by_their_keys(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.send(create("a"), create("b"), create("c"), save("b", 1), save("b", 1), save("c", 1))
    first = await subject.store.owners_of_superseded(FACTS, OWNER, "", 2)
    assert first == [("a", False), ("b", True)]
    assert await subject.store.owners_of_superseded(FACTS, OWNER, "b", 2) == [("c", False)]
    assert await subject.store.owners_of_superseded(FACTS, OWNER, "c", 2) == []


async def test_more_than_a_page_leaves_in_one_look_in_bounded_transactions(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superseded, "PAGE_OWNERS", 2)
    monkeypatch.setattr(superseded, "MAX_ROWS", 4)
    await subject.own(0, 1)
    keys = ["a", "b", "c", "d", "e"]
    await subject.send(*map(create, keys), *(save(key, 5) for key in keys), *(save(key, 1) for key in keys))
    await subject.sweeper().look()
    assert await subject.rows() == {(key, 2): 1 for key in keys}
    removed = [rows for _, _, rows in await subject.removals()]
    assert (sum(removed), max(removed)) == (25, 4)


class Meanwhile:
    """A store whose answer is out of date: after a page was listed, something else happens first."""

    def __init__(self, store: CommandStore, act: Any) -> None:
        self._store = store
        self._act = act

    async def owners_of_superseded(self, *asked: Any) -> Sequence[Any]:
        listed = await self._store.owners_of_superseded(*asked)
        if listed:
            await self._act()
        return listed


async def test_what_is_removed_is_decided_under_the_lock_of_the_lane(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.send(create("a"), save("a", 2), opened("a"), fill("a", 3), abandoned("a"))

    async def opens() -> None:
        await subject.send(opened("a"), fill("a", 4))

    store: Any = Meanwhile(subject.store, opens)
    await subject.sweeper(store).look()
    assert await subject.rows() == {("a", 1): 2, ("a", 3): 4}


def keys_of(partition: int) -> str:
    topic = Harness(STREAM, MemoryCommandStore(STREAM)).topic
    return next(name for name in "abcdefgh" if topic.lane(create(name)) == partition)


async def test_a_lane_that_is_not_ours_was_lost_or_is_halted_is_left(subject: Subject) -> None:
    lost, halted = keys_of(0), keys_of(1)
    await subject.own(0, 1)
    for key in (lost, halted):
        await subject.send(create(key), save(key, 1), save(key, 1))
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
    await subject.send(save(lost, 1))
    await sweeper.look()
    assert (lost, 2) in await subject.rows(), "only the owner of a lane removes"


async def test_a_lane_that_was_not_compared_yet_is_left(subject: Subject) -> None:
    await subject.own(0, 1)
    await subject.send(create("a"), save("a", 1), save("a", 1))
    claims: list[Claim] = await subject.store.claim(STREAM.aggregate, [0, 1], "tidemill-tests")
    await subject.lanes.take(claims)
    subject.lanes.begun([claim.lane.id for claim in claims])
    await subject.sweeper().look()
    assert len(await subject.rows()) == 2


async def test_a_lost_answer_to_the_commit_removes_nothing_twice() -> None:
    subject = Subject(store := MemoryCommandStore(STREAM))
    await subject.own(0, 1)
    await subject.send(create("a"), save("a", 1), save("a", 1))
    store.lose_commits = 1
    sweeper = subject.sweeper()
    with pytest.raises(CommitUnknown):
        await sweeper.look()
    await sweeper.look()
    assert await subject.removals() == [(APPLIED, 0, 1)]


async def test_a_deleted_series_keeps_what_was_current(subject: Subject) -> None:
    """A deletion is soft: only what was superseded leaves."""
    await subject.own(0, 1)
    await subject.send(create("a"), save("a", 1), save("a", 2), about(time_series.messages.delete, "a"))
    await subject.sweeper().look()
    assert await subject.rows() == {("a", 2): 2}
    assert codes(await subject.series.send(append("a", 1))) == ["NO_SERIES"]
