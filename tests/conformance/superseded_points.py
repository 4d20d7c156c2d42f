"""Series of each kind of axis on a `CommandStore`, and what a test of their superseded points does by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.codecs import JsonCodec
from tests.fakes.commands import MemoryCommandStore
from tests.fakes.followers import MemoryFollower
from tests.support.engine.commands import Harness, base, outcomes
from tidemill.commands.expiry import ExpirySweeper, FlowingLanes
from tidemill.commands.handlers import handlers_of
from tidemill.commands.internal_commands import InternalCommandWriter
from tidemill.commands.ports import ClosedRange, CommandStore
from tidemill.commands.superseded import SERVICE, SupersededSweeper
from tidemill.commands.superseded_ports import SupersededFacts
from tidemill.contexts.time_series import context, messages, time_series
from tidemill.domain.context import DecideSpec
from tidemill.domain.messages import CommandBase
from tidemill.domain.read_view import CurrentFacts
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock

STREAM = Stream.of(replace(context, partitions=2))
OWNER = time_series.state
TIMES, NUMBERS = context.current
OLD, YEAR = datetime(2010, 1, 5, tzinfo=UTC), timedelta(days=365)


def about(model: type[CommandBase], series: str, **fields: Any) -> CommandBase:
    return model.model_validate(base(time_series_id=series, **fields))


@dataclass(frozen=True)
class Axis:
    """A kind of axis: the facts of its series, and the commands that write them."""

    kind: str
    facts: CurrentFacts
    models: tuple[type[CommandBase], ...]
    """That append, save and fill."""
    positions: Callable[[int], dict[str, Any]]

    def create(self, series: str) -> CommandBase:
        values = {"time_column": "depth", "value_columns": '["open"]', "axis": self.kind}
        return about(time_series.messages.create, series, **values)

    def _points(self, model: type[CommandBase], series: str, size: int, **fields: Any) -> CommandBase:
        lists = {"column_names": ["open"], "columns": [0] * size, "values": [1.0] * size}
        return about(model, series, **lists | self.positions(size) | fields)

    def append(self, series: str, size: int, **fields: Any) -> CommandBase:
        return self._points(self.models[0], series, size, **fields)

    def save(self, series: str, size: int, **fields: Any) -> CommandBase:
        return self._points(self.models[1], series, size, **fields)

    def fill(self, series: str, size: int, name: str = "mine") -> CommandBase:
        return self._points(self.models[2], series, size, save=name)


BY_NUMBER = Axis(
    "float64",
    NUMBERS,
    (messages.AppendNumericPoints, messages.SaveNumericPoints, messages.FillNumericSave),
    lambda size: {"floats": [0.5] * size},
)
BY_TIME = Axis(
    "datetime",
    TIMES,
    (messages.AppendTimeSeriesPoints, messages.SaveTimeSeriesPoints, messages.FillTimeSeriesSave),
    lambda size: {"times": [OLD] * size},
)


CLOSE = """
insert into tm.archive (table_name, range_start, range_end, generation, state, closed, since, source, chunk, size_bytes,
                        columns, seal, attempt, superseded)
