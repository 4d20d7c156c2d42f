"""`python -m benchmarks.entities`: what the intake of entities takes, beside that of market data and the floor.

The floor is one process of code that stays as it is (`benchmarks/floor.py`): its CPU says how fast the machine is.
Each round creates the rows of a context, then changes every one of them, in a database of its own. Nothing else runs:
the intake alone, with its rules, unique values, log, outbox and ledger. One process of Python uses one core;
`--processes` says how many share the lanes, as several `serve commands` do. CPU is that of all of them, per command.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

import asyncpg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import data, floor, hops
from benchmarks.arena import Arena, arena, create_topics, load
from benchmarks.data import Keyed
from tidemill.contexts import market_data
from tidemill.domain.context import Context
from tidemill_devkit import stack as devstack

ENTITIES: Mapping[str, Callable[[int, int], tuple[list[Keyed], list[Keyed]]]] = {
    "users": data.users,
    "client_configs": data.client_configs,
}
SCALE = "market_data"
FLOOR = "floor, one process"
CHILD_TIMEOUT_S = 600
LOOK_EVERY_S = 0.1
Reading = dict[str, float]

_OWNERS = """
select count(distinct owner) from tm.lane where aggregate = $1
having bool_and(owner is not null and compared_epoch = epoch)
"""

console = Console()


@dataclass(frozen=True)
class Options:
    """What all rounds have: the servers, how many rows, and what notes each step."""

    servers: tuple[str, str]
    keys: int
    step: Callable[[str], None]


async def _intake(where: Arena, of: Context, records: Sequence[Keyed], count: int) -> Reading:
    """Measure the intake of commands of a context by processes that share its lanes, as their group assigns them.

    They join the group before there are commands, and begin together when all are there.
    """
    processes = [await _start(where, of.name, len(records)) for _ in range(count)]
    try:
        await _joined(where, of.aggregate, processes)
        await load(where, f"{where.name}.{of.aggregate}.commands.v1", records)
        answers = asyncio.gather(*(process.communicate(b"\n") for process in processes))
        outputs = await asyncio.wait_for(answers, CHILD_TIMEOUT_S)
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
    _demand_success(processes)
    return _together([json.loads(output.splitlines()[-1]) for output, _ in outputs])


def _together(readings: Sequence[Reading]) -> Reading:
    """Return the reading of all processes; each has counted PostgreSQL's CPU, and all commands."""
    return {
        "rate": readings[0]["records"] / max(reading["seconds"] for reading in readings),
        "own_us": sum(reading["own_us"] for reading in readings),
        "postgres_us": max(reading["postgres_us"] for reading in readings),
    }


async def _floor(where: Arena, records: Sequence[Keyed]) -> Reading:
    """Measure the least code that stores the same commands of market data; in a database of its own."""
    await floor.prepare(where)
    await create_topics(where, [where.topic("floor-commands")])
    await load(where, where.topic("floor-commands"), records)
    process = await _start(where, "intake", len(records), side="floor")
    try:
        output, _ = await asyncio.wait_for(process.communicate(), CHILD_TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
    _demand_success([process])
    return _together([json.loads(output.splitlines()[-1])])


async def _start(where: Arena, hop: str, count: int, *, side: str = "share") -> Process:
    command = [sys.executable, "-m", "benchmarks.child", side, hop]
    command += [where.database_url, where.kafka, where.name, str(count)]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)


async def _joined(where: Arena, aggregate: str, processes: Sequence[Process]) -> None:
    """Return when so many processes own all lanes. Raises `SystemExit` if one of them ends."""
    connection = await asyncpg.connect(where.database_url)
    try:
        async with asyncio.timeout(CHILD_TIMEOUT_S):
            while await connection.fetchval(_OWNERS, aggregate) != len(processes):
                _demand_success(process for process in processes if process.returncode is not None)
                await asyncio.sleep(LOOK_EVERY_S)
    finally:
        await connection.close()


def _demand_success(processes: Iterable[Process]) -> None:
    if ended := [process.returncode for process in processes if process.returncode]:
        raise SystemExit(f"an intake ended with {ended[0]}")


async def _round(options: Options, seed: int, processes: int) -> dict[str, Reading]:
    readings = {}
    records = data.market_data(options.keys, seed)
    async with arena(*options.servers) as where:
        options.step(FLOOR)
        readings[FLOOR] = await _floor(where, records)
    async with arena(*options.servers) as where:
        await hops.prepare(where)
        options.step(f"{processes} x market data")
        readings[SCALE] = await _intake(where, market_data.context, records, processes)
    for name, commands in ENTITIES.items():
        context = import_module(f"tidemill.contexts.{name}").context
        async with arena(*options.servers) as where:
            await hops.prepare(where, context)
            for what, records in zip(("create", "update"), commands(options.keys, seed), strict=True):
                options.step(f"{processes} x {name}: {what}")
                readings[f"{name}, {what}"] = await _intake(where, context, records, processes)
    return readings


def _table(processes: int, rounds: list[dict[str, Reading]]) -> Table:
    columns = ("intake of", "commands/s", "own us", "PostgreSQL us", "cores", "beside market data")
    table = Table(*columns, title=f"{processes} process{'es' if processes > 1 else ''}")

    def median(what: str, figure: str) -> float:
        return statistics.median(each[what][figure] for each in rounds)

    for what in rounds[0]:
        rate, own, server = (median(what, figure) for figure in ("rate", "own_us", "postgres_us"))
        beside, cores = rate / median(SCALE, "rate"), rate * (own + server) / 1e6
        figures = (f"{rate:,.0f}", f"{own:.1f}", f"{server:.1f}", f"{cores:.2f}", f"{beside:.2f}")
        table.add_row(what, *figures)
    return table


async def _main(arguments: argparse.Namespace) -> None:
    stack = devstack.up()
    servers = (stack.database_url, stack.kafka_bootstrap)
    steps = arguments.rounds * len(arguments.processes) * (2 + 2 * len(ENTITIES))
    measured: dict[int, list[dict[str, Reading]]] = {processes: [] for processes in arguments.processes}
    with Progress(console=console) as progress:
        task = progress.add_task("", total=steps)

        def step(what: str) -> None:
            progress.update(task, description=what, advance=1)

        options = Options(servers, arguments.keys, step)
        for seed in range(arguments.rounds):
            for processes, rounds in measured.items():
                rounds.append(await _round(options, seed, processes))
    for processes, rounds in measured.items():
        console.print(_table(processes, rounds))


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.entities", description=__doc__)
    parser.add_argument(
        "--keys", type=int, default=100_000, help="rows of each context (default %(default)s)"
    )
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[1, 2], help="in turns (default 1 2)", metavar="N"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds, of which the median counts (default %(default)s)"
    )
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
