"""`python -m benchmarks.archive`: what the archive costs beside the plain ways, each in a process of its own.

    export    rows of a table through an asyncpg cursor into Parquet, as published archivers do it: the yardstick
    copy      ADBC, digest on the way, Parquet with a manifest: what `serve archiver` does per chunk
    read      the copy read back with its digest: what retention does before it drops
    digest    the digest in the database: what is done once more under SHARE
    floor     bare COPY of the same rows as CSV, made before the clock starts
    restore   files compared with their sha256, read, brought in by COPY, the digest of what came: `retention restore`

Each table size shows the memory too: `peak MB` is the process's greatest resident size. Rounds take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from tidemill.domain.archive.slices import LakeColumn, SliceId
from tidemill.lakehouse.layout import Manifest
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader
from tidemill.storage.database.pool import Timeouts, close_pool, connection, create_pool
from tidemill.storage.retention import arrow_reader, digest_sql, measurement
from tidemill.storage.retention.restore import restore_batches
from tidemill_devkit import stack

SOURCE = "public.bench_ticks"
DATABASE = "bench_archive"
SLICE = SliceId(SOURCE, datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
STEPS = ("export", "copy", "read", "digest", "floor", "restore")
CURSOR_ROWS = 10_000
TIMEOUT_S = 1800

_MAKE = """
    create table if not exists {table} (time timestamptz not null, symbol text, price float8, volume float8,
        bid float8, ask float8, trade_id int8, source text);
    insert into {table}
    select '2026-01-01+00'::timestamptz + number * interval '250 microseconds', 'SYM' || number % 500,
        round((random() * 100)::numeric, 4), (random() * 10000)::int, random() * 100, random() * 100, number,
        'SRC' || number % 5
    from generate_series(1, {rows}) as number;
    vacuum freeze analyze {table}
"""
_TYPES = {
    "time": pa.timestamp("us", "UTC"), "symbol": pa.string(), "price": pa.float64(), "volume": pa.float64(),
    "bid": pa.float64(), "ask": pa.float64(), "trade_id": pa.int64(), "source": pa.string(),
}  # fmt: skip


async def _with_session(url: str, work: Callable[[Any], Any]) -> Any:
    limits = Timeouts(statement_ms=TIMEOUT_S * 1000, idle_in_transaction_ms=0, command_s=TIMEOUT_S)
    pool = await create_pool(url, application_name="benchmark", size=1, timeouts=limits)
    try:
        async with connection(pool) as borrowed, borrowed.transaction():
            return await work(borrowed)
    finally:
        await close_pool(pool)


def _columns(url: str) -> tuple[LakeColumn, ...]:
    shape = asyncio.run(_with_session(url, lambda session: measurement.columns_of(session, SOURCE)))
    assert not shape.refused
    return tuple(shape.columns)


async def _cursor_to_parquet(session: Any, target: Path) -> None:
    schema = pa.schema(list(_TYPES.items()))
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        cursor = await session.cursor(f"select * from {SOURCE}")
        while rows := await cursor.fetch(CURSOR_ROWS):
            arrays = [
                pa.array([row[index] for row in rows], field.type) for index, field in enumerate(schema)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def export(url: str, folder: Path) -> float:
    """Return how long the yardstick takes."""
    started = time.perf_counter()
    asyncio.run(_with_session(url, lambda session: _cursor_to_parquet(session, folder / "cursor.parquet")))
    return time.perf_counter() - started


def copy(url: str, folder: Path) -> float:
    """Return how long a copy takes, with its digest and checksums."""
    columns = _columns(url)
    started = time.perf_counter()
    rows = arrow_reader.read(url, digest_sql.read_sql(columns, SOURCE))
    LakeWriter(str(folder)).write(SLICE, "bench", columns, "time", rows)
    return time.perf_counter() - started


def _copy_of(folder: Path) -> Manifest:
    found = LakeWriter(str(folder)).find(SLICE, "bench")
    assert found is not None
    return found


def read(_url: str, folder: Path) -> float:
    """Return how long reading the copy back takes; it must be what was copied."""
    made = _copy_of(folder)
    started = time.perf_counter()
    found = LakeReader([str(folder)]).read_back([file.path for file in made.files], made.columns, "time")
    elapsed = time.perf_counter() - started
    assert found == made.measured
    return elapsed


def digest(url: str, folder: Path) -> float:
    """Return how long the database takes for the digest; it must be the copy's."""
    made = _copy_of(folder)
    started = time.perf_counter()
    found = asyncio.run(
        _with_session(url, lambda session: measurement.measure(session, made.columns, "time", SOURCE))
    )
    assert found == made.measured
    return time.perf_counter() - started