values ($1, $2, $3, 1, 'sealed', true, now(), 'chunk', 'a chunk', 0, '[]', 1, 0, '{}')
"""


def opened(series: str, name: str = "mine") -> CommandBase:
    return about(messages.OpenTimeSeriesSave, series, save=name)


def abandoned(series: str) -> CommandBase:
    return about(messages.AbandonTimeSeriesSave, series, save="mine")


def completed(series: str, size: int) -> CommandBase:
    return about(messages.CompleteTimeSeriesSave, series, save="mine", points=size)


@dataclass
class Subject:
    """A store with a stream of series, and what a test does by hand."""

    store: CommandStore
    axis: Axis
    pool: Any = None

    def __post_init__(self) -> None:
        self.series = Harness(STREAM, self.store)
        self.followed = MemoryFollower()
        self.lanes = FlowingLanes(self.followed)

    @property
    def table(self) -> str:
        return self.axis.facts.table.name

    @property
    def name(self) -> str:
        """Return what the log calls a removal."""
        return next(name for name, facts in STREAM.removals.items() if facts is self.axis.facts)

    async def own(self, *partitions: int) -> None:
        """Claim lanes and let them flow."""
        claims = await self.series.claim(partitions)
        await self.lanes.take(claims)
        self.lanes.begun([claim.lane.id for claim in claims])

    async def send(self, *commands: CommandBase) -> None:
        assert outcomes(await self.series.send(*commands)) == {"applied": len(commands)}

    def sweeper(self, store: CommandStore | None = None) -> SupersededSweeper:
        writer = InternalCommandWriter(self.store, SystemClock())
        return SupersededSweeper(
            STREAM, store=store or self.store, writer=writer, lanes=self.lanes, every_s=60.0
        )

    async def rest(self, key: str) -> None:
        """Let the open save of a series have rested too long, as if the time had passed."""
        if isinstance(self.store, MemoryCommandStore):
            held = self.store.tables.states[OWNER.name]
            held[key] = replace(held[key], open_expires_at=datetime(2026, 1, 1, tzinfo=UTC))
        else:
            statement = "update time_series_metadata set open_expires_at = '2026-01-01' where id = $1"
            await self.pool.execute(statement, key)

    async def close(self, start: datetime) -> None:
        """Close the chunk that has an instant, as the archive does when it seals it."""
        parts = await self.store.removable_parts(TIMES.table)
        (part,) = [part for part in parts if part.start and part.end and part.start <= start < part.end]
        assert part.start is not None
        assert part.end is not None
        if isinstance(self.store, MemoryCommandStore):
            self.store.closed.append(ClosedRange(part.start, part.end))
        else:
            await self.pool.execute(CLOSE, f"public.{self.table}", part.start, part.end)

    async def open(self) -> None:
        """Open what was closed."""
        if isinstance(self.store, MemoryCommandStore):
            self.store.closed.clear()
        else:
            await self.pool.execute("update tm.archive set state = 'aborted', closed = false")

    def lapses(self) -> ExpirySweeper:
        """Return what gives up saves that rest."""
        handler = handlers_of(STREAM, JsonCodec(STREAM), 1_000_000)[DecideSpec]
        writer = InternalCommandWriter(self.store, SystemClock())
        return ExpirySweeper(
            STREAM, store=self.store, handler=handler, writer=writer, lanes=self.lanes, every_s=60.0
        )

    async def rows(self) -> dict[tuple[str, int], int]:
        """Return how many rows there are of each series and revision."""
        if isinstance(self.store, MemoryCommandStore):
            facts = self.axis.facts
            names = [column.name for column in facts.table.columns]
            at = names.index(facts.owner), names.index(facts.revision)
            appended = self.store.tables.appended.get(self.table, [])
            rows = [(row[at[0]], row[at[1]]) for row in appended]
        else:
            asked = f"select time_series_id, revision from {self.table}"
            rows = [tuple(row) for row in await self.pool.fetch(asked)]
        return {place: rows.count(place) for place in rows}

    async def has_superseded(self, after: str = "", limit: int = 10) -> list[tuple[str, bool]]:
        """Ask for the next owners, in the one part of the table."""
        (part,) = await self.store.removable_parts(self.axis.facts.table)
        listed = await self.store.owners_of_superseded(
            SupersededFacts(self.axis.facts, OWNER, part), after, limit
        )
        return [(each.key, each.has_superseded) for each in listed]

    async def removals(self) -> list[tuple[Any, ...]]:
        """Return outcome, events and rows of what the log has of removals."""
        if isinstance(self.store, MemoryCommandStore):
            rows: list[Any] = [row for row in self.store.tables.log[1] if row.service == SERVICE]
            assert {row.type for row in rows} <= {self.name}
            return [(row.outcome, row.events, row.rows) for row in rows]
        logged = "select * from tm.log where service = $1 and type = $2 order by lane, position"
        found = await self.pool.fetch(logged, SERVICE, self.name)
        return [(row["outcome"], row["events"], row["rows"]) for row in found]


class Meanwhile:
    """A store whose answer is out of date: after a page of some facts was listed, something else happens first."""

    def __init__(self, subject: Subject, act: Callable[[], Awaitable[None]]) -> None:
        self._store = subject.store
        self._facts = subject.axis.facts
        self._act = act

    async def removable_parts(self, table: Any) -> Any:
        return await self._store.removable_parts(table)

    async def owners_of_superseded(self, facts: SupersededFacts, after: str, limit: int) -> Any:
        listed = await self._store.owners_of_superseded(facts, after, limit)
        if listed and facts.facts is self._facts:
            await self._act()
        return listed
