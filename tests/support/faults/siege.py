"""Writers who never stop while chunk after chunk is archived, and what an outsider finds of their rows in the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
import duckdb
import pytest

from tests.support.archive.site import Archive
from tests.support.engine.commands import Harness, base, create_lanes
from tests.support.waiting import eventually
from tidemill.archiver.copier import Copier, result_of
from tidemill.archiver.copy_plan import plan
from tidemill.archiver.read_pace import Pace
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalStatus
from tidemill.domain.archive.slices import ArchiveState
from tidemill.domain.errors import TransientError
from tidemill.domain.partitioner import partition_of
from tidemill.domain.stream import Stream
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.retention.grouping import Round
from tidemill.retention.slices import Slice
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.retention.chunk_reader import DatabaseChunks

FIRST_DAY = datetime(2010, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LATE_SHARE = 0.2
STRAY_SHARE = 0.02
"""Of plain SQL's rows so many are late: who writes behind every seal without end is never archived."""

LATE_DAYS = 3
PAUSE_S = 0.02
MAX_ROUNDS = 10
"""How often a round may be over without having been seen waiting for the stranger."""

STREAM = Stream.of(replace(market_data, partitions=2))

_INSERT = """
insert into public.market_data (time, symbol, price, source, command_id) values ($1, $2, $3, 'foreign', $4)
"""
_SYMBOLS = [f"S{number}" for number in range(40)]
_WORKER = "keeper"
_WAITS_FOR = """
select 1 from pg_stat_activity
where datname = current_database() and application_name = $1 and $2::int = any(pg_blocking_pids(pid))
"""


