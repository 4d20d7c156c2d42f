"""Writers against seals and drops: late rows, transactions that are open when the archive comes, and none lost.

`TIDEMILL_ARCHIVE_CYCLES` (default 8; the trials take 200) says how many chunks leave. `-s` shows the figures.
"""

from __future__ import annotations

import os
import sys
from collections import Counter

import pytest

from tests.support.archive.site import Archive
from tests.support.faults.siege import Siege, account, siege
from tidemill.domain.archive.slices import ArchiveState

CYCLES = int(os.environ.get("TIDEMILL_ARCHIVE_CYCLES", "8"))


async def undisturbed(found: Siege, day: int, kind: str) -> None:
    """Nobody but the writers is in the way."""


async def commits_while_the_seal_waits(found: Siege, day: int, kind: str) -> None:
    await found.meets(kind, day, within=True)


async def commits_after_the_seal_gave_up(found: Siege, day: int, kind: str) -> None:
    await found.meets(kind, day, within=False)


async def commits_while_the_drop_waits(found: Siege, day: int, kind: str) -> None:
    await found.until(ArchiveState.VERIFIED, day)
    await found.meets(kind, day, within=True)


async def commits_after_the_drop_gave_up(found: Siege, day: int, kind: str) -> None:
    await found.until(ArchiveState.VERIFIED, day)
    await found.meets(kind, day, within=False)


KINDS = {
    each.__name__.replace("_", " "): each
    for each in (
        commits_while_the_seal_waits,
        commits_while_the_drop_waits,
        commits_after_the_seal_gave_up,
        commits_after_the_drop_gave_up,
        undisturbed,
    )
}
MEETINGS = [kind for kind, cycle in KINDS.items() if cycle is not undisturbed]
"""The kinds in which the keeper has to be seen waiting for the stranger: else they show nothing."""


SIEGES = [min(100, CYCLES - done) for done in range(0, CYCLES, 100)]
"""Cycles of each siege: the registry of a short one does not slow the trial down."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("number", "cycles"), list(enumerate(SIEGES)))
async def test_every_acknowledged_row_is_somewhere_exactly_once(
    world: Archive, database: str, number: int, cycles: int
) -> None:
    async with siege(world, seed=number) as found:
        for cycle in range(cycles):
            day = found.day
            await found.next_day()
            kind = list(KINDS)[cycle % len(KINDS)]
            await KINDS[kind](found, day, kind)
            await found.until(ArchiveState.DROPPED, day)
    midway = await account(database, world.lake)
    assert not (midway.hot + midway.late) - Counter(found.acknowledged), "doubled, or promised to nobody"
    assert set(midway.total) == set(found.acknowledged)
    await found.settle()
    seen = await account(database, world.lake)
    slices = Counter(each.source.value for each in await world.slices())
    sys.stdout.write(
        f"{cycles} cycles, {found.rounds} rounds: {len(found.acknowledged):,} rows acknowledged ({found.late:,} late); "
        f"{sum(seen.hot.values()):,} hot, {sum(seen.cold.values()):,} cold "
        f"({sum(midway.late.values()):,} were waiting as late); "
        f"slices {dict(slices)}; waited {dict(found.problems)}; refused {dict(found.refused)}; "
        f"the keeper was seen waiting for the stranger: {dict(found.met)}; "
        f"he was turned away: {dict(found.turned_away)}\n"
    )
    assert all(found.met[kind] + found.turned_away[kind] for kind in MEETINGS), (
        "a kind of cycle without a meeting"
    )
    assert seen.total == Counter(found.acknowledged)
    assert midway.late
    assert not seen.late, "they were archived in turn"
    assert seen.hot, "the present is not archived"
