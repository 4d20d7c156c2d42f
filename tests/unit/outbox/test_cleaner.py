"""Old generations of the outbox leave, and only those that were published long enough ago."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tests.fakes.outbox import MemoryOutbox
from tests.support.engine.outbox import Scribe, lane_of
from tests.support.waiting import eventually
from tidemill.outbox.cleaner import OutboxCleaner
from tidemill.outbox.ports import Published

LANE = lane_of()


def two_generations() -> MemoryOutbox:
    outbox, scribe = MemoryOutbox(), Scribe(LANE)
    outbox.store(scribe.applied(3).batch())
    scribe.gen = outbox.roll()
    outbox.store(scribe.applied(2).batch())
    return outbox


async def test_it_waits_for_the_publication_and_then_for_three_days() -> None:
    outbox = two_generations()
    cleaner = OutboxCleaner(outbox)
    outbox.hints[LANE.id] = Published(2, 2, None)
    assert await cleaner.tidy() == []
    outbox.now += timedelta(days=30)
    outbox.hints[LANE.id] = Published(3, 3, None)
    assert await cleaner.tidy() == []
    outbox.now += timedelta(hours=71, minutes=59)
    assert await cleaner.tidy() == []
    outbox.now += timedelta(minutes=1)
    assert await cleaner.tidy() == [1]
    assert [row.position for row in outbox.rows[LANE.id]] == [4, 5]
    assert await cleaner.tidy() == []


async def test_the_open_generation_never_leaves() -> None:
    outbox = two_generations()
    cleaner = OutboxCleaner(outbox, keep=timedelta(0))
    outbox.hints[LANE.id] = Published(5, 5, None)
    assert await cleaner.tidy() == [1]
    outbox.now += timedelta(days=365)
    assert await cleaner.tidy() == []


async def test_it_looks_again_after_a_problem_and_ends_when_asked() -> None:
    outbox = two_generations()
    outbox.hints[LANE.id] = Published(5, 5, None)
    cleaner = OutboxCleaner(outbox, keep=timedelta(0), every_s=0.001)
    outbox.away = True
    await cleaner.start()
    running = asyncio.create_task(cleaner.run())
    await eventually(lambda: cleaner.health().detail, what="the trouble is told")
    assert cleaner.health().ok
    outbox.away = False
    await eventually(lambda: 1 not in outbox.generations, what="the generation is gone")
    await eventually(lambda: not cleaner.health().detail, what="the trouble is over")
    await cleaner.stop()
    await running
