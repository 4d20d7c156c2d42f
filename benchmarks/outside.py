"""One turn of one version, touched from outside only, so that versions compare whatever their modules are called.

What is relied upon: the verbs `migrate`, `topics create`, `serve commands` and `serve projections`, documented
variables, the names of topics, `/health` and `/metrics`, and two public read models, whose rows count their events.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from confluent_kafka import Consumer, TopicPartition

from benchmarks.arena import Arena, arena, load
from benchmarks.checkout import Version
from benchmarks.data import PARTITIONS, Keyed
from benchmarks.meter import Meter, Reading
from benchmarks.servers import wal_bytes

HOPS = ("commands", "projections")
"""The processes that are measured, each by itself: the way in and out, and the read models."""

STAGES = ("prepare", "start", *HOPS)

_HANGING_S = 900.0
_LOOK_EVERY_S = 0.1
_LANES = re.compile(r'^tidemill_lanes_owned\{aggregate="market-data"\} (\S+)$', re.MULTILINE)
_FOLDED = """
select least((select coalesce(sum(version), 0) from public.latest_quotes),
             (select coalesce(sum(ticks), 0) from public.daily_bars))::bigint
"""


@dataclass(frozen=True)
class Cost:
    """CPU microseconds per command, without the start of the process; `start_s`: CPU seconds of that, both together.

    `wal_bytes`: what the database wrote of its log meanwhile, per command, the start included.
    """

    own_us: float
    postgres_us: float
    start_s: float
    rate: float
    wal_bytes: float = 0.0

    @property
    def total_us(self) -> float:
        """Return both together."""
        return self.own_us + self.postgres_us


async def turn(
    version: Version,
    server: str,
    kafka: str,
    commands: Sequence[Keyed],
    count: int,
    step: Callable[[str], None],
) -> dict[str, Cost]:
    """Let a version apply, publish and fold `commands` in a database and topics of their own; return what it cost.

    `count`: how many of them are to be applied, and what it cost is divided by; the others are odd ones.
    """
    async with arena(server, kafka) as where:
        step("prepare")
        Program(version, where).call("migrate")
        Program(version, where).call("topics", "create")
        step("start")
        starts = {hop: await _measured(version, where, hop, _ready) for hop in HOPS}
        await load(where, f"{where.name}.market-data.commands.v1", commands)
        done = {"commands": published(where, count, count), "projections": folded(count)}
        costs = {}
        for hop in HOPS:
            step(hop)
            wal = await _wal_of(where)
            whole = await _measured(version, where, hop, done[hop])
            costs[hop] = _cost(whole, starts[hop], count, await _wal_of(where) - wal)
        return costs


async def _wal_of(where: Arena) -> int:
    connection = await asyncpg.connect(where.database_url)
    try:
        return await wal_bytes(connection)
    finally:
        await connection.close()


def _cost(whole: Reading, start: Reading, count: int, wal: int) -> Cost:
    """Return the cost of a hop. Both readings are of one record each: microseconds in all."""
    return Cost(
        own_us=(whole.own_us - start.own_us) / count,
        postgres_us=(whole.postgres_us - start.postgres_us) / count,
        start_s=(start.own_us + start.postgres_us) / 1e6,
        rate=count / whole.seconds,
        wal_bytes=wal / count,
    )


class Program:
    """A version's program, in its own environment and in its own folder."""

    def __init__(self, version: Version, where: Arena, settings: Mapping[str, str] | None = None) -> None:
        """`settings`: variables besides those that point it to its servers."""
        self._version = version
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TIDEMILL_") and name not in ("PYTHONPATH", "VIRTUAL_ENV")
        }
        self._environment = clean | where.environment() | dict(settings or {})

    def call(self, *arguments: str) -> None:
        """Run a verb. Raises `SystemExit` with what it says if it fails."""
        done = subprocess.run(
            self._command(*arguments),
            cwd=self._version.root,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_HANGING_S,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"tidemill {' '.join(arguments)} of {self._version.commit}:\n{done.stdout}{done.stderr}"
            )

    @contextmanager
    def serving(self, process: str) -> Iterator[Serving]:
        """Run `serve PROCESS` while the block runs."""
        port = free_port()
        with tempfile.TemporaryFile("w+") as log:
            child = subprocess.Popen(
                self._command("serve", process),
                cwd=self._version.root,
                env=self._environment | {"TIDEMILL_HEALTH_PORT": str(port)},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
            try:
                yield Serving(process, child, log, f"http://127.0.0.1:{port}")
            finally:
                child.terminate()
                try:
                    child.wait(60)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()

    def _command(self, *arguments: str) -> list[str]:
        return [str(self._version.python), "-m", "tidemill", *arguments]


@dataclass(frozen=True)
class Serving:
    """A process that serves, and what it has said."""

    name: str
    process: subprocess.Popen[bytes]
    log: Any
    address: str

    def demand_life(self) -> None:
        """Raise `SystemExit` with its last words if it has ended."""
        if self.process.poll() is not None:
            self.log.seek(0)
            raise SystemExit(
                f"serve {self.name} ended with {self.process.returncode}:\n{self.log.read()[-4000:]}"
            )

    def ask(self, path: str) -> str | None:
        """Return what it answers, None if it is not well or not there yet."""
        try:
            with urllib.request.urlopen(f"{self.address}/{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return None


Done = Callable[[Serving, Any], Awaitable[bool]]
"""Tells whether a process has done what was to be measured; gets a connection to the database."""


async def _measured(version: Version, where: Arena, hop: str, done: Done) -> Reading:
    """Measure a process from its start until it is done, all of it as one record."""
    connection = await asyncpg.connect(where.database_url)
    try:
        backend = await connection.fetchval("select pg_backend_pid()")
        with Program(version, where).serving(hop) as serving:
            meter = Meter(backend, [serving.process.pid])
            async with asyncio.timeout(_HANGING_S):
                while not await done(serving, connection):
                    serving.demand_life()
                    await asyncio.sleep(_LOOK_EVERY_S)
            return meter.read(1)
    finally:
        await connection.close()


async def _ready(serving: Serving, _: Any) -> bool:
    """Tell whether a process is well, and has the lanes that it is to have."""
    if serving.ask("health") is None:
        return False
    found = _LANES.search(serving.ask("metrics") or "")
    return found is None or float(found[1]) == PARTITIONS


def published(where: Arena, outcomes: int, events: int) -> Done:
    """Return what tells whether so many outcomes and events can be read, by readers of committed records."""
    wanted = {
        f"{where.name}.market-data.{role}.v1": count
        for role, count in (("outcomes", outcomes), ("events", events))
    }
    seen: Counter[str] = Counter()
    consumer = Consumer(
        {
            "bootstrap.servers": where.kafka,
            "log_level": 0,
            "group.id": where.name,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
        }
    )
    consumer.assign([TopicPartition(topic, number, 0) for topic in wanted for number in range(PARTITIONS)])

    def read() -> bool:
        for message in consumer.consume(10_000, 0.1):
            if message.error() is None:
                seen[str(message.topic())] += 1
        return all(seen[topic] >= count for topic, count in wanted.items())

    async def done(_: Serving, __: Any) -> bool:
        ended = await asyncio.to_thread(read)
        if ended:
            consumer.close()
        return ended

    return done


def folded(count: int) -> Done:
    """Return what tells whether both read models of market data were told every event."""

    async def done(_: Serving, connection: Any) -> bool:
        return bool(await connection.fetchval(_FOLDED) >= count)

    return done


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