@dataclass
class Siege:
    """An archive whose table has a chunk per day, and what its writers were promised.

    `keeping`: the same archive, on connections that only the keeper has. `met`: by kind of cycle, how often one of them
    was seen waiting for the stranger; `turned_away`: how often he could not write at all, since the chunk was frozen.
    """

    world: Archive
    keeping: Archive
    random: Random
    day: int = 0
    acknowledged: list[str] = field(default_factory=list)
    late: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    turned_away: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    _answered: set[tuple[str, int]] = field(default_factory=set)
    _turns: Counter[str] = field(default_factory=Counter)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    # --- writers ---

    def time(self, late_share: float) -> datetime:
        """Return a time of the day that is written, or with that probability one of the days before."""
        late = self.random.random() < late_share and self.day > 0
        self.late += late
        day = self.day - self.random.randint(1, min(LATE_DAYS, self.day)) if late else self.day
        return self.at(day, self.random.random() * 0.999)

    def at(self, day: int, share: float = 0.5) -> datetime:
        """Return a time of that day."""
        return FIRST_DAY + DAY * (day + share)

    async def engine(self, harness: Harness, name: str) -> None:
        """Write batches as `serve commands` does; a batch that could not be written is written again."""
        while not self._over.is_set():
            self._turns[name] += 1
            commands = [self._command(harness, number) for number in range(self.random.randint(1, 25))]
            records = [harness.topic.record(each) for each in commands]
            await eventually(partial(self._applied, harness, records), what="a batch")
            self.acknowledged += [each.command_id for each in commands]
            await self._pause()

    def _command(self, harness: Harness, number: int) -> RecordMarketData:
        partition = next(iter(harness.claims.values())).lane.partition
        ours = [name for name in _SYMBOLS if partition_of(name.encode(), STREAM.partitions) == partition]
        symbol = ours[number % len(ours)]
        facts: dict[str, Any] = {
            "symbol": symbol,
            "time": self.time(LATE_SHARE),
            "price": number / 7,
            "source": "engine",
        }
        return RecordMarketData(**base(**facts))

    async def _applied(self, harness: Harness, records: Sequence[Any]) -> bool:
        try:
            await harness.apply(*records)
        except TransientError as error:
            self.refused[type(error).__name__] += 1
            return False
        return True

    async def foreign(self, name: str) -> None:
        """Write rows by plain SQL, knowing nothing of the archive; what fails was promised to nobody."""
        connection = await asyncpg.connect(self.world.database)
        try:
            while not self._over.is_set():
                self._turns[name] += 1
                await self.insert(connection, self.time(STRAY_SHARE))
                await self._pause()
        finally:
            await connection.close()

    async def insert(self, connection: Any, time: datetime) -> None:
        """Insert one row; it counts when the server has said so."""
        command_id = str(uuid4())
        try:
            await connection.execute(_INSERT, time, "FOREIGN", 1.5, command_id)
        except asyncpg.PostgresError as error:
            self.refused[type(error).__name__] += 1
        else:
            self.acknowledged.append(command_id)

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), PAUSE_S)

    async def next_day(self) -> None:
        """Write to the next day, and return when nobody writes to this one as to the present any more."""
        self.day += 1
        await self.written()

    async def written(self) -> None:
        """Return when every writer has begun two turns from now: the first of them is done."""
        before = dict(self._turns)
        await eventually(
            lambda: all(self._turns[name] > count + 1 for name, count in before.items()), what="all writers"
        )

    # --- the archive ---

    async def round(self) -> Round:
        """Do what is due once, for ages that are counted to the end of yesterday; then what an archiver does."""
        as_of = self.at(self.day, 0) + self.world.policy.after
        archive_worker = self.keeping.archive_worker
        archive_worker._as_of = as_of
        done = await archive_worker.round()
        self.rounds += 1
        for trouble in done.problems:
            self.problems[_kind(trouble)] += 1
        return done

    async def answer(self) -> None:
        """Copy and confirm every request that was not answered yet."""
        for event in await self.world.requests():
            if (event.event_id, event.attempt) in self._answered:
                continue
            self._answered.add((event.event_id, event.attempt))
            copier = Copier(DatabaseChunks(self.world.database), LakeWriter(str(self.world.lake)))
            carried = await asyncio.to_thread(copier.carry_out, plan(event), Pace(None))
            failed = carried.place is None
            await self.world.confirm(
                ArchivalConfirmation(
                    event_id=event.event_id,
                    status=ArchivalStatus.FAILED if failed else ArchivalStatus.COMPLETED,
                    completed_at=self.world.clock.now(),
                    chunks=tuple(result_of(each) for each in carried.chunks),
                    lakehouse_path=None if carried.place is None else carried.place.path,
                    error_message=carried.failure.reason if carried.failure else None,
                    attempt=event.attempt,
                )
            )

    async def of_day(self, day: int) -> Slice | None:
        """Return the first generation of a day."""
        slices = await self.world.slices()
        return next((each for each in slices if each.id.start == self.at(day, 0)), None)

    async def until(self, state: ArchiveState, day: int, *, most: int = 40) -> None:
        """Go round until a day is in a state."""
        for _ in range(most):
            await self.round()
            await self.answer()
            await self.world.let_pass(timedelta(minutes=2))  # what failed is tried again at once
            found = await self.of_day(day)
            if found is not None and found.state is state:
                return
        raise AssertionError(f"day {day} is not {state} after {most} rounds: {await self.of_day(day)}")

    async def settle(self, *, most: int = 100) -> None:
        """Go round until every slice has left."""
        for _ in range(most):
            moved = (await self.round()).moved
            await self.answer()
            await self.world.let_pass(timedelta(minutes=2))
            if not moved and set(await self.world.states()) <= {ArchiveState.DROPPED}:
                return
        raise AssertionError(f"the siege never settles: {Counter(await self.world.states())}")

    # --- one cycle each ---

    @asynccontextmanager
    async def holding(self, day: int) -> AsyncIterator[tuple[int, Callable[[], Awaitable[None]]]]:
        """Open a stranger's transaction with a row of that day; return his backend, and what commits."""
        connection = await asyncpg.connect(self.world.database)
        command_id = str(uuid4())
        transaction = connection.transaction()

        async def commit() -> None:
            await transaction.commit()
            self.acknowledged.append(command_id)

        try:
            await transaction.start()
            await connection.execute(_INSERT, self.at(day), "HOLDER", 2.5, command_id)
            yield connection.get_server_pid(), commit
        finally:
            await connection.close()

    async def meets(self, kind: str, day: int, *, within: bool) -> None:
        """Have a round meet a stranger's open transaction, which commits while the round waits or behind it.

        Where the chunk is frozen he is turned away instead.
        """
        sealed = await self.of_day(day)
        if sealed is not None and sealed.chunk in await self.world.frozen():
            with pytest.raises(asyncpg.FeatureNotSupportedError, match="frozen chunk"):
                async with self.holding(day):
                    pass
            self.turned_away[kind] += 1
            return
        async with self.holding(day) as (external_writer, commit):
            going = await self._meeting(kind, external_writer)
            if not within:
                done = await going
                assert done.problems, "a round went through an open transaction"
            await commit()
            await going

    async def _meeting(self, kind: str, external_writer: int) -> asyncio.Task[Round]:
        """Go round until a round is seen waiting for the stranger, and return it; or the last one that was tried.

        A round may be done before anybody has looked, where the machine is busy.
        """
        going = asyncio.create_task(self.round())
        for _ in range(MAX_ROUNDS):
            if await self._waits_for(external_writer, going):
                self.met[kind] += 1
                break
            await going
            going = asyncio.create_task(self.round())
        return going

    async def _waits_for(self, external_writer: int, going: asyncio.Task[Round]) -> bool:
        """Return whether a backend of the keeper's is seen waiting for the stranger's before the round is over."""
        waiting = partial(self.world.pool.fetch, _WAITS_FOR, _WORKER, external_writer)

        async def end() -> str | None:
            return "seen" if await waiting() else "over" if going.done() else None

        return await eventually(end, what="the archive to wait") == "seen"


