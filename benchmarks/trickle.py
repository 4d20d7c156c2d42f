"""`python -m benchmarks.trickle --against CHECKOUT`: many lanes that have little to do, an older version and this one.

64 lanes of market data, each with one command a second: every batch, transaction and fetch is of one command or a few,
so that what a large batch shares is paid in full. Measured are CPU of `serve commands`, `serve projections`,
PostgreSQL and broker, and WAL, in turns old, new, old again, each with a database and topics of its own. Processes that
have just started are left to settle first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
from confluent_kafka import Producer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.against import ORDER
from benchmarks.arena import Arena, arena
from benchmarks.checkout import Version, checked_out
from benchmarks.data import ROOT, Keyed, market_data, partition_of
from benchmarks.meter import Meter
from benchmarks.outside import HOPS, Program, folded
from benchmarks.servers import ServerMeter
from tidemill_devkit import stack as devstack

LANES = 64
SETTLE_S = 5
"""Seconds of commands before those that count: connections, statements and caches are made."""

_HANGING_S = 120.0
_FIGURES = ("own_us", "postgres_us", "broker_us", "wal_bytes")

console = Console()


async def measured(version: Version, servers: tuple[str, str], seconds: int) -> dict[str, float]:
    """Return what a version takes for each command, in microseconds of CPU and bytes of WAL."""
    async with arena(*servers) as where:
        program = Program(version, where, {"TIDEMILL_TOPICS_PARTITIONS": str(LANES)})
        program.call("migrate")
        program.call("topics", "create")
        commands = one_to_each_lane(seconds + SETTLE_S)
        settling = LANES * SETTLE_S
        connection = await asyncpg.connect(where.database_url)
        backend = await connection.fetchval("select pg_backend_pid()")
        with program.serving(HOPS[0]) as writing, program.serving(HOPS[1]) as folding:

            async def send(records: Sequence[Keyed], sent: int) -> None:
                await _trickle(where, records)
                async with asyncio.timeout(_HANGING_S):
                    while not await folded(sent)(folding, connection):
                        writing.demand_life()
                        folding.demand_life()
                        await asyncio.sleep(0.1)

            await send(commands[:settling], settling)
            server = await ServerMeter.begin(connection, where.kafka)
            meter = Meter(backend, [writing.process.pid, folding.process.pid])
            await send(commands[settling:], len(commands))
            counted = len(commands) - settling
            reading = meter.read(counted)
            found = await server.read(counted)
        await connection.close()
        return {"own_us": reading.own_us, "postgres_us": reading.postgres_us, **found}


def one_to_each_lane(seconds: int) -> list[Keyed]:
    """Return so many rounds of commands, in each one for every lane, in the order of lanes."""
    waiting: list[list[Keyed]] = [[] for _ in range(LANES)]
    made = 0
    while min(map(len, waiting)) < seconds:
        made += 1
        for _, key, value in market_data(2 * LANES * seconds, made):
            waiting[partition_of(key, LANES)].append((partition_of(key, LANES), key, value))
    return [waiting[lane][second] for second in range(seconds) for lane in range(LANES)]


async def _trickle(where: Arena, records: Sequence[Keyed]) -> None:
    """Send the records spread evenly, 64 a second."""
    producer = Producer({"bootstrap.servers": where.kafka, "log_level": 0, "linger.ms": 0})
    topic, began = f"{where.name}.market-data.commands.v1", time.perf_counter()
    for number, (partition, key, value) in enumerate(records):
        await asyncio.sleep(max(0.0, began + number / LANES - time.perf_counter()))
        producer.produce(topic, value, key, partition)
        producer.poll(0)
    await asyncio.to_thread(producer.flush, _HANGING_S)


def table(turns: Sequence[dict[str, dict[str, float]]]) -> Table:
    """Return medians of the turns, and in brackets the lowest and highest."""
    made = Table("a command", *ORDER, "new / old", title=f"{LANES} lanes, a command a second each")
    for figure in _FIGURES:
        sides = {side: [turn[side][figure] for turn in turns] for side in ORDER}
        ratios = [
            turn["new"][figure] / ((turn["old"][figure] + turn["old again"][figure]) / 2) for turn in turns
        ]
        spreads = (
            f"{statistics.median(each):.0f} ({min(each):.0f}-{max(each):.0f})" for each in sides.values()
        )
        made.add_row(
            figure, *spreads, f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        )
    return made


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    servers = (stack.database_url, stack.kafka_bootstrap)
    with checked_out(options.against) as root:
        with console.status("making the environments (half a minute each the first time)"):
            versions = {"old": Version.at(root), "new": Version.at(ROOT)}
        rounds = [(number, side) for number in range(options.turns) for side in ORDER]
        turns: list[dict[str, dict[str, float]]] = [{} for _ in range(options.turns)]
        for number, side in track(rounds, "measuring", console=console, transient=True):
            turns[number][side] = await measured(versions[side.split()[0]], servers, options.seconds)
    console.print(table(turns))
    if options.json:
        options.json.write_text(json.dumps({"lanes": LANES, "turns": turns}, indent=1) + "\n")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trickle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--against", required=True, metavar="CHECKOUT", help="an older version: a folder or a revision"
    )
    parser.add_argument("--turns", type=int, default=3, help="old, new, old again (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=30, help="of commands in a turn (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write every reading to this file")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
