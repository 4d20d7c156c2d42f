"""`python -m benchmarks.idle`: what one process that serves every built-in context takes while nothing happens.

`serve all` with `TIDEMILL_CONTEXTS=all` and each context's own number of lanes: seconds from its start until it is
well, resident memory, CPU of one core, database connections and open files.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import asyncpg
import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.arena import Arena, arena
from benchmarks.outside import free_port
from tidemill.security.master_keys import MasterKey
from tidemill_devkit import stack as devstack

HANGING_S = 120
LOOK_EVERY_S = 0.05
PROGRAM = [sys.executable, "-m", "tidemill"]

console = Console()


def _environment(where: Arena, contexts: str) -> dict[str, str]:
    key = MasterKey.fresh("idle").setting  # without one a context with secrets would not be served
    own = where.environment() | {"TIDEMILL_CONTEXTS": contexts, "TIDEMILL_SECRET_KEYS": key}
    del own["TIDEMILL_TOPICS_PARTITIONS"]
    return os.environ | own


def _well(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _await_well(serving: subprocess.Popen[bytes], port: int) -> float:
    """Return after how many seconds a process that has just been started is well."""
    began = time.perf_counter()
    while not _well(port):
        if serving.poll() is not None or time.perf_counter() - began > HANGING_S:
            raise SystemExit("serve all did not become well")
        time.sleep(LOOK_EVERY_S)
    return time.perf_counter() - began


def _cpu_percent(process: psutil.Process, seconds: int) -> float:
    before = process.cpu_times()
    for _ in track(range(seconds), "idle", console=console):
        time.sleep(1)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system) / seconds * 100


async def _connections(where: Arena) -> int:
    connection = await asyncpg.connect(where.database_url)
    try:
        counted = "select count(*) from pg_stat_activity where datname = current_database()"
        return int(await connection.fetchval(counted)) - 1
    finally:
        await connection.close()


def _measure(where: Arena, options: argparse.Namespace) -> Table:
    environment = _environment(where, options.contexts)
    for verb in (["migrate"], ["topics", "create"]):
        subprocess.run([*PROGRAM, *verb], env=environment, check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    with tempfile.TemporaryFile() as log:
        serving = subprocess.Popen(
            [*PROGRAM, "serve", "all"], env=environment | {"TIDEMILL_HEALTH_PORT": str(port)}, stderr=log
        )
        try:
            start_s = _await_well(serving, port)
            time.sleep(options.settle)
            process = psutil.Process(serving.pid)
            percent = _cpu_percent(process, options.seconds)
            return _table(process, start_s, percent, asyncio.run(_connections(where)))
        finally:
            serving.terminate()
            serving.wait(HANGING_S)


def _table(process: psutil.Process, start_s: float, percent: float, connections: int) -> Table:
    table = Table("start, s", "resident, MB", "CPU of a core, %", "database connections", "open files")
    table.add_row(
        f"{start_s:.1f}",
        f"{process.memory_info().rss / 1e6:.0f}",
        f"{percent:.1f}",
        str(connections),
        str(process.num_fds()),
    )
    return table


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    async with arena(stack.database_url, stack.kafka_bootstrap) as where:
        console.print(await asyncio.to_thread(_measure, where, options))


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--contexts", default="all", help="TIDEMILL_CONTEXTS (default %(default)s)")
    parser.add_argument(
        "--settle", type=int, default=20, help="seconds before it counts (default %(default)s)"
    )
    parser.add_argument("--seconds", type=int, default=60, help="seconds that count (default %(default)s)")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
