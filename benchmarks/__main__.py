"""`make bench`: every hop alone and the whole chain, beside a floor on the same bytes, in interleaved rounds.

The median of the rounds is what counts; rates of one machine only compare within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import against, chain, floor, hops, identity
from benchmarks.arena import Arena, arena, create_topics, load
from benchmarks.data import Keyed, market_data, with_odd
from benchmarks.servers import ServerMeter
from tidemill_devkit import stack as devstack

HOPS = ("intake", "relay", "projector")
COSTS = ("own_us", "postgres_us", "broker_us", "wal_bytes")
CHILD_TIMEOUT_S = 600

console = Console()


async def _child(side: str, hop: str, where: Arena, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.child", side, hop]
    command += [where.database_url, where.kafka, where.name, str(count)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), CHILD_TIMEOUT_S)
    if process.returncode:
        raise SystemExit(f"{side} {hop} ended with {process.returncode}")
    reading: dict[str, float] = json.loads(output.splitlines()[-1])
    return reading


async def _measured(side: str, hop: str, where: Arena, count: int) -> dict[str, float]:
    """Measure a hop in a process of its own, and what it took of the servers."""
    connection, _ = await hops.backend_of(where)
    try:
        servers = await ServerMeter.begin(connection, where.kafka)
        return await _child(side, hop, where, count) | await servers.read(count)
    finally:
        await connection.close()


@dataclass(frozen=True)
class Load:
    """What a round works on: `plain` commands, the same with `odd` records among them, and a longer backlog of each."""

    plain: list[Keyed]
    odd: list[Keyed]
    chain: list[Keyed]
    odd_chain: list[Keyed]

    @classmethod
    def of(cls, count: int, chain: int, seed: int) -> Load:
        """Make them."""
        plain, long = market_data(count, seed), market_data(chain, seed)
        return cls(plain, with_odd(plain, seed), long, with_odd(long, seed))


async def _round(server: str, kafka: str, work: Load, step: Callable[[str], None]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        theirs, ours, odd, limit = [await stack.enter_async_context(arena(server, kafka)) for _ in range(4)]
        await floor.prepare(theirs)
        for where in (ours, odd, limit):
            await hops.prepare(where)
        await create_topics(theirs, [theirs.topic("floor-commands"), theirs.topic("floor-events")])
        await load(theirs, theirs.topic("floor-commands"), work.plain)
        await load(ours, _commands(ours), work.plain)
        await load(odd, _commands(odd), work.odd)
        for hop in HOPS:
            for side, where, records in (
                ("floor", theirs, work.plain),
                ("tidemill", ours, work.plain),
                ("odd", odd, work.odd),
            ):
                step(f"{side}: {hop}")
                counted = len(work.plain) if hop == "projector" else len(records)
                found[f"{side} {hop}"] = await _measured(side, hop, where, counted)
        step("two COPYs")
        found["limit intake"] = await _measured("limit", "intake", limit, len(work.plain))
    for side, records in (("tidemill", work.chain), ("odd", work.odd_chain)):
        async with arena(server, kafka) as where:
            await hops.prepare(where, all_contexts=True)
            await load(where, _commands(where), records)
            step(f"{side}: the whole chain")
            found[f"{side} chain"] = await chain.measured(where, len(records), len(work.chain))
    return found


def _commands(where: Arena) -> str:
    return f"{where.name}.market-data.commands.v1"


def _median(rounds: list[dict[str, Any]], what: str, figure: str) -> float:
    return float(statistics.median(readings[what][figure] for readings in rounds))


SIDES = {"floor": "floor", "limit": "two COPYs", "tidemill": "tidemill", "odd": "9 % odd"}


def _table(rounds: list[dict[str, Any]]) -> Table:
    """Return a row for each hop and side: rate, beside the floor, CPU of each, WAL."""
    table = Table("hop", "side", "/s", "of the floor", "own us", "PostgreSQL us", "broker us", "WAL bytes")
    for hop in (*HOPS, "chain"):
        for side, title in SIDES.items():
            if f"{side} {hop}" in rounds[0]:
                table.add_row(hop, title, *_cells(rounds, hop, side))
        table.add_section()
    return table


def _cells(rounds: list[dict[str, Any]], hop: str, side: str) -> list[str]:
    rate = _median(rounds, f"{side} {hop}", "rate")
    beside = "" if hop == "chain" else f"{rate / _median(rounds, f'floor {hop}', 'rate'):.2f}"
    costs = [_median(rounds, f"{side} {hop}", figure) for figure in COSTS]
    return [f"{rate:,.0f}", beside, *(f"{cost:.1f}" for cost in costs)]


def _start_of(rounds: list[dict[str, Any]]) -> str:
    start_s, commands_us, projections_us = (
        _median(rounds, "tidemill chain", figure) for figure in ("start_s", "commands_us", "projections_us")
    )
    return (
        f"Of the chain's own us serve commands has {commands_us:.1f}, serve projections {projections_us:.1f}. "
        f"The start of both takes {start_s:.1f} s of CPU, which is in no figure above."
    )


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    with Progress(console=console) as progress:
        task = progress.add_task("", total=options.rounds * (3 * len(HOPS) + 3))

        def step(what: str) -> None:
            progress.update(task, description=what, advance=1)

        servers = (stack.database_url, stack.kafka_bootstrap)
        rounds = []
        for number in range(options.rounds):
            work = Load.of(options.commands, options.chain_commands, number)
            rounds.append(await _round(*servers, work, step))
    console.print(_table(rounds), _start_of(rounds))
    growth = None
    if options.ids:
        growth = await identity.growth(stack.database_url, stack.kafka_bootstrap, options.ids, console)
    if options.json:
        report = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "commands": options.commands,
            "chain_commands": options.chain_commands,
            "rounds": rounds,
            "identity": growth,
        }
        options.json.write(json.dumps(report, indent=1) + "\n")


EXAMPLES = """
examples:
  python -m benchmarks                            every hop beside the floor, and what ten million ids cost
  python -m benchmarks --ids 0 --rounds 1         the hops alone, once
  python -m benchmarks --against v0.1.0           this version against an older one, nine turns old / new / old
  python -m benchmarks --against ../other --turns 3 --commands 50000 --json readings.json

--against checks the revision out beside the repository, makes its environment with its own `make`, and touches both
versions from outside only: verbs, variables, topics, /health, /metrics and public read models. Each turn has a database
and topics of its own on the servers of `tidemill dev up`. The exit code says only whether it could measure. Figures
of one run compare, on a machine that does nothing else; those of different runs do not.
"""


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--against",
        metavar="CHECKOUT",
        help="compare with an older version: a folder with a checkout of it, or a revision of this repository",
    )
    parser.add_argument(
        "--turns", type=int, default=9, help="of a comparison: turns old / new / old (default %(default)s)"
    )
    parser.add_argument(
        "--odd", action="store_true", help="of a comparison: 9 %% odd records among the commands"
    )
    parser.add_argument(
        "--commands", type=int, default=200_000, help="backlog of a round or turn (default %(default)s)"
    )
    parser.add_argument(
        "--chain-commands",
        type=int,
        default=600_000,
        help="backlog of the chain, of which the first tenth is not measured (default %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default %(default)s)")
    parser.add_argument(
        "--ids",
        type=int,
        default=10_000_000,
        help="ids in the horizon for the growth figure; 0 leaves it out",
    )
    parser.add_argument("--json", type=argparse.FileType("w"), help="write every reading to this file")
    options = parser.parse_args()
    if options.against:
        against.compare(options)
    else:
        asyncio.run(_main(options))


if __name__ == "__main__":
    main()
