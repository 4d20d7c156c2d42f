"""`python -m benchmarks.aggregates`: rows of aggregates changed in place, beside deleting and inserting them.

What ADR 0007 rests on. Batches of 1,000 of 100,000 rows get a new version, through the port that a batch uses; the
two ways in turns, on tables with a GIN index (`client_configs`) and without one (`users`), packed and with room for
updates.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from itertools import product
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import hops
from benchmarks.arena import Arena, arena
from benchmarks.meter import Meter
from tidemill.domain.state import State, Unique
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill_devkit import stack as devstack

CONTEXTS = ("client_configs", "users")
FILL = (100, 80)
WAYS = ("anew", "in place")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Case = tuple[str, int, str]

console = Console()


def _row(state: State, number: int) -> Any:
    fields: dict[str, dict[str, Any]] = {
        "client_configs": {
            "name": f"client {number}",
            "config_data": json.dumps({"type": "a", "rows": number}),
        },
        "users": {
            "username": f"user{number}",
            "username_folded": f"user{number}",
            "email": f"u{number}@example.org",
            "email_folded": f"u{number}@example.org",
            "hashed_password": "x" * 97,
            "full_name": None,
            "is_active": True,
        },
    }
    engine = {"version": 1, "created_at": NOW, "updated_at": NOW}
    return state.model(id=f"k{number:07d}", service_name="bench", **fields[state.name], **engine)


def _changed(row: Any) -> Any:
    """Return the row as an update leaves it; what is indexed by GIN changes as well."""
    if hasattr(row, "config_data"):
        data = json.dumps({"type": "a", "rows": row.version, "of": row.id})
        return replace(row, version=row.version + 1, config_data=data)
    return replace(row, version=row.version + 1, full_name=f"name {row.version}")


def _always_moving(state: State) -> State:
    """Return the state with a unique value that each change moves, so that every row is written anew."""
    moving = Unique(
        columns=("version",), of=lambda row: (row.id, row.version), code="MOVED", constraint="none"
    )
    return replace(state, unique=(moving,))


async def _fill(pool: Pool, store: CommandDatabase, state: State, rows: dict[str, Any], fill: int) -> None:
    await pool.execute(
        f"truncate public.{state.name}; alter table public.{state.name} set (fillfactor = {fill})"
    )
    async with store.unit_of_work() as unit:
        await unit.replace(state, {}, rows)
    await _settle(state, pool)


async def _settle(state: State, pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute(f"vacuum analyze public.{state.name}")


async def _measured(
    pool: Pool, state: State, rows: dict[str, Any], batches: Sequence[Sequence[str]]
) -> dict[str, float]:
    store = CommandDatabase(pool)
    meter = Meter(await pool.fetchval("select pg_backend_pid()"), [os.getpid()])
    for keys in batches:
        before = {key: rows[key] for key in keys}
        after = {key: _changed(row) for key, row in before.items()}
        async with store.unit_of_work() as unit:
            await unit.replace(state, before, after)
        rows |= after
    return meter.read(sum(map(len, batches))).as_dict()


def _batches(count: int, size: int, turns: int) -> Iterator[list[list[str]]]:
    source = random.Random(1)
    for _ in range(turns):
        keys = [f"k{number:07d}" for number in range(count)]
        source.shuffle(keys)
        yield [keys[at : at + size] for at in range(0, count, size)][: max(1, count // size // 4)]


async def _readings(where: Arena, options: argparse.Namespace) -> dict[Case, list[dict[str, float]]]:
    readings: dict[Case, list[dict[str, float]]] = {}
    pool = await create_pool(where.database_url, application_name="benchmark", size=2)
    for name, fill in product(CONTEXTS, FILL):
        state: State = import_module(f"tidemill.contexts.{name}").context.state
        rows = {row.id: row for row in (_row(state, number) for number in range(options.rows))}
        await _fill(pool, CommandDatabase(pool), state, rows, fill)
        turns = list(_batches(options.rows, 1_000, options.turns))
        for batches in track(turns, f"{name}, fillfactor {fill}", console=console):
            for way in WAYS:
                of_way = _always_moving(state) if way == "anew" else state
                await _settle(state, pool)
                reading = await _measured(pool, of_way, rows, batches)
                readings.setdefault((name, fill, way), []).append(reading)
    await close_pool(pool)
    return readings


def _table(readings: dict[Case, list[dict[str, float]]]) -> Table:
    table = Table("table", "fillfactor", "anew: us a row, own + PostgreSQL", "in place", "in place / anew")
    for name, fill in product(CONTEXTS, FILL):
        cells, totals = [], []
        for way in WAYS:
            own, server = (
                statistics.median(each[figure] for each in readings[name, fill, way])
                for figure in ("own_us", "postgres_us")
            )
            cells.append(f"{own:.1f} + {server:.1f}")
            totals.append(own + server)
        table.add_row(name, str(fill), *cells, f"{totals[1] / totals[0]:.2f}")
    return table


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    async with arena(stack.database_url, stack.kafka_bootstrap) as where:
        for name in CONTEXTS:
            await hops.prepare(where, import_module(f"tidemill.contexts.{name}").context)
        readings = await _readings(where, options)
    console.print(_table(readings))


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aggregates", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of each table (default %(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="turns of each case (default %(default)s)")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
