"""`python -m benchmarks.archive_live`: what those who write and read notice of an archive that is under way.

    insert    5,000 rows/s into the hypertable, 50 to a transaction, each as a batch does it: the table's mutex, then
              COPY. Alone and while `serve retention` and `serve archiver` work, both held back to `--bytes-per-s`, in
              turns that change places (AB, BA, AB, ...). A turn in which no chunk leaves does not count: it fails.
    read      two readers without pause: the newest quote of a symbol, and all rows of one, in every chunk. Alone, and
              while 100 chunks are sealed, copied, verified and dropped.

Times are in ms, from the moment when the transaction was due: one that waits makes the next ones late, and they count.
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
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from rich.console import Console
from rich.table import Table

from benchmarks import hops
from benchmarks.arena import Arena, arena
from tidemill_devkit import stack as devstack

RATE = 5_000
ROWS = 50
AS_OF = "2020-01-01T00:00:00+00:00"
COLUMNS = ("time", "symbol", "price", "source", "command_id")
READERS = {
    "newest quote": "select price from public.market_data where symbol = 'S1' and time > now() - interval '1 hour' "
    "order by time desc limit 1",
    "all of a symbol": "select count(*), sum(price) from public.market_data where symbol = 'S1'",
}

_FILL = """
insert into public.market_data (time, symbol, price, volume, source, command_id)
select '2010-01-01+00'::timestamptz + ($1 + i / $2::float8) * interval '1 day', 'S' || i % 500, i / 7.0, i, 'bench',
       gen_random_uuid()
