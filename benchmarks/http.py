"""`python -m benchmarks.http`: what a request costs, beside a bare ASGI route, `pgbench` and the same command by Kafka.

One `serve http` and one `serve all` on servers of this checkout, 16 connections that are kept. CPU is what counts: that
of the HTTP process, and that of PostgreSQL, per request; rates and times depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx2
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.arena import Arena, arena
from benchmarks.http_by_kafka import CONNECTIONS, by_kafka
from benchmarks.meter import Meter, Reading
from benchmarks.outside import free_port
from tidemill_devkit import stack as devstack

HANGING_S = 180
SYMBOLS = 10
ROWS = 20_000
LINES = 1_000
PROGRAM = [sys.executable, "-m", "tidemill"]
FLOOR = "benchmarks.http_floor:application"

console = Console()


@dataclass(frozen=True)
class Cost:
    """What requests of one kind took. `times`: of each, in seconds."""

    name: str
    reading: Reading
    times: Sequence[float]

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table."""
        cuts = statistics.quantiles(self.times, n=100)
        return (
            self.name,
            f"{self.reading.own_us:,.0f}",
            f"{self.reading.postgres_us:,.0f}",
            f"{self.reading.rate:,.0f}",
            f"{cuts[49] * 1000:.1f}",
            f"{cuts[98] * 1000:.1f}",
        )


class Connection:
    """HTTP/1.1 over a socket that is kept, with as little work as it takes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str) -> Connection:
        """Connect."""
        parts = urlsplit(address)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 24))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        """End it."""
        self._writer.close()


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """Return a request as it is sent."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def write(symbol: str, number: int) -> bytes:
    """Return a request that records a quote."""
    body = json.dumps(quote(symbol, number)).encode()
    return request("POST", "/api/db/market-data", body, "content-type: application/json")


def quote(symbol: str, number: int) -> dict[str, object]:
    """Return a quote."""
    at = f"2026-11-{1 + number % 28:02d}T{number // 28 % 24:02d}:{number // 700 % 60:02d}:00Z"
    return {"symbol": symbol, "time": at, "price": 100 + number % 7, "source": "bench"}


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """What is measured: where it answers, its process, and a backend of the database."""

    address: str
    own: int
    backend: int


async def measure(name: str, side: Side, requests: Sequence[bytes], status: int) -> Cost:
    """Send requests over all connections at once, each connection one after the other."""
    connections = [await Connection.open(side.address) for _ in range(CONNECTIONS)]
    waiting, times = iter(requests), []

    async def work(connection: Connection) -> None:
        for wanted in waiting:
            began_s = time.perf_counter()
            got, body = await connection.ask(wanted)
            assert got == status, (got, body[:500])
            times.append(time.perf_counter() - began_s)

    await asyncio.gather(*(connection.ask(requests[0]) for connection in connections))
    meter = Meter(side.backend, [side.own])
    await asyncio.gather(*(work(connection) for connection in connections))
    reading = meter.read(len(requests))
    for connection in connections:
        connection.close()
    return Cost(name, reading, times)


async def at_once(address: str, requests: Sequence[bytes]) -> list[float]:
    """Send all requests at the same time; return how long each took."""
    connections = [await Connection.open(address) for _ in requests]

    async def work(connection: Connection, wanted: bytes) -> float:
        began_s = time.perf_counter()
        got, body = await connection.ask(wanted)
        assert got == 201, (got, body[:500])
        return time.perf_counter() - began_s

    try:
        return list(await asyncio.gather(*map(work, connections, requests)))
    finally:
        for connection in connections:
            connection.close()


# --- processes -------------------------------------------------------------------------------------------------------


@contextmanager
def running(arguments: Sequence[str], environment: dict[str, str]) -> Iterator[psutil.Process]:
    """Run a program while the block does."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(HANGING_S)


@asynccontextmanager
async def served(where: Arena) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Serve a deployment of market data, with quotes in it; yields the address and the HTTP process."""
    port = free_port()
    environment = (
        os.environ
        | where.environment()
        | {
            "TIDEMILL_CONTEXTS": "market_data",
            "TIDEMILL_HTTP_PORT": str(port),
            "TIDEMILL_HTTP_MAX_WAITING": "2000",
        }
    )
    await asyncio.to_thread(_prepare, environment)
    address = f"http://127.0.0.1:{port}"
    with (
        running([*PROGRAM, "serve", "commands"], environment),
        running([*PROGRAM, "serve", "projections"], environment),
        running([*PROGRAM, "serve", "http"], environment) as http,
    ):
        await _ready(f"{address}/readyz")
        await _fill(address)
        yield address, http


def _prepare(environment: dict[str, str]) -> None:
    for verb in (["migrate"], ["topics", "create"]):
        subprocess.run([*PROGRAM, *verb], env=environment, check=True, stdout=subprocess.DEVNULL)


