"""`python -m benchmarks.alike --against CHECKOUT`: whether an older version makes the same of the same commands.

Each version gets a database and topics of its own and the same backlog of market data, 9 % of it odd (`data.with_odd`).
`serve commands` and `serve projections` work it off; they are killed and started again on the way as often as `--kills`
says. Then the two are compared as subscribers and SQL see them (`benchmarks/equality.py`). Exit code 0: alike; 1: not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from rich.console import Console

from benchmarks.arena import Arena, arena, load
from benchmarks.checkout import Version, checked_out
from benchmarks.data import ROOT, Keyed, market_data, with_odd
from benchmarks.equality import Picture, Side, differences, read_tables, read_topics, report
from benchmarks.outside import HOPS, Done, Program, Serving, folded, published
from tidemill_devkit import stack as devstack

HANGING_S = 1_800.0
LOOK_EVERY_S = 0.1
SESSION_S = 6
"""How long the group misses a process that was killed."""

KILL_AFTER_S = (4.0, 12.0)
"""The shortest and the longest life of a process that is killed."""

console = Console()


@dataclass(frozen=True)
class Plan:
    """What each version works off: the records, of which so many make an event, and how often a process is killed."""

    records: Sequence[Keyed]
    events: int
    kills: int
    seed: int


async def made_by(version: Version, servers: tuple[str, str], plan: Plan) -> Picture:
    """Let a version work the backlog off; return what subscribers and SQL see afterwards."""
    async with arena(*servers) as where:
        program = Program(version, where, {"TIDEMILL_KAFKA_SESSION_S": str(SESSION_S)})
        program.call("migrate")
        program.call("topics", "create")
        await load(where, f"{where.name}.market-data.commands.v1", plan.records)
        await _work_off(program, where, plan)
        side = Side(where.database_url, where.kafka, where.name)
        return Picture(await asyncio.to_thread(read_topics, side), await read_tables(side))


async def _work_off(program: Program, where: Arena, plan: Plan) -> None:
    done = {"commands": published(where, len(plan.records), plan.events), "projections": folded(plan.events)}
    async with asyncio.timeout(HANGING_S), asyncio.TaskGroup() as group:
        for number, hop in enumerate(HOPS):
            source = random.Random(f"{plan.seed} {hop}")
            kills = plan.kills // len(HOPS) + (number < plan.kills % len(HOPS))
            group.create_task(
                _keep_serving(
                    program, where, hop, done[hop], [source.uniform(*KILL_AFTER_S) for _ in range(kills)]
                )
            )


async def _keep_serving(
    program: Program, where: Arena, hop: str, done: Done, lives_s: Sequence[float]
) -> None:
    """Serve until `done`; the first processes are killed when they have lived so long."""
    connection = await asyncpg.connect(where.database_url)
    try:
        for life_s in (*lives_s, HANGING_S):
            with program.serving(hop) as serving:
                if await _done_within(life_s, serving, done, connection):
                    return
                serving.process.kill()
                serving.process.wait()
    finally:
        await connection.close()


async def _done_within(seconds: float, serving: Serving, done: Done, connection: Any) -> bool:
    """Return whether all was done before the time was over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if await done(serving, connection):
            return True
        serving.demand_life()
        await asyncio.sleep(LOOK_EVERY_S)
    return False


async def _main(options: argparse.Namespace) -> int:
    stack = devstack.up()
    servers = (stack.database_url, stack.kafka_bootstrap)
    with checked_out(options.against) as root:
        with console.status("making the environments (half a minute each the first time)"):
            versions = {"old": Version.at(root), "new": Version.at(ROOT)}
        plain = market_data(options.commands, options.seed, checkout=root)
        plan = Plan(with_odd(plain, options.seed), len(plain), options.kills, options.seed)
        names = ", ".join(f"{side} {version.commit}" for side, version in versions.items())
        console.print(f"{names}: {len(plan.records):,} records, seed {options.seed}")
        pictures = []
        for side, version in versions.items():
            with console.status(f"{side}: working the backlog off, with {options.kills} kills"):
                pictures.append(await made_by(version, servers, plan))
    found = list(differences(*pictures))
    report(found, console)
    return 1 if found else 0


def main() -> int:
    """Parse the arguments and run; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alike",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--against", required=True, metavar="CHECKOUT", help="a folder, or a revision of this repository"
    )
    parser.add_argument(
        "--commands", type=int, default=100_000, help="besides the odd ones (default %(default)s)"
    )
    parser.add_argument(
        "--kills", type=int, default=6, help="kill -9 of each version's processes (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of commands and kills (default %(default)s)")
    return asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
