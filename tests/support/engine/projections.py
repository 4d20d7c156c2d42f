"""A small stream with two projections, for tests of the engine: stocks of goods, and their movements by day.

`stocks` uses what a projection may do: new objects or changed ones, rows that go, events that it ignores, a jsonb
column. `days` has a key of two columns, and rows that several lanes share.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Self

from sqlalchemy import BigInteger, Column, Date, DateTime, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from tests.fakes.events import START, MemoryCodec, MemoryEvents, MemoryTopic
from tests.support.servers.databases import execute
from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.lane import StreamTopics
from tidemill.domain.messages import EventBase, ReadModelBase
from tidemill.domain.projection import Projection, Recorded
from tidemill.domain.stream import Stream
from tidemill.projections.ports import EventRecord, FoldHalt, ViewStore
from tidemill.projections.projector import Projector
from tidemill.projections.status import ProjectionStatus
from tidemill.runtime.clock import SystemClock


class GoodsEvent(EventBase):
    """What every event of the stream says."""

    command_id: str = "c"
    service_name: str = "s"
    timestamp: datetime = START
    good: str


class Stored(GoodsEvent):
    amount: int = 1


class Counted(GoodsEvent):
    """Nobody folds it."""


class Cleared(GoodsEvent):
    pass


class Cursed(GoodsEvent):
    """The fold of `stocks` fails on it."""


@dataclass(slots=True, kw_only=True)
class Stock(ReadModelBase):
    good: str
    amount: int
    labels: str


@dataclass(slots=True, kw_only=True)
class Day(ReadModelBase):
    good: str
    day: date
    amount: int


def store(row: Stock | None, told: Recorded[Stored]) -> Stock:
    if row is None:
        labels = json.dumps({"first": told.sequence})
        return Stock(good=told.event.good, amount=told.event.amount, labels=labels)
    return replace(row, amount=row.amount + told.event.amount)


def clear(row: Stock | None, told: Recorded[Cleared]) -> None:
    return None


def curse(row: Stock | None, told: Recorded[Cursed]) -> Stock:
    raise ZeroDivisionError("cursed")


def note(row: Day | None, told: Recorded[Stored]) -> Day:
    if row is None:
        return Day(good=told.event.good, day=told.event.timestamp.date(), amount=told.event.amount)
    row.amount += told.event.amount
    return row


metadata = MetaData(schema="public")


def read_model(name: str, *columns: Column[Any]) -> Table:
    base = (
        Column("id", BigInteger, nullable=False),
        Column("uuid", Uuid, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("updated_at", DateTime(timezone=True), nullable=False),
        Column("version", BigInteger, nullable=False),
    )
    return Table(name, metadata, *columns, *base)


STOCKS = read_model(
    "stocks",
    Column("good", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("labels", JSONB, nullable=False),
)
DAYS = read_model(
    "days",
    Column("good", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)

DDL = (
    """create table stocks (
       good text primary key, amount bigint not null check (amount < 1000000), labels jsonb not null,
       id bigint not null, uuid uuid not null, created_at timestamptz not null, updated_at timestamptz not null,
       version bigint not null) with (fillfactor = 70)""",
    "create index stocks_by_label on stocks using gin (labels)",
    "create unique index stocks_id on stocks (id)",
    "comment on table stocks is 'what is in store'",
    "grant select on stocks to tidemill_reader",
    "grant select, insert, update, delete on stocks to tidemill_service",
    """create table days (good text, day date, amount bigint not null, id bigint not null, uuid uuid not null,
       created_at timestamptz not null, updated_at timestamptz not null, version bigint not null,
       primary key (good, day))""",
)

stocks = Projection(
    name="stocks",
    row=Stock,
    table=STOCKS,
    key=lambda event: (event.good,),
    folds={Stored: store, Cleared: clear, Cursed: curse},
)
days = Projection(
    name="days",
    row=Day,
    table=DAYS,
    key=lambda event: (event.good, event.timestamp.date()),
    folds={Stored: note},
)


def create_tables(url: str) -> None:
    """Make the tables of both projections in a database that is migrated."""
    execute(url, *DDL)


EVENTS = (Stored, Counted, Cleared, Cursed)


def goods(partitions: int = 2) -> Stream:
    """The stream, as an engine sees it that folds its events."""
    return Stream(
        aggregate="goods",
        partitions=partitions,
        topics=StreamTopics.of("goods"),
        commands={},
        events={event.__name__: event for event in EVENTS},
        key=lambda command: str(command.good),
    )


def told(event: GoodsEvent, sequence: int, *, lane_id: int = 0, at: datetime | None = None) -> Recorded[Any]:
    """An event as a fold gets it."""
    return Recorded(event, at or START + timedelta(seconds=sequence), lane_id, sequence)


class Running:
    """A projector run as a task."""

    def __init__(self, projector: Projector) -> None:
        self.projector = projector
        self.stopping = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.projector.run(self.stopping))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """As SIGTERM does."""
        self.stopping.set()
        if self.task is not None:
            await asyncio.wait_for(self.task, HANGING_S)

    def status(self, name: str = "stocks") -> ProjectionStatus:
        return next(each for each in self.projector.status().projections if each.name == name)

    def sequences(self, name: str = "stocks") -> Mapping[int, int]:
        return {lane.partition: lane.sequence for lane in self.status(name).lanes}

    async def reaches(
        self, expected: Mapping[int, int], name: str = "stocks", timeout_s: float = HANGING_S
    ) -> None:
        """Wait until the projection stands at these sequences."""
        await self.until(
            lambda: all(self.sequences(name).get(at) == sequence for at, sequence in expected.items()),
            f"{name} at {expected}",
            timeout_s,
        )

    async def halts(self, code: str, partition: int = 0, name: str = "stocks") -> str:
        """Wait until a lane stands still for this reason; return the detail."""

        def found() -> FoldHalt | None:
            halts = {lane.partition: lane.halt for lane in self.status(name).lanes}
            halt = halts.get(partition)
            return halt if halt is not None and halt.code == code else None

        try:
            await self.until(found, f"{name} halted with {code}")
        except AssertionError as error:
            error.add_note(str(self.status(name)))
            raise
        halt = found()
        assert halt is not None
        return halt.detail

    async def until(self, check: Callable[[], Any], what: str, timeout_s: float = HANGING_S) -> None:
        """Wait for a condition; a projector that has ended with an error raises it here."""

        def checked() -> Any:
            if self.task is not None and self.task.done():
                self.task.result()
            return check()

        await eventually(checked, timeout_s, what)


class Bench(Running):
    """A projector on a topic in memory."""

    def __init__(
        self,
        views: ViewStore,
        projections: Sequence[Projection] = (stocks,),
        *,
        partitions: int = 2,
        topic: MemoryTopic | None = None,
        codec: MemoryCodec | None = None,
        max_events: int = 10_000,
    ) -> None:
        self.stream = goods(partitions)
        self.topic = topic or MemoryTopic()
        self.codec = codec or MemoryCodec(*EVENTS)
        self.source = MemoryEvents(self.topic, partitions=partitions)
        projector = Projector(
            self.stream,
            projections,
            source=self.source,
            codec=self.codec,
            store=views,
            clock=SystemClock(),
            max_events=max_events,
        )
        super().__init__(projector)

    def store(self, partition: int, *sequences: int, good: str = "tea", amount: int = 1) -> list[EventRecord]:
        """Append one `Stored` for each sequence."""
        event = Stored(good=good, amount=amount)
        return [self.topic.append(partition, sequence, event) for sequence in sequences]
