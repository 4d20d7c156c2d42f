"""`python -m benchmarks.lone`: how long one command takes on its own, until its event can be read and is folded.

Commands come one by one, 20 a second, to `serve commands` and `serve projections`. Measured from before the send until
a consumer of committed records has the event, and until the database shows it in the read model `latest-quotes`, which
is asked for every 2 ms. With and without transactions of the outbox (`TIDEMILL_OUTBOX_TRANSACTIONAL`).

No event can be readable before its commit is on disk. So the first row is what the disk takes by itself for one page at
the same rate, near PostgreSQL's data if they are on this machine: no percentile of a command can be lower.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import asyncpg
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import hops
from benchmarks.arena import Arena, arena
from benchmarks.data import PARTITIONS, Keyed, market_data
from tidemill_devkit import stack as devstack

WARM = 20
"""Commands before those that count: caches fill, and each process has its lanes."""

_FOLD_LOOK_S = 0.002
_HANGING_S = 60.0
_PAGE = bytes(8192)
_FOLDED = """
select coalesce(sum(sequence), 0)::bigint from tm.checkpoint
where aggregate = 'market-data' and projection = 'latest-quotes'
"""

console = Console()


class EventReader:
    """Notes when each event could be read, in the order of their commands, which come one by one."""

    def __init__(self, where: Arena) -> None:
        self.seen_s: list[float] = []
        self._ended = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": where.kafka,
                "log_level": 0,
                "group.id": f"{where.name}-lone",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        topic = f"{where.name}.market-data.events.v1"
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._ended.is_set():
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.seen_s.append(time.perf_counter())


async def watch_folded(where: Arena, folded_s: list[float], count: int) -> None:
    """Note when each event was in the read model."""
    connection = await asyncpg.connect(where.database_url)
    try:
        while len(folded_s) < count:
            folded = await connection.fetchval(_FOLDED)
            now = time.perf_counter()
            folded_s.extend([now] * (folded - len(folded_s)))
            await asyncio.sleep(_FOLD_LOOK_S)
    finally:
        await connection.close()


@contextmanager
def serving(where: Arena, *, transactional: bool) -> Iterator[None]:
    """Run both processes while the block runs."""
    environment = (
        os.environ | where.environment() | {"TIDEMILL_OUTBOX_TRANSACTIONAL": str(transactional).lower()}
    )
    command = [sys.executable, "-m", "tidemill", "serve"]
    processes = [
        subprocess.Popen([*command, name], env=environment, stderr=subprocess.DEVNULL)
        for name in ("commands", "projections")
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(_HANGING_S)


async def send(producer: Producer, where: Arena, records: Sequence[Keyed], rate: float) -> list[float]:
    """Send records one by one, so many a second; return when each was sent."""
    topic, sent_s = f"{where.name}.market-data.commands.v1", []
    began = time.perf_counter()
    for number, (partition, key, value) in enumerate(
        track(records, "sending", console=console, transient=True)
    ):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        sent_s.append(time.perf_counter())
        producer.produce(topic, value, key, partition)
        producer.poll(0)
    producer.flush(_HANGING_S)
    return sent_s


async def measured(
    servers: tuple[str, str], count: int, rate: float, *, transactional: bool
) -> list[list[float]]:
    """Return the milliseconds of each command until its event was readable, and until it was folded."""
    records = [record for record in market_data(8 * (count + WARM), 1) if record[0] == 0][: count + WARM]
    async with arena(*servers) as where:
        await hops.prepare(where, all_contexts=True)
        folded_s: list[float] = []
        producer = Producer({"bootstrap.servers": where.kafka, "log_level": 0, "linger.ms": 0})
        with serving(where, transactional=transactional), EventReader(where) as reader:
            async with asyncio.timeout(_HANGING_S + len(records) / rate):
                sent_s = await send(producer, where, records[:WARM], rate)
                await watch_folded(where, folded_s, WARM)
                watching = asyncio.create_task(watch_folded(where, folded_s, len(records)))
                sent_s += await send(producer, where, records[WARM:], rate)
                await watching
                while len(reader.seen_s) < len(records):
                    await asyncio.sleep(0.01)
    return [
        [1e3 * (then - sent) for sent, then in zip(sent_s, times, strict=True)][WARM:]
        for times in (reader.seen_s, folded_s)
    ]


def flushes(folder: Path, count: int, rate: float) -> list[float]:
    """Return the milliseconds of `fdatasync` after one page each, so many a second, in a new file of the folder."""
    milliseconds = []
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for _ in track(range(count), "flushing", console=console, transient=True):
            file.write(_PAGE)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            milliseconds.append(1e3 * (time.perf_counter() - began))
            time.sleep(1 / rate)
    return milliseconds


async def disk_of(server_url: str) -> Path | None:
    """Return the nearest folder above a server's data that can be seen, None if nothing may be written there."""
    connection = await asyncpg.connect(server_url)
    try:
        data = Path(await connection.fetchval("show data_directory"))
    finally:
        await connection.close()
    folder = next(parent for parent in (data, *data.parents) if parent.exists())
    return folder if os.access(folder, os.W_OK) else None


def percentiles(milliseconds: Sequence[float]) -> tuple[float, float]:
    """Return p50 and p99."""
    hundredths = statistics.quantiles(milliseconds, n=100)
    return hundredths[49], hundredths[98]


async def _main(options: argparse.Namespace) -> None:
    stack = devstack.up()
    table = Table(
        "outbox",
        "until",
        "p50, ms",
        "p99, ms",
        title=f"{options.commands} commands, {options.rate:g} a second",
    )
    folder = await disk_of(stack.database_url)
    if folder is not None:
        p50, p99 = percentiles(flushes(folder, options.commands, options.rate))
        table.add_row("", f"a page is on the disk, in {folder}", f"{p50:.1f}", f"{p99:.1f}")
    for transactional in (True, False):
        found = await measured(
            (stack.database_url, stack.kafka_bootstrap),
            options.commands,
            options.rate,
            transactional=transactional,
        )
        for until, times in zip(("the event is readable", "it is folded"), found, strict=True):
            p50, p99 = percentiles(times)
            table.add_row("transactional" if transactional else "plain", until, f"{p50:.1f}", f"{p99:.1f}")
    console.print(table)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lone",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--commands", type=int, default=600, help="how many count (default %(default)s)")
    parser.add_argument("--rate", type=float, default=20.0, help="commands a second (default %(default)s)")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
