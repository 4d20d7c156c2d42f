"""Processes that are killed and frozen in the middle of their work."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.engine.real_relays import RealWorld
from tests.support.waiting import HANGING_S

pytestmark = pytest.mark.slow

Start = Callable[[int], Awaitable[Process]]


@pytest.fixture
async def start(world: RealWorld, database: str) -> AsyncIterator[Start]:
    """`await start(epoch)`: a process that has claimed every lane."""
    started: list[Process] = []

    async def make(epoch: int) -> Process:
        await world.pool.execute("update tm.lane set epoch = $1", epoch)
        module = ["-m", "tests.support.engine.relay_process"]
        arguments = [database, world.kafka.connection.bootstrap, str(epoch)]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *module, *arguments, stdout=PIPE, env=environ
        )
        started.append(process)
        return process

    yield make
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def says(process: Process, wanted: Callable[[dict[str, tuple[str, int]]], bool]) -> None:
    """Return when the process has said something `wanted`."""
    assert process.stdout is not None
    async with asyncio.timeout(HANGING_S):
        async for line in process.stdout:
            if line.startswith(b"{") and wanted(json.loads(line)):
                return
    raise AssertionError("the process ended")


async def backlog(world: RealWorld, times: int) -> None:
    for scribe in world.scribes:
        for _ in range(times):
            scribe.applied(20).rejected(3).applied(2, events=3).parked()
        await world.store(scribe.batch())


async def test_killed_again_and_again(world: RealWorld, start: Start) -> None:
    await backlog(world, 100)
    for epoch, share in ((1, 0.1), (2, 0.3), (3, 0.6)):
        process = await start(epoch)
        some = world.scribes[0].position * share
        await says(process, lambda lanes, some=some: max(at for _, at in lanes.values()) > some)  # type: ignore[misc]
        process.kill()
        await process.wait()
    process = await start(4)
    ends = sorted(scribe.position for scribe in world.scribes)
    await says(process, lambda lanes: sorted(at for _, at in lanes.values()) == ends)
    await world.check(*world.scribes)


async def test_frozen_and_woken_after_another_has_taken_over(world: RealWorld, start: Start) -> None:
    await backlog(world, 100)
    frozen = await start(1)
    await says(frozen, lambda lanes: max(at for _, at in lanes.values()) > 200)
    frozen.send_signal(signal.SIGSTOP)
    owner = await start(2)
    ends = sorted(scribe.position for scribe in world.scribes)
    await says(owner, lambda lanes: sorted(at for _, at in lanes.values()) == ends)
    frozen.send_signal(signal.SIGCONT)
    await says(frozen, lambda lanes: all(state == "ended" for state, _ in lanes.values()))
    await backlog(world, 1)
    ends = sorted(scribe.position for scribe in world.scribes)
    await says(owner, lambda lanes: sorted(at for _, at in lanes.values()) == ends)
    await world.check(*world.scribes)
