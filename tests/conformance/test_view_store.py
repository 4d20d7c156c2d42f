"""What `ViewStore`, `ViewTransaction`, `RebuildTargets` and `RebuildTarget` promise, on fakes and real ones alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

import pytest

from tests.fakes.events import START
from tests.fakes.views import MemoryRebuildTargets, MemoryViews
from tests.support.engine.projections import Day, Stock, create_tables, days, stocks
from tests.support.servers.databases import execute
from tidemill.domain.errors import ContractError, TableMisfit, TransientError, UsageError
from tidemill.domain.identity import row_id, row_uuid
from tidemill.domain.messages import ReadModelBase
from tidemill.domain.projection import Key
from tidemill.projections.ports import (
    Checkpoint,
    CheckpointMove,
    CheckpointMoved,
    FoldHalt,
    RebuildTargets,
    RowDifference,
    View,
    ViewStore,
)
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.read_models.rebuild import RebuildDatabase
from tidemill.storage.read_models.rows import ViewDatabase

GAP = FoldHalt("GAP", 3, 4, "expected 3, got 4")
ZERO = Checkpoint(0, 0)


@dataclass
class Subject:
    store: ViewStore
    rebuild_targets: RebuildTargets
    spoil: Callable[[], None]
    repair: Callable[[], None]

    async def view(self) -> View:
        return (await self.store.open(stocks, "goods", 2)).view

    async def checkpoints(self) -> dict[int, Checkpoint]:
        return dict((await self.store.open(stocks, "goods", 2)).checkpoints)

    async def write(self, view: View, step: CheckpointMove, *rows: ReadModelBase) -> None:
        """One batch of lane 0 that inserts rows."""
        async with self.store.transaction(view) as transaction:
            await transaction.advance({0: step})
            await transaction.write(rows, [], [])

    async def rows(self, *keys: Key, view: View | None = None) -> dict[Key, ReadModelBase]:
        async with self.store.transaction(view or await self.view()) as transaction:
            await transaction.advance({})
            return await transaction.load(keys)


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        views = MemoryViews()
        spoil = partial(views.misfits.update, stocks="public.stocks: the table is missing")
        yield Subject(views, MemoryRebuildTargets(views), spoil, views.misfits.clear)
        return
    url = request.getfixturevalue("database")
    create_tables(url)
    pool = await create_pool(url, application_name="tidemill-tests", size=5)
    yield Subject(
        ViewDatabase(pool),
        RebuildDatabase(pool),
        partial(execute, url, "alter table stocks rename to elsewhere"),
        partial(execute, url, "alter table elsewhere rename to stocks"),
    )
    await close_pool(pool)


def stock(good: str, amount: int = 1, labels: str = '{"first": 1}') -> Stock:
    uuid = row_uuid("stocks", good)
    return Stock(
        good=good,
        amount=amount,
        labels=labels,
        uuid=uuid,
        id=row_id(uuid),
        created_at=START,
        updated_at=START,
        version=1,
    )


async def test_a_new_projection_stands_at_zero(subject: Subject) -> None:
    standing = await subject.store.open(stocks, "goods", 2)
    assert standing.view == View(stocks, 1)
    assert standing.checkpoints == {0: ZERO, 1: ZERO}
    assert standing.halts == {}


async def test_lanes_that_were_added_stand_at_zero(subject: Subject) -> None:
    await subject.write(await subject.view(), CheckpointMove(0, 3, 9))
    standing = await subject.store.open(stocks, "goods", 3)
    assert standing.checkpoints == {0: Checkpoint(3, 9), 1: ZERO, 2: ZERO}


async def test_one_name_is_one_stream(subject: Subject) -> None:
    await subject.view()
    with pytest.raises(ContractError, match="stocks is recorded for goods"):
        await subject.store.open(stocks, "bads", 2)


async def test_rows_and_checkpoints_are_there_after_the_commit(subject: Subject) -> None:
    view = await subject.view()
    await subject.write(view, CheckpointMove(0, 2, 5), stock("tea"), stock("rum"))
    assert await subject.checkpoints() == {0: Checkpoint(2, 5), 1: ZERO}
    assert await subject.rows(("tea",), ("rum",), ("tin",)) == {
        ("tea",): stock("tea"),
        ("rum",): stock("rum"),
    }


async def test_rows_are_changed_and_removed(subject: Subject) -> None:
    view = await subject.view()
    await subject.write(view, CheckpointMove(0, 2, 5), stock("tea"), stock("rum"))
    async with subject.store.transaction(view) as transaction:
        await transaction.advance({0: CheckpointMove(2, 4, 7)})
        await transaction.write([stock("tin")], [stock("tea", 9)], [("rum",)])
    found = await subject.rows(("tea",), ("rum",), ("tin",))
    assert found == {("tea",): stock("tea", 9), ("tin",): stock("tin")}


async def test_keys_of_two_columns(subject: Subject) -> None:
    view = (await subject.store.open(days, "goods", 1)).view
    rows = [
        Day(good=good, day=date(2026, 1, day), amount=day, created_at=START, updated_at=START)
        for good in ("tea", "rum")
        for day in (1, 2)
    ]
    await subject.write(view, CheckpointMove(0, 4, 4), *rows)
    async with subject.store.transaction(view) as transaction:
        await transaction.advance({0: CheckpointMove(4, 5, 5)})
        await transaction.write([], [replace(rows[0], amount=7)], [("rum", date(2026, 1, 2))])
    keys: list[Key] = [(row.good, row.day) for row in rows]
    found = await subject.rows(*keys, ("tin", date(2026, 1, 1)), view=view)
    assert found == dict(zip(keys[:3], [replace(rows[0], amount=7), *rows[1:3]], strict=True))


async def test_an_exception_rolls_everything_back(subject: Subject) -> None:
    view = await subject.view()

    async def fail() -> None:
        async with subject.store.transaction(view) as transaction:
            await transaction.advance({0: CheckpointMove(0, 2, 5)})
            await transaction.write([stock("tea")], [], [])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await subject.checkpoints() == {0: ZERO, 1: ZERO}
    assert await subject.rows(("tea",)) == {}


@pytest.mark.parametrize(
    "steps", [{0: CheckpointMove(1, 3, 3)}, {0: CheckpointMove(0, 3, 3), 1: CheckpointMove(2, 3, 3)}]
)
async def test_a_checkpoint_that_stands_elsewhere_does_not_move(
    subject: Subject, steps: dict[int, CheckpointMove]
) -> None:
    view = await subject.view()
    with pytest.raises(CheckpointMoved):
        async with subject.store.transaction(view) as transaction:
            await transaction.advance(steps)
    assert await subject.checkpoints() == {0: ZERO, 1: ZERO}


async def test_of_two_at_once_one_moves_the_checkpoint(subject: Subject) -> None:
    view = await subject.view()
    step = CheckpointMove(0, 1, 1)
    outcomes = await asyncio.gather(
        subject.write(view, step, stock("tea")),
        subject.write(view, step, stock("tea")),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["CheckpointMoved", "NoneType"]


async def test_a_key_that_is_taken_is_no_error_of_the_row(subject: Subject) -> None:
    view = await subject.view()
    await subject.write(view, CheckpointMove(0, 1, 1), stock("tea"))
    with pytest.raises(TransientError, match="another process inserted"):
        await subject.write(view, CheckpointMove(1, 2, 2), stock("tea"))


async def test_halts_are_on_record_until_they_are_cleared(subject: Subject) -> None:
    view = await subject.view()
    await subject.store.halt(view, 0, GAP)
    await subject.store.halt(view, 0, GAP)
    await subject.store.halt(view, 1, FoldHalt("STOPPED", 1, 1, "a bug"))
    await subject.store.halt(view, 1, FoldHalt("GAP", 1, 2, "expected 1, got 2"))
    standing = await subject.store.open(stocks, "goods", 2)
    assert standing.halts == {0: GAP, 1: FoldHalt("GAP", 1, 2, "expected 1, got 2")}
    async with subject.store.transaction(view) as transaction:
        await transaction.advance({0: CheckpointMove(0, 1, 1)})
        await transaction.clear_halts(frozenset({0}))
    assert (await subject.store.open(stocks, "goods", 2)).halts.keys() == {1}


async def test_a_table_that_is_not_as_declared_is_named(subject: Subject) -> None:
    view = await subject.view()
    await subject.write(view, CheckpointMove(0, 1, 1), stock("tea"))
    subject.spoil()
    with pytest.raises(TableMisfit, match=r"public\.stocks: the table is missing"):
        await subject.view()
    with pytest.raises(TableMisfit, match="TABLE_MISFIT"):
        await subject.write(view, CheckpointMove(1, 2, 2), stock("rum"))
    with pytest.raises(TableMisfit, match="TABLE_MISFIT"):
        await subject.rows(("tea",), view=view)
    await subject.store.halt(view, 0, GAP)
    subject.repair()
    assert await subject.checkpoints() == {0: Checkpoint(1, 1), 1: ZERO}
    assert await subject.rows(("tea",), ("rum",)) == {("tea",): stock("tea")}


# --- workshops -------------------------------------------------------------------------------------------------------


async def test_rows_are_built_beside_the_live_ones(subject: Subject) -> None:
    view = await subject.view()
    await subject.write(view, CheckpointMove(0, 1, 1), stock("tea"))
    async with subject.rebuild_targets.open(stocks, "goods", 2, lasting=True) as target:
        assert await target.live() == {0: Checkpoint(1, 1), 1: ZERO}
        await subject.write(target.view, CheckpointMove(0, 2, 2), stock("tea", 7))
        assert await subject.rows(("tea",), view=target.view) == {("tea",): stock("tea", 7)}
        assert await subject.rows(("tea",)) == {("tea",): stock("tea")}
    assert await subject.checkpoints() == {0: Checkpoint(1, 1), 1: ZERO}
    with pytest.raises(CheckpointMoved):  # what is left of it is gone
        await subject.write(target.view, CheckpointMove(2, 3, 3))


async def test_a_swap_puts_the_new_rows_in_place(subject: Subject) -> None:
    old = await subject.view()
    await subject.write(old, CheckpointMove(0, 1, 1), stock("tea"))
    await subject.store.halt(old, 1, GAP)
    async with subject.rebuild_targets.open(stocks, "goods", 2, lasting=True) as target:
        await subject.write(target.view, CheckpointMove(0, 2, 2), stock("rum"))
        async with target.swap() as live:
            assert live == {0: Checkpoint(1, 1), 1: ZERO}
    standing = await subject.store.open(stocks, "goods", 2)
    assert standing.view.live
    assert standing.view.incarnation == target.view.incarnation > old.incarnation
    assert standing.checkpoints == {0: Checkpoint(2, 2), 1: ZERO}
    assert standing.halts == {}
    assert await subject.rows(("tea",), ("rum",)) == {("rum",): stock("rum")}
    with pytest.raises(CheckpointMoved):
        await subject.write(old, CheckpointMove(1, 2, 2))
    await subject.store.halt(old, 0, GAP)  # it comes too late
    assert (await subject.store.open(stocks, "goods", 2)).halts == {}


async def test_a_swap_that_fails_leaves_the_live_rows(subject: Subject) -> None:
    view = await subject.view()
    await subject.write(view, CheckpointMove(0, 1, 1), stock("tea"))
    with pytest.raises(ZeroDivisionError):
        async with subject.rebuild_targets.open(stocks, "goods", 2, lasting=True) as target, target.swap():
            raise ZeroDivisionError
    assert await subject.rows(("tea",)) == {("tea",): stock("tea")}
    await subject.write(view, CheckpointMove(1, 2, 2), stock("rum"))


async def test_a_swap_holds_the_projector_back(subject: Subject) -> None:
    view = await subject.view()
    await subject.write(view, CheckpointMove(0, 1, 1), stock("tea"))
    async with subject.rebuild_targets.open(stocks, "goods", 2, lasting=True) as target:
        await subject.write(target.view, CheckpointMove(0, 1, 1), stock("tea"))
        async with target.swap():
            waiting = asyncio.create_task(subject.write(view, CheckpointMove(1, 2, 2), stock("rum")))
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            assert not done
        with pytest.raises(CheckpointMoved):
            await waiting


async def test_one_rebuild_target_at_a_time(subject: Subject) -> None:
    async with subject.rebuild_targets.open(stocks, "goods", 2, lasting=True):
        with pytest.raises(UsageError, match="being rebuilt or verified by another process"):
            async with subject.rebuild_targets.open(stocks, "goods", 2, lasting=False):
                raise AssertionError("two workshops")
        async with subject.rebuild_targets.open(days, "goods", 2, lasting=False):
            pass
    async with subject.rebuild_targets.open(stocks, "goods", 2, lasting=False):
        pass


async def test_a_snapshot_is_of_one_moment(subject: Subject) -> None:
    view = await subject.view()
    await subject.write(view, CheckpointMove(0, 1, 1), stock("tea"))
    async with subject.rebuild_targets.open(stocks, "goods", 2, lasting=False) as target:
        assert await target.take_snapshot() == {0: Checkpoint(1, 1), 1: ZERO}
        await subject.write(view, CheckpointMove(1, 2, 2), stock("rum"))
        await subject.write(target.view, CheckpointMove(0, 1, 1), stock("tea"))
        comparison = await target.compare(5)
        assert (comparison.rows, comparison.differing, comparison.examples) == (1, 0, [])


async def test_differences_are_counted_and_shown(subject: Subject) -> None:
    view = await subject.view()
    await subject.write(view, CheckpointMove(0, 4, 4), *map(stock, ("gin", "rum", "tea", "tin")))
    async with subject.rebuild_targets.open(stocks, "goods", 2, lasting=False) as target:
        await target.take_snapshot()
        rebuilt = [stock("gin"), stock("oil"), stock("rum", 7), stock("tea", 2)]
        await subject.write(target.view, CheckpointMove(0, 4, 4), *rebuilt)
        comparison = await target.compare(3)
    assert (comparison.rows, comparison.differing) == (5, 4)
    assert list(comparison.examples) == [
        RowDifference(("oil",), {}, "rebuilt"),
        RowDifference(("rum",), {"amount": ("1", "7")}, None),
        RowDifference(("tea",), {"amount": ("1", "2")}, None),
    ]
