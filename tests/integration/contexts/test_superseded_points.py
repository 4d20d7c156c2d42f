"""Superseded points on axes of datetimes: they leave by removal while their chunk is open, else with its slice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands.test_many_rows import audited
from tests.integration.contexts.test_time_series import (
    LONG_AGO,
    MONTH,
    SHOWN,
    append,
    claimed,
    context_of,
    create,
    policy,
    restorer,
    save,
    send,
    sweep,
)
from tests.support.archive.site import Archive, archive
from tests.support.engine.commands import Harness, create_lanes
from tests.support.waiting import eventually
from tidemill.commands.superseded_ports import SupersededFacts, TablePart
from tidemill.contexts.time_series import time_series
from tidemill.contexts.time_series.points import CURRENT
from tidemill.domain.stream import Stream
from tidemill.retention import operator_actions
from tidemill.retention.operator_actions import Operator
from tidemill.retention.ports import Busy
from tidemill.retention.restore_plan import ranges_back
from tidemill.storage.commands.command_store import CommandDatabase

OLD = [LONG_AGO + timedelta(minutes=index) for index in range(500)]
TABLE = "public.time_series_data_points"
ADA = Operator("ada", "a test")
WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted"


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Archive]:
    async with archive(database, tmp_path / "lake", policy()) as made:
        async with made.pool.acquire() as connection:
            await create_lanes(connection, Stream.of(context_of()))
        yield made


async def places(world: Archive) -> dict[str, int | None]:
    """Return how many points were applied, and where they are, but for the places that have none."""
    result = await audited(world.pool, context_of())
    assert result.findings == []
    (table,) = [table for table in result.tables if "data_points" in table.table]
    names = ("applied", "hot", "archived", "diverted", "restored", "removed")
    return {name: count for name in names if (count := getattr(table, name))}


async def leave(world: Archive) -> None:
    """Let what may leave do so: seal, copy, drop."""
    await world.settle()
    await world.answer()
    await world.settle()


async def test_the_archive_ships_what_is_current_once_the_rest_was_removed(world: Archive) -> None:
    harness = await claimed(world.pool)
    await send(harness, create(), save(LONG_AGO, LONG_AGO), save(*OLD))
    await sweep(world.pool, harness)
    assert await places(world) == {"applied": 502, "hot": 500, "removed": 2}
    await leave(world)
    (left,) = await world.slices()
    assert left.sealed is not None
    assert left.sealed.row_count == 500
    assert await places(world) == {"applied": 502, "archived": 500, "removed": 2}


async def test_what_was_sealed_before_it_was_superseded_leaves_and_returns_with_its_slice(
    world: Archive,
) -> None:
    harness = await claimed(world.pool)
    await send(harness, create(), save(*OLD))
    await world.settle()
    now = world.clock.now()
    await send(harness, append(LONG_AGO), save(now, LONG_AGO))
    await sweep(world.pool, harness)
    assert await places(world) == {"applied": 503, "hot": 501, "diverted": 2}
    await world.answer()
    await world.settle()
    await sweep(world.pool, harness)
    assert await places(world) == {"applied": 503, "hot": 1, "archived": 500, "diverted": 2}
    await leave(world)
    assert await places(world) == {"applied": 503, "hot": 1, "archived": 502}, "late ones are a slice"
    for back in ranges_back(await world.store.facts(TABLE), LONG_AGO, now):
        await restorer(world).bring(world.policy, back, MONTH, lambda rows: None)
    await sweep(world.pool, harness)
    assert await places(world) == {"applied": 503, "hot": 1, "archived": 502, "restored": 502}
    assert len(await world.pool.fetch(SHOWN)) == 2
    await world.let_pass(2 * MONTH)
    await world.settle()
    assert await places(world) == {"applied": 503, "hot": 1, "archived": 502}, "it was unchanged"


async def test_what_a_released_seal_kept_is_removed_with_its_late_rows(world: Archive) -> None:
    harness = await claimed(world.pool)
    await send(harness, create(), save(*OLD))
    await world.settle()
    await send(harness, append(LONG_AGO), save(LONG_AGO))
    (sealed,) = await world.slices()
    assert world.claim is not None
    await operator_actions.release(world.store, world.claim, sealed.id, ADA)
    await sweep(world.pool, harness)
    assert await places(world) == {"applied": 502, "hot": 1, "removed": 501}


# --- a removal and a seal exclude each other ---


@asynccontextmanager
async def removal(world: Archive, harness: Harness) -> AsyncIterator[Any]:
    """Yield what removes in a transaction that is open until the block ends, and whose rows stay."""
    store = CommandDatabase(world.pool)
    (part,) = await store.removable_parts(CURRENT[0].table)
    (claim,) = await harness.claim()

    async def remove(work: Any, chunk: TablePart = part) -> dict[str, int]:
        facts = SupersededFacts(CURRENT[0], time_series.state, chunk)
        removed: dict[str, int] = await work.remove_superseded(facts, ["s"], 10_000)
        return removed

    class Undone(Exception):
        pass

    try:
        async with store.unit_of_work() as work:
            await work.lock([claim])
            yield lambda: remove(work)
            raise Undone
    except Undone:
        pass


async def test_no_seal_is_made_and_no_hold_placed_while_rows_are_being_removed(world: Archive) -> None:
    harness = await claimed(world.pool)
    await send(harness, create(), save(LONG_AGO, LONG_AGO), save(*OLD))
    assert world.claim is not None
    async with removal(world, harness) as remove:
        assert await remove() == {"s": 2}
        assert "in use" in " ".join((await world.round()).problems)
        with pytest.raises(Busy):
            await operator_actions.hold(world.store, world.claim, TABLE, (None, None), ADA)
        assert await world.states() == []
    await world.settle()
    (sealed,) = await world.slices()
    assert sealed.sealed is not None
    assert sealed.sealed.row_count == 502, "the rows as they are once that transaction is over"


async def test_a_removal_waits_for_a_seal_under_way_and_leaves_its_rows(world: Archive) -> None:
    harness = await claimed(world.pool)
    await send(harness, create(), save(LONG_AGO, LONG_AGO), save(*OLD))
    async with removal(world, harness) as remove:
        async with world.pool.acquire() as sealing, sealing.transaction():
            await sealing.execute("select tm.lock_ranges($1)", TABLE)
            waits = asyncio.create_task(remove())
            await eventually(lambda: world.pool.fetchval(WAITING), what="the removal to wait")
            await sealing.execute(
                """
                insert into tm.archive (table_name, range_start, range_end, generation, state, closed, since, source,
                                        chunk, size_bytes, columns, seal, attempt, superseded)
                select $1, range_start, range_end, 1, 'sealed', true, now(), 'chunk',
                       format('%I.%I', chunk_schema, chunk_name), 0, '[]', 1, 0, '{}'
                from timescaledb_information.chunks where hypertable_name = 'time_series_data_points'
                """,
                TABLE,
            )
        assert await waits == {}


async def test_what_is_held_stays_until_the_hold_is_lifted(world: Archive) -> None:
    harness = await claimed(world.pool)
    await send(harness, create(), save(LONG_AGO, LONG_AGO), save(*OLD))
    assert world.claim is not None
    span = (LONG_AGO - MONTH, LONG_AGO)
    await operator_actions.hold(world.store, world.claim, TABLE, span, ADA)
    await sweep(world.pool, harness)
    assert await places(world) == {"applied": 502, "hot": 502}
    await operator_actions.lift(world.store, world.claim, TABLE, span, ADA)
    await sweep(world.pool, harness)
    assert await places(world) == {"applied": 502, "hot": 500, "removed": 2}