from generate_series(0, $2 - 1) i
"""
_BEGUN = "select count(*) from tm.archive"
_LEFT = "select count(*) from tm.archive where state = 'dropped'"

console = Console()


def summary(times_s: list[float]) -> dict[str, float]:
    """Return median, p99 and the longest, in ms."""
    ordered = sorted(times_s)
    picked = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    last = len(ordered) - 1
    return {
        name: round(1000 * ordered[min(last, int(share * len(ordered)))], 2) for name, share in picked.items()
    }


# --- children: each in a process of its own, until it is told to end by a line ---


async def _connected(url: str) -> Any:
    connection = await asyncpg.connect(url)
    for query in READERS.values():
        await connection.fetch(query)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    return connection


async def write(url: str, until: asyncio.Event) -> dict[str, Any]:
    """Insert at the rate; return what the transactions took."""
    connection = await _connected(url)
    times, due, every = [], time.perf_counter(), ROWS / RATE
    while not until.is_set():
        due += every
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        now = datetime.now(UTC)
        rows = [(now, f"S{number}", 1.5, "live", uuid4()) for number in range(ROWS)]
        async with connection.transaction():
            await connection.fetch("select * from tm.closed_ranges('public.market_data', $1, $1)", now)
            await connection.copy_records_to_table(
                "market_data", schema_name="public", columns=COLUMNS, records=rows
            )
        times.append(time.perf_counter() - due)
    await connection.close()
    return {"insert": summary(times), "transactions": len(times)}


async def read(url: str, until: asyncio.Event) -> dict[str, Any]:
    """Read without pause; return what the queries took, and how many failed."""
    connection = await _connected(url)
    times: dict[str, list[float]] = {name: [] for name in READERS}
    errors: list[str] = []
    while not until.is_set():
        for name, query in READERS.items():
            began = time.perf_counter()
            try:
                await connection.fetch(query)
            except asyncpg.PostgresError as error:
                errors.append(f"{name}: {error}")
            times[name].append(time.perf_counter() - began)
        await asyncio.sleep(0.005)
    await connection.close()
    return {name: summary(found) for name, found in times.items()} | {
        "errors": errors[:3],
        "failed": len(errors),
    }


async def _child(kind: str, url: str) -> None:
    until = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), until.set)
    found = await (write if kind == "write" else read)(url, until)
    sys.stdout.write(json.dumps(found) + "\n")


class Child:
    """One of them, from when it is ready to `end`."""

    def __init__(self, kind: str, url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.archive_live", "--child", kind, url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> dict[str, Any]:
        """Return what it measured."""
        out, _ = self._process.communicate("end\n", timeout=60)
        found: dict[str, Any] = json.loads(out)
        return found


# --- phases ---


async def _prepare(where: Arena, days: int, rows: int) -> None:
    await hops.prepare(where, all_contexts=True)
    connection = await asyncpg.connect(where.database_url)
    await connection.execute("select set_chunk_time_interval('public.market_data', interval '1 day')")
    for day in range(days):
        await connection.execute(_FILL, day, rows)
    await connection.execute("vacuum analyze public.market_data")
    await connection.execute("checkpoint")
    await connection.close()


@contextmanager
def _archiving(where: Arena, lake: Path, bytes_per_s: int | None) -> Iterator[None]:
    env = os.environ | where.environment()
    env |= {"TIDEMILL_LAKE_ROOT": str(lake), "TIDEMILL_RETENTION_AS_OF": AS_OF}
    if bytes_per_s is not None:
        env["TIDEMILL_RETENTION_MAX_BYTES_PER_SECOND"] = str(bytes_per_s)
    command = [sys.executable, "-m", "tidemill", "serve"]
    with (lake / "log").open("ab") as log:
        serving = [
            subprocess.Popen([*command, what], env=env, stderr=log) for what in ("retention", "archiver")
        ]
    try:
        yield
    finally:
        for process in serving:
            process.terminate()
        for process in serving:
            process.wait(20)


async def _count(where: Arena, query: str, at_least: int = 0, within_s: float = 0) -> int:
    """Wait until a query counts so many, or the time is up; return how many there are."""
    connection = await asyncpg.connect(where.database_url)
    end = time.monotonic() + within_s
    try:
        while (found := int(await connection.fetchval(query))) < at_least and time.monotonic() < end:
            await asyncio.sleep(0.1)
    finally:
        await connection.close()
    return found


async def _phase(where: Arena, kind: str, seconds: float) -> dict[str, Any]:
    child = Child(kind, where.database_url)
    await asyncio.sleep(seconds)
    return child.end()


async def inserts(where: Arena, options: argparse.Namespace, lake: Path) -> dict[str, Any]:
    """Measure live inserts alone and beside a throttled archive, in turns."""
    await _prepare(where, options.days, options.rows)
    found: dict[str, Any] = {"throttle": {"bytes per s": options.bytes_per_s}}
    for turn in range(1, options.rounds + 1):
        for when in ("alone", "archiving") if turn % 2 else ("archiving", "alone"):
            found[f"{when} {turn}"] = await _turn(where, options, lake, archiving=when == "archiving")
    medians = {
        when: statistics.median(
            found[f"{when} {turn}"]["insert"]["p99"] for turn in range(1, options.rounds + 1)
        )
        for when in ("alone", "archiving")
    }
    found["p99, medians"] = medians | {"ratio": round(medians["archiving"] / medians["alone"], 2)}
    return found


async def _turn(where: Arena, options: argparse.Namespace, lake: Path, *, archiving: bool) -> dict[str, Any]:
    if not archiving:
        return await _phase(where, "write", options.seconds)
    before = await _count(where, _LEFT)
    with _archiving(where, lake, options.bytes_per_s):
        await _count(where, _LEFT, before + 1, 60)
        before = await _count(where, _LEFT)
        found = await _phase(where, "write", options.seconds)
        left = await _count(where, _LEFT) - before
    if not left:
        raise SystemExit("no chunk left meanwhile:\n" + (lake / "log").read_text()[-2_000:])
    return found | {"chunks meanwhile": left}


async def reads(where: Arena, options: argparse.Namespace, lake: Path) -> dict[str, Any]:
    """Measure readers alone, and while every chunk leaves."""
    await _prepare(where, options.chunks, options.chunk_rows)
    found = {"alone": await _phase(where, "read", options.seconds)}
    with _archiving(where, lake, None):
        await _count(where, _BEGUN, 1, 60)
        child = Child("read", where.database_url)
        began = time.monotonic()
        left = await _count(where, _LEFT, options.chunks, 240)
        found["archiving"] = child.end()
    found["dropped meanwhile"] = {"chunks": left, "seconds": round(time.monotonic() - began, 1)}
    return found


def _show(found: dict[str, Any]) -> None:
    table = Table("who", "when", "p50 ms", "p99 ms", "longest ms")
    for what, phases in found.items():
        for when, readings in phases.items():
            for name, times in readings.items():
                if isinstance(times, dict):
                    table.add_row(
                        f"{what}: {name}", when, *(f"{times[key]:.2f}" for key in ("p50", "p99", "max"))
                    )
    console.print(table)
    console.print_json(data=found)


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    found: dict[str, Any] = {}
    for name, measure in (("insert", inserts), ("read", reads)):
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as lake:
                async with arena(stack.database_url, stack.kafka_bootstrap) as where:
                    found[name] = await measure(where, options, Path(lake))
    _show(found)
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive_live", description=__doc__)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("insert", "read"))
    parser.add_argument(
        "--seconds",
        type=float,
        default=15,
        help="length of a phase: 100 transactions each (default %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of the inserts (default %(default)s)")
    parser.add_argument(
        "--days", type=int, default=200, help="chunks to archive beside inserts (default %(default)s)"
    )
    parser.add_argument("--rows", type=int, default=20_000, help="rows of each (default %(default)s)")
    parser.add_argument("--bytes-per-s", type=int, default=4 << 20, help="the throttle (default %(default)s)")
    parser.add_argument(
        "--chunks", type=int, default=100, help="chunks to drop beside readers (default %(default)s)"
    )
    parser.add_argument("--chunk-rows", type=int, default=10_000, help="rows of each (default %(default)s)")
    options = parser.parse_args()
    asyncio.run(_child(*options.child) if options.child else _main(options))


if __name__ == "__main__":
    main()
