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
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import against, floor, hops, identity
from benchmarks.arena import Arena, arena, create_topics, load
from benchmarks.data import market_data
from benchmarks.meter import Meter
from tidemill_devkit import stack as devstack

HOPS = ("intake", "relay", "projector")
CHILD_TIMEOUT_S = 600
Readings = dict[str, list[dict[str, float]]]

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


def _serve(env: dict[str, str]) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tidemill", "serve"]
    return [
        subprocess.Popen([*command, what], env=env, stderr=subprocess.DEVNULL)
        for what in ("commands", "projections")
    ]


async def _chain(where: Arena, count: int) -> dict[str, float]:
    """Measure `serve commands` and `serve projections` at once, from their start to the last event folded."""
    connection, backend = await hops.backend_of(where)
    env = os.environ | where.environment()
    serving = _serve(env)
    meter = Meter(backend, [process.pid for process in serving])
    counted = """
        select coalesce(min(folded), 0)::bigint
        from (select sum(sequence) as folded from tm.checkpoint
              where aggregate = 'market-data' group by projection) each
    """
    try:
        while await connection.fetchval(counted) < count:
            if any(process.poll() is not None for process in serving):
                raise SystemExit("a process of the chain ended")
            await asyncio.sleep(0.05)
        reading = meter.read(count).as_dict()
    finally:
        for process in serving:
            process.terminate()
        for process in serving:
            process.wait(15)
        await connection.close()
    return reading


async def _round(
    server: str, kafka: str, count: int, seed: int, step: Callable[[str], None]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with arena(server, kafka) as theirs, arena(server, kafka) as ours, arena(server, kafka) as chain:
        await floor.prepare(theirs)
        await hops.prepare(ours)
        await hops.prepare(chain, all_contexts=True)
        await create_topics(theirs, [theirs.topic("floor-commands"), theirs.topic("floor-events")])
        commands = market_data(count, seed)
        await load(theirs, theirs.topic("floor-commands"), commands)
        for each in (ours, chain):
            await load(each, f"{each.name}.market-data.commands.v1", commands)
        for hop in HOPS:
            for side, where in (("floor", theirs), ("tidemill", ours)):
                step(f"{side}: {hop}")
                found[f"{side} {hop}"] = await _child(side, hop, where, count)
        step("tidemill: the whole chain")
        found["tidemill chain"] = await _chain(chain, count)
    return found


def _median(rounds: list[dict[str, Any]], what: str, figure: str) -> float:
    return float(statistics.median(each[what][figure] for each in rounds))


def _table(rounds: list[dict[str, Any]]) -> Table:
    table = Table("hop", "floor /s", "tidemill /s", "ratio", "floor us", "tidemill us (own + PostgreSQL)")
    for hop in HOPS:
        low, high = (_median(rounds, f"{side} {hop}", "rate") for side in ("floor", "tidemill"))
        cpu = [
            f"{_median(rounds, f'{side} {hop}', 'own_us'):.1f} + {_median(rounds, f'{side} {hop}', 'postgres_us'):.1f}"
            for side in ("floor", "tidemill")
        ]
        table.add_row(hop, f"{low:,.0f}", f"{high:,.0f}", f"{high / low:.2f}", *cpu)
    chain = {
        figure: _median(rounds, "tidemill chain", figure) for figure in ("rate", "own_us", "postgres_us")
    }
    table.add_row(
        "chain", "", f"{chain['rate']:,.0f}", "", "", f"{chain['own_us']:.1f} + {chain['postgres_us']:.1f}"
    )
    return table


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    with Progress(console=console) as progress:
        task = progress.add_task("", total=options.rounds * (2 * len(HOPS) + 1))

        def step(what: str) -> None:
            progress.update(task, description=what, advance=1)

        servers = (stack.database_url, stack.kafka_bootstrap)
        rounds = [await _round(*servers, options.commands, number, step) for number in range(options.rounds)]
    console.print(_table(rounds))
    growth = None
    if options.ids:
        growth = await identity.growth(stack.database_url, stack.kafka_bootstrap, options.ids, console)
    if options.json:
        report = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "commands": options.commands,
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
        "--commands", type=int, default=200_000, help="backlog of a round or turn (default %(default)s)"
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
