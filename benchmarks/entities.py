"""`python -m benchmarks.entities`: what the intake of entities takes, beside that of market data.

Each round creates the rows of a context, then changes every one of them, in a database of its own. Nothing else runs:
the intake alone, with its rules, unique values, log, outbox and ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from importlib import import_module

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import data, hops
from benchmarks.arena import Arena, arena, load
from benchmarks.data import Keyed
from tidemill_devkit import stack as devstack

ENTITIES: Mapping[str, Callable[[int, int], tuple[list[Keyed], list[Keyed]]]] = {
    "users": data.users,
    "client_configs": data.client_configs,
}
SCALE = "market_data"
CHILD_TIMEOUT_S = 600
Reading = dict[str, float]

console = Console()


async def _intake(where: Arena, context: str, count: int) -> Reading:
    """Measure the intake of the next `count` commands of a context, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.child", "entity", context]
    command += [where.database_url, where.kafka, where.name, str(count)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), CHILD_TIMEOUT_S)
    if process.returncode:
        raise SystemExit(f"the intake of {context} ended with {process.returncode}")
    reading: Reading = json.loads(output.splitlines()[-1])
    return reading


async def _round(
    servers: tuple[str, str], count: int, seed: int, step: Callable[[str], None]
) -> dict[str, Reading]:
    readings = {}
    async with arena(*servers) as where:
        await hops.prepare(where)
        await load(where, f"{where.name}.market-data.commands.v1", data.market_data(count, seed))
        step("market data")
        readings[SCALE] = await _intake(where, SCALE, count)
    for name, commands in ENTITIES.items():
        context = import_module(f"tidemill.contexts.{name}").context
        async with arena(*servers) as where:
            await hops.prepare(where, context)
            for what, records in zip(("create", "update"), commands(count, seed), strict=True):
                await load(where, f"{where.name}.{context.aggregate}.commands.v1", records)
                step(f"{name}: {what}")
                readings[f"{name}, {what}"] = await _intake(where, name, count)
    return readings


def _table(rounds: list[dict[str, Reading]]) -> Table:
    table = Table("intake of", "commands/s", "own us", "PostgreSQL us", "beside market data")

    def median(what: str, figure: str) -> float:
        return statistics.median(each[what][figure] for each in rounds)

    for what in rounds[0]:
        rate, own, server = (median(what, figure) for figure in ("rate", "own_us", "postgres_us"))
        beside = rate / median(SCALE, "rate")
        table.add_row(what, f"{rate:,.0f}", f"{own:.1f}", f"{server:.1f}", f"{beside:.2f}")
    return table


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    servers = (stack.database_url, stack.kafka_bootstrap)
    with Progress(console=console) as progress:
        task = progress.add_task("", total=options.rounds * (1 + 2 * len(ENTITIES)))

        def step(what: str) -> None:
            progress.update(task, description=what, advance=1)

        rounds = [await _round(servers, options.keys, seed, step) for seed in range(options.rounds)]
    console.print(_table(rounds))


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.entities", description=__doc__)
    parser.add_argument(
        "--keys", type=int, default=100_000, help="rows of each context (default %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which the median counts (default %(default)s)"
    )
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
