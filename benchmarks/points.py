"""`python -m benchmarks.points`: the intake of points of time series, beside a bare COPY of the same rows.

Commands of 1,000 points, of series in one lane and in four, through the whole intake: from Kafka to the commit, with
the fold, log, outbox and ledger. The COPY fills the same table with the same indexes from tuples that are there
already, as many rows to a transaction as a batch may have. In turns, on databases of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from benchmarks import hops
from benchmarks.arena import Arena, arena, load
from benchmarks.data import START, Keyed, encoded, partition_of
from benchmarks.meter import Meter
from tidemill.commands.handlers import MAX_ROWS
from tidemill.contexts.time_series import context
from tidemill.contexts.time_series.points import data_points
from tidemill_devkit import stack as devstack

LANES = (1, 4)
SERIES_A_LANE = 4
CHILD_TIMEOUT_S = 600
COLUMNS = [column.name for column in data_points.columns]
SECOND = timedelta(seconds=1)
Reading = dict[str, float]

console = Console()


def _keys(lanes: int) -> list[str]:
    """Return the ids of series, as many of them in each lane."""
    by_lane: dict[int, list[str]] = {lane: [] for lane in range(lanes)}
    number = 0
    while any(len(keys) < SERIES_A_LANE for keys in by_lane.values()):
        key = f"series-{number}"
        keys = by_lane.get(partition_of(key.encode()), by_lane[0][:SERIES_A_LANE] * 2)
        if len(keys) < SERIES_A_LANE:
            keys.append(key)
        number += 1
    return [key for keys in by_lane.values() for key in keys]


def _base(source: random.Random) -> dict[str, Any]:
    command_id = str(UUID(int=source.getrandbits(128), version=4))
    return {"command_id": command_id, "service_name": "frames", "timestamp": START}


def _creations(keys: Sequence[str], source: random.Random) -> Iterator[dict[str, Any]]:
    for key in keys:
        fields = {"time_column": "date", "value_columns": '["open", "close"]', "axis": "datetime"}
        yield _base(source) | {"time_series_id": key} | fields


def _points(keys: Sequence[str], count: int, size: int, source: random.Random) -> Iterator[dict[str, Any]]:
    """Yield commands, the series in turn: two columns at each second."""
    for number in range(count):
        start = START + size * (number // len(keys)) * SECOND
        times: list[datetime] = [start + place // 2 * SECOND for place in range(size)]
        values = [None if place % 50 == 0 else source.random() for place in range(size)]
        lists = {"columns": [place % 2 for place in range(size)], "values": values, "times": times}
        yield _base(source) | {
            "time_series_id": keys[number % len(keys)],
            "column_names": ["open", "close"],
            **lists,
        }


def _rows(commands: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    counts: dict[str, int] = {}
    for command in commands:
        key, names = command["time_series_id"], command["column_names"]
        points = zip(command["times"], command["columns"], command["values"], strict=True)
        for number, (time, column, value) in enumerate(points, counts.get(key, 0)):
            yield time, key, names[column], value, 0, number
        counts[key] = counts.get(key, 0) + len(command["values"])


async def _child(where: Arena, count: int) -> Reading:
    """Measure the intake of the next commands, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.child", "entity", context.name]
    command += [where.database_url, where.kafka, where.name, str(count)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), CHILD_TIMEOUT_S)
    if process.returncode:
        raise SystemExit(f"the intake of points ended with {process.returncode}")
    reading: Reading = json.loads(output.splitlines()[-1])
    return reading


async def _load(where: Arena, name: str, commands: Sequence[dict[str, Any]]) -> None:
    schema = f"time_series/commands/{name}.avsc"
    records: list[Keyed] = encoded(schema, "time_series_id", commands)
    await load(where, f"{where.name}.{context.aggregate}.commands.v1", records)


async def _intake(where: Arena, keys: Sequence[str], commands: Sequence[dict[str, Any]]) -> Reading:
    """Return what a point takes, and the process's peak memory."""
    await hops.prepare(where, context)
    await _load(where, "CreateTimeSeries", list(_creations(keys, random.Random(1))))
    before = await _child(where, len(keys))
    await _load(where, "AppendTimeSeriesPoints", commands)
    reading = await _child(where, len(commands))
    points = len(commands[0]["values"])
    per_point = {name: reading[name] / points for name in ("own_us", "postgres_us")}
    memory = {"peak_mb": reading["peak_mb"], "grown_mb": reading["peak_mb"] - before["peak_mb"]}
    return per_point | memory | {"rate": reading["rate"] * points}


async def _copy(where: Arena, rows: Sequence[tuple[Any, ...]]) -> Reading:
    """Return what a row of a bare COPY takes."""
    await hops.prepare(where, context)
    connection, backend = await hops.backend_of(where)
    meter = Meter(backend, [os.getpid()])
    for at in range(0, len(rows), MAX_ROWS):
        await connection.copy_records_to_table(
            data_points.name, schema_name="public", records=rows[at : at + MAX_ROWS], columns=COLUMNS
        )
    reading = meter.read(len(rows)).as_dict()
    await connection.close()
    return reading


async def _round(
    servers: tuple[str, str], lanes: int, options: argparse.Namespace
) -> tuple[Reading, Reading]:
    keys = _keys(lanes)
    count = options.points // options.size
    commands = list(_points(keys, count, options.size, random.Random(2)))
    async with arena(*servers) as theirs:
        copied = await _copy(theirs, list(_rows(commands)))
    async with arena(*servers) as ours:
        return copied, await _intake(ours, keys, commands)


def _median(readings: Sequence[Reading], figure: str) -> float:
    return statistics.median(reading[figure] for reading in readings)


def _line(lanes: int, pairs: Sequence[tuple[Reading, Reading]]) -> list[str]:
    copies, intakes = zip(*pairs, strict=True)
    own, server = ([_median(side, f) for f in ("own_us", "postgres_us")] for side in (copies, intakes))
    allowed = 1.5 * sum(own) + 1
    return [
        str(lanes),
        f"{own[0]:.2f} + {own[1]:.2f}",
        f"{server[0]:.2f} + {server[1]:.2f}",
        f"{sum(server) / allowed:.2f}",
        f"{_median(intakes, 'rate'):,.0f}",
        f"{_median(intakes, 'peak_mb'):.0f}, {_median(intakes, 'grown_mb'):.0f} more",
    ]


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    servers = (stack.database_url, stack.kafka_bootstrap)
    table = Table("lanes", "COPY us", "intake us", "of 1.5 x COPY + 1", "points/s", "peak MB")
    for lanes in LANES:
        pairs = [await _round(servers, lanes, options) for _ in range(options.rounds)]
        table.add_row(*_line(lanes, pairs))
    console.print(table)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.points", description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000, help="of a round (default %(default)s)")
    parser.add_argument("--size", type=int, default=1_000, help="points of a command (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