@asynccontextmanager
async def siege(world: Archive, *, seed: int) -> AsyncIterator[Siege]:
    """Return a siege whose writers write until the block ends."""
    async with world.pool.acquire() as connection:
        await connection.execute("select set_chunk_time_interval('public.market_data', interval '1 day')")
        await create_lanes(connection, STREAM)
    pool = await create_pool(world.database, application_name=_WORKER, size=4)
    made = Siege(world, replace(world, pool=pool), Random(seed))
    harnesses = [Harness(STREAM, CommandDatabase(world.pool)) for _ in range(STREAM.partitions)]
    for partition, harness in enumerate(harnesses):
        await harness.claim([partition])
    try:
        async with asyncio.TaskGroup() as writers:
            for number, harness in enumerate(harnesses):
                made._turns[f"engine {number}"] = 0
                writers.create_task(made.engine(harness, f"engine {number}"))
            for number in range(2):
                made._turns[f"foreign {number}"] = 0
                writers.create_task(made.foreign(f"foreign {number}"))
            await made.written()  # also to the first day: else its chunk would be the stranger's alone
            try:
                yield made
            finally:
                made._over.set()
    finally:
        made.keeping = world  # nobody is in its way any more
        await close_pool(pool)


def _kind(trouble: str) -> str:
    return trouble.partition(": ")[2].partition(":")[0][:60]


# --- the outsider ---


@dataclass(frozen=True)
class Account:
    """Where the rows are: command_id -> how many."""

    hot: Counter[str]
    cold: Counter[str]
    late: Counter[str]

    @property
    def total(self) -> Counter[str]:
        return self.hot + self.cold + self.late


async def account(database: str, lake: Path) -> Account:
    """Count every row by SQL and by DuckDB: this knows none of our code."""
    connection = await asyncpg.connect(database)
    try:
        hot = await connection.fetch("select command_id::text from public.market_data")
        late = await connection.fetch("select command_id::text from tm_late.public__market_data")
    finally:
        await connection.close()
    cold = await asyncio.to_thread(_in_the_lake, lake)
    return Account(*(Counter(row[0] for row in rows) for rows in (hot, cold, late)))


def _in_the_lake(lake: Path) -> list[tuple[str]]:
    files = [str(path) for path in lake.rglob("*.parquet")]
    with duckdb.connect() as reading:
        return reading.read_parquet(files).select("command_id::text").fetchall() if files else []
