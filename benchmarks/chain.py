"""The whole chain in its steady state: `serve commands` and `serve projections` at once, over one backlog.

Measured from a tenth of the commands folded to all of them, so that the start of two processes, which costs as much as
tens of thousands of commands, is not in it; what that costs is reported beside it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import hops
from benchmarks.arena import Arena
from benchmarks.meter import Meter, Reading
from benchmarks.servers import ServerMeter

PROCESSES = ("commands", "projections")
_LOOK_EVERY_S = 0.05
_STOPPED_S = 15
_FOLDED = """
select coalesce(min(folded), 0)::bigint
from (select sum(sequence) as folded from tm.checkpoint where aggregate = 'market-data' group by projection) models
"""


async def measured(where: Arena, commands: int, events: int) -> dict[str, float]:
    """Measure a chain from its start. `commands`: in the backlog. `events`: what they make, which both models fold."""
    connection, backend = await hops.backend_of(where)
    serving = _serve(os.environ | where.environment())
    pids = [process.pid for process in serving]
    try:
        whole = Meter(backend, pids)
        await _folded(connection, serving, events // 10)
        start = whole.read(1)
        tenth = await connection.fetchval(_FOLDED) / events
        meters = [Meter(backend, [pid]) for pid in pids]
        servers = await ServerMeter.begin(connection, where.kafka)
        await _folded(connection, serving, events)
        rest = round(commands * (1 - tenth))
        readings = [meter.read(rest) for meter in meters]
        return _figures(readings, start, commands * tenth) | await servers.read(rest)
    finally:
        _stop(serving)
        await connection.close()


def _figures(readings: Sequence[Reading], start: Reading, before: float) -> dict[str, float]:
    """Return the figures of the steady state, and of the start what is left without the commands done meanwhile."""
    own_us = sum(reading.own_us for reading in readings)
    postgres_us = readings[0].postgres_us
    by_process = {f"{name}_us": reading.own_us for name, reading in zip(PROCESSES, readings, strict=True)}
    start_s = (start.own_us + start.postgres_us - before * (own_us + postgres_us)) / 1e6
    steady = {"rate": readings[0].rate, "own_us": own_us, "postgres_us": postgres_us, "start_s": start_s}
    return steady | by_process


def _serve(environment: dict[str, str]) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tidemill", "serve"]
    return [
        subprocess.Popen([*command, name], env=environment, stderr=subprocess.DEVNULL) for name in PROCESSES
    ]


async def _folded(connection: Any, serving: Sequence[subprocess.Popen[bytes]], events: int) -> None:
    while await connection.fetchval(_FOLDED) < events:
        if any(process.poll() is not None for process in serving):
            raise SystemExit("a process of the chain ended")
        await asyncio.sleep(_LOOK_EVERY_S)


def _stop(serving: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in serving:
        process.terminate()
    for process in serving:
        process.wait(_STOPPED_S)