async def _bare_copy(session: Any, source: Path) -> float:
    await session.execute("create table bench_floor (like bench_ticks)")
    started = time.perf_counter()
    await session.copy_to_table("bench_floor", source=source, format="csv", timeout=TIMEOUT_S)
    elapsed = time.perf_counter() - started
    await session.execute("drop table bench_floor")
    return elapsed


def floor(url: str, folder: Path) -> float:
    """Return how long a bare COPY takes, its CSV made beforehand by the server."""
    csv = folder / "floor.csv"

    async def unload(session: Any) -> None:
        await session.copy_from_query(f"select * from {SOURCE}", output=csv, format="csv", timeout=TIMEOUT_S)

    asyncio.run(_with_session(url, unload))
    elapsed: float = asyncio.run(_with_session(url, lambda session: _bare_copy(session, csv)))
    csv.unlink()
    return elapsed


async def _restore(session: Any, folder: Path) -> float:
    made = _copy_of(folder)
    await session.execute("create table public.bench_restored (like bench_ticks)")
    started = time.perf_counter()
    reader = LakeReader([str(folder)])
    assert [reader.damaged(file) for file in made.files] == [None] * len(made.files)
    parts = reader.copy_parts([file.path for file in made.files], made.columns, "time")
    await restore_batches(session, "public.bench_restored", made.columns, parts)
    found = await measurement.measure(session, made.columns, "time", "public.bench_restored")
    assert found == made.measured
    elapsed = time.perf_counter() - started
    await session.execute("drop table public.bench_restored")
    return elapsed


def restore(url: str, folder: Path) -> float:
    """Return how long a restore takes."""
    elapsed: float = asyncio.run(_with_session(url, lambda session: _restore(session, folder)))
    return elapsed


def _child(step: str, url: str, folder: Path) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.archive",
        "--step",
        step,
        "--url",
        url,
        "--folder",
        str(folder),
    ]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    reading: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return reading


async def _prepare(server: str, rows: int) -> str:
    session = await asyncpg.connect(server)
    await session.execute(f"drop database if exists {DATABASE} with (force)")
    await session.execute(f"create database {DATABASE}")
    await session.close()
    url = server.rsplit("/", 1)[0] + f"/{DATABASE}"
    session = await asyncpg.connect(url)
    for statement in _MAKE.format(table=SOURCE, rows=rows).split(";"):
        await session.execute(statement, timeout=TIMEOUT_S)
    await session.close()
    return url


def _show(rounds: list[dict[str, dict[str, float]]], rows: int) -> None:
    seconds = {step: statistics.median(each[step]["seconds"] for each in rounds) for step in rounds[0]}
    table = Table("step", "s", "rows/s", "peak MB")
    for step, taken in seconds.items():
        peak = max(each[step]["peak_mb"] for each in rounds)
        table.add_row(step, f"{taken:.2f}", f"{rows / taken:,.0f}", f"{peak:.0f}")
    console = Console()
    console.print(table)
    for name, over, under in (("copy / export", "export", "copy"), ("read / copy time", "read", "copy"),
                              ("restore / floor", "floor", "restore")):  # fmt: skip
        if over in seconds and under in seconds:
            console.print(f"{name}: {seconds[over] / seconds[under]:.2f}")


def _main(options: argparse.Namespace) -> None:
    url = asyncio.run(_prepare(options.server or stack.up().database_url, options.rows))
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append({step: _child(step, url, Path(folder)) for step in options.steps.split(",")})
    _show(rounds, options.rows)
    if options.json:
        options.json.write_text(json.dumps({"rows": options.rows, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", default=",".join(STEPS), help="'read' and what follows need 'copy' before")
    parser.add_argument("--server", help="a superuser's URL; the development stack if left out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        taken = globals()[given.step](given.url, given.folder)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": taken, "peak_mb": peak_mb}))
    else:
        _main(given)