async def _ready(url: str) -> None:
    async with httpx2.AsyncClient(timeout=5) as client, asyncio.timeout(HANGING_S):
        while True:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.1)


async def _fill(address: str) -> None:
    """Record the quotes, and return when the read models show them."""
    seen: dict[str, int] = {}
    async with httpx2.AsyncClient(timeout=60, base_url=address) as client:
        for start in range(0, ROWS, LINES):
            lines = [json.dumps(quote(f"S{n % SYMBOLS}", n)) for n in range(start, start + LINES)]
            answer = await client.post(
                "/api/db/market-data",
                content="\n".join(lines),
                headers={"content-type": "application/x-ndjson", "prefer": "wait=30"},
            )
            for line in answer.text.splitlines():
                lane, _, number = json.loads(line)["seen"].partition("=")
                seen[lane] = max(int(number), seen.get(lane, 0))
        token = ", ".join(f"{lane}={number}" for lane, number in seen.items())
        shown = await client.get(
            "/api/db/latest-quotes/S0", headers={"tidemill-seen": token, "prefer": "wait=30"}
        )
        assert shown.status_code == 200, shown.text


@contextmanager
def floor(port: int) -> Iterator[psutil.Process]:
    """Serve one route that answers 200 bytes, by the same server."""
    arguments = [sys.executable, "-m", "uvicorn", FLOOR, "--port", str(port), "--log-level", "critical"]
    with running([*arguments, "--http", "httptools", "--no-access-log"], dict(os.environ)) as process:
        yield process


# --- pgbench ---------------------------------------------------------------------------------------------------------


def pgbench(where: Arena, seconds: int) -> str | None:
    """Return the rate of the point read's statement by `pgbench`, None if there is none on this machine."""
    if shutil.which("pgbench") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "point.sql"
        script.write_text(
            f"\\set n random(0, {SYMBOLS - 1})\nselect row_to_json(q) from latest_quotes q where symbol = 'S' || :n;\n"
        )
        arguments = [
            "-n",
            "-M",
            "prepared",
            "-c",
            str(CONNECTIONS),
            "-j",
            "1",
            "-T",
            str(seconds),
            "-f",
            str(script),
        ]
        ran = subprocess.run(
            ["pgbench", *arguments, where.database_url], capture_output=True, text=True, check=True
        )
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("tps")]
    return line.split()[2]


# --- the whole -------------------------------------------------------------------------------------------------------


async def _costs(side: Side, count: int) -> list[Cost]:
    points = [request("GET", f"/api/db/latest-quotes/S{n % SYMBOLS}") for n in range(count)]
    facts = "/api/db/market-data"
    page = f"{facts}?symbol=S3&time.gte=2026-11-01T00:00:00Z&_limit="
    counts = request("GET", f"{facts}/count?time.gte=2026-11-01T00:00:00Z")
    kinds = [
        ("point read", points, 200),
        ("page of 100", [request("GET", f"{page}100")] * (count // 10), 200),
        ("page of 1,000", [request("GET", f"{page}1000")] * (count // 40), 200),
        ("count of 20,000", [counts] * (count // 40), 200),
        ("write, waited for", [write(f"W{n % SYMBOLS}", n) for n in range(count // 5)], 201),
    ]
    return [await measure(name, side, requests, status) for name, requests, status in kinds]


async def _floor(backend: int, count: int) -> Cost:
    with floor(port := free_port()) as bare:
        address = f"http://127.0.0.1:{port}"
        await _ready(f"{address}/")
        side = Side(address, bare.pid, backend)
        return await measure("a bare ASGI route", side, [request("GET", "/")] * count, 200)


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    async with arena(stack.database_url, stack.kafka_bootstrap) as where, served(where) as (address, http):
        connection = await asyncpg.connect(where.database_url)
        backend = await connection.fetchval("select pg_backend_pid()")
        costs = [
            await _floor(backend, options.requests),
            *await _costs(Side(address, http.pid, backend), options.requests),
        ]
        kafka_times = await by_kafka(where, quote, options.requests // 5)
        times = sorted(await at_once(address, [write(f"A{n}", n) for n in range(LINES)]))
        rate = pgbench(where, 5)
        await connection.close()
    table = Table("request", "own CPU, us", "PostgreSQL CPU, us", "a second", "p50, ms", "p99, ms")
    for cost in costs:
        table.add_row(*cost.row())
    console.print(table)
    cuts = statistics.quantiles(kafka_times, n=100)
    console.print(
        f"the same command by Kafka, until its outcome can be read, {CONNECTIONS} at once: p50 "
        f"{cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms"
    )
    console.print(
        f"{LINES:,} writes at once: half within {times[len(times) // 2]:.2f} s, 99 % within "
        f"{times[len(times) * 99 // 100]:.2f} s, all within {times[-1]:.2f} s"
    )
    console.print(f"pgbench, the point read's statement: {rate or 'not on this machine'} a second")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000, help="point reads (default %(default)s)")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
