"""Time series on the real database: exact to the bit, one revision at a time, archived and brought back."""

from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.followers import MemoryFollower
from tests.integration.commands.test_many_rows import audited
from tests.support.archive.site import Archive, archive
from tests.support.engine.built_in import FULL
from tests.support.engine.commands import Harness, base, codes, create_lanes, outcomes
from tests.support.engine.streams import messages_of
from tidemill.admin.archive.restore import Restorer
from tidemill.api import CommandBase, Context, LateRule, Retention
from tidemill.commands.expiry import FlowingLanes
from tidemill.commands.internal_commands import InternalCommandWriter
from tidemill.commands.superseded import SupersededSweeper
from tidemill.contexts.time_series import context as built_in
from tidemill.contexts.time_series import messages, time_series
from tidemill.domain.lane import Claim
from tidemill.domain.stream import Stream
from tidemill.lakehouse.copy_reader import LakeCopies
from tidemill.lakehouse.reader import LakeReader
from tidemill.retention.restore_plan import ranges_back
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.retention.restore_work import RestoreDatabase
from tidemill.transport.avro.codec import StreamCodec

DAY_US = 86_400 * 10**6
FRAMES = 2_000 if FULL else 50
FIRST = datetime(1900, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2010, 1, 5, tzinfo=UTC)
MINUTE, MONTH = timedelta(minutes=1), timedelta(days=30)
EDGES = [-0.0, 0.0, 1e300, -1e300, 5e-324, float("inf"), float("-inf"), float(2**53)]
SHOWN = "select * from public.time_series_data_points_view order by timestamp, number"


def context_of(late: LateRule = LateRule.DIVERT) -> Context:
    return replace(built_in, partitions=1, retention=policy(late))


def policy(late: LateRule = LateRule.DIVERT) -> Retention:
    """Return the policy of a deployment whose points leave."""
    assert built_in.retention is not None
    quick = {"enabled": True, "quiet": timedelta(0), "again_after": timedelta(0)}
    return replace(built_in.retention, late=late, **quick)  # type: ignore[arg-type]  # fields of three types


def create(series: str = "s", axis: str = "datetime") -> CommandBase:
    values = {"time_column": "date", "value_columns": '["open", "close"]', "axis": axis}
    return time_series.messages.create.model_validate(base(time_series_id=series, **values))


def points(model: type[CommandBase], *times: datetime, value: float = 1.5, **fields: Any) -> CommandBase:
    lists: dict[str, Any] = {
        "column_names": ["open"],
        "columns": [0] * len(times),
        "values": [value] * len(times),
    }
    return model.model_validate(base(time_series_id="s", times=times, **lists, **fields))


def append(*times: datetime, **fields: Any) -> CommandBase:
    return points(messages.AppendTimeSeriesPoints, *times, **fields)


def save(*times: datetime, **fields: Any) -> CommandBase:
    return points(messages.SaveTimeSeriesPoints, *times, **fields)


def about(model: type[CommandBase], **fields: Any) -> CommandBase:
    return model.model_validate(base(time_series_id="s", **fields))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, application_name="tidemill-tests", size=4)
    async with made.acquire() as connection:
        await create_lanes(connection, Stream.of(context_of()))
    yield made
    await close_pool(made)


async def claimed(pool: Pool, late: LateRule = LateRule.DIVERT) -> Harness:
    """Return the way in, by the schemas that are published."""
    stream = Stream.of(context_of(late))
    codec = await StreamCodec.open(stream, messages_of("time_series"), clock=SystemClock())
    harness = Harness(stream, CommandDatabase(pool), codec=codec)
    await harness.claim()
    return harness


async def send(harness: Harness, *commands: CommandBase) -> Any:
    """Apply commands as they come over the wire."""
    codec: Any = harness.validator.codec
    records = [
        harness.topic.record(command, value=await codec.encode_command(command)) for command in commands
    ]
    return await harness.apply(*records)


def bits(value: Any) -> Any:
    return struct.pack(">d", value) if isinstance(value, float) else value


# --- exact ---


def number(source: random.Random) -> float:
    """Return an edge, or any 64 bits that are not a NaN."""
    drawn = float(struct.unpack(">d", source.randbytes(8))[0])
    return source.choice([*EDGES, drawn]) if drawn == drawn else -0.0  # noqa: PLR0124  only NaN differs from itself


def whole(source: random.Random) -> int:
    return source.choice([2**53 + 1, -(2**63), 2**63 - 1, 0, source.getrandbits(64) - 2**63])


def time(source: random.Random) -> datetime:
    return FIRST + timedelta(microseconds=source.randrange(200 * 365 * DAY_US))


AXES: dict[str, tuple[type[CommandBase], str, Callable[[random.Random], Any], str, str]] = {
    "datetime": (messages.AppendTimeSeriesPoints, "times", time, "data_points", "timestamp"),
    "float64": (messages.AppendNumericPoints, "floats", number, "numeric_points", "float_position"),
    "int64": (messages.AppendNumericPoints, "integers", whole, "numeric_points", "integer_position"),
}


@pytest.mark.parametrize("axis", AXES)
async def test_points_come_back_equal_in_bits_types_and_order(pool: Pool, axis: str, seed: int) -> None:
    """Null is a point with NaN; where there is no point there is no row."""
    model, field, position, table, column = AXES[axis]
    source, harness = random.Random(f"{seed} {axis}"), await claimed(pool)
    frames: list[list[tuple[Any, float | None]]] = [
        [(position(source), source.choice([None, number(source)])) for _ in range(source.randint(1, 8))]
        for _ in range(FRAMES)
    ]
    commands = [create(str(place), axis) for place in range(FRAMES)]
    for place, frame in enumerate(frames):
        lists: dict[str, Any] = {field: [at for at, _ in frame], "values": [held for _, held in frame]}
        own: dict[str, Any] = {
            "time_series_id": str(place),
            "column_names": ["open"],
            "columns": [0] * len(frame),
        }
        commands.append(model.model_validate(base(**own, **lists)))
    assert outcomes(await send(harness, *commands)) == {"applied": len(commands)}
    for place, frame in enumerate(frames):
        query = (
            f"select {column}, value from public.time_series_{table}_view "
            f"where time_series_id = $1 order by {column}, number"
        )
        rows = [tuple(row) for row in await pool.fetch(query, str(place))]
        in_order = sorted(frame, key=lambda point: point[0])
        assert [tuple(map(bits, row)) for row in rows] == [tuple(map(bits, point)) for point in in_order]
        assert {type(at) for at, _ in rows} == {type(at) for at, _ in frame}


async def test_the_event_of_points_has_their_bits(pool: Pool) -> None:
    """Equal numbers are not equal bytes: -0.0 equals 0.0."""
    harness = await claimed(pool)
    lists: dict[str, Any] = {"column_names": ["open"], "columns": [0] * 3, "values": [-0.0, None, 0.0]}
    command = messages.AppendNumericPoints.model_validate(
        base(time_series_id="s", floats=[-0.0, 0.0, -0.0], **lists)
    )
    await send(harness, create(axis="float64"), command)
    payload = await pool.fetchval(
        "select payload from tm.outbox where event_type like '%NumericPointsAppended'"
    )
    codec: Any = harness.validator.codec
    sent = await codec.encode_command(command)
    assert payload[10:] == sent[10:]


async def test_one_answer_names_the_faulty_points_of_every_list(pool: Pool) -> None:
    harness = await claimed(pool)
    early = datetime(1899, 12, 31, tzinfo=UTC)
    lists: dict[str, Any] = {
        "columns": [0, *[5] * 46],
        "values": [1.0, *[float("nan")] * 46],
        "times": [*[early] * 46, FIRST],
    }
    wrong = base(time_series_id="s", column_names=["open"], **lists)
    done = await send(harness, create(), messages.AppendTimeSeriesPoints.model_construct(**wrong))
    assert codes(done) == [None, "INVALID"]
    detail = await pool.fetchval("select detail from tm.log where code = 'INVALID'")
    columns, values, times = detail.split("; ")
    assert columns.startswith("columns.1 is 5, columns.2 is 5, ")
    assert columns.endswith("columns.10 is 5 and 36 more, but column_names has 1: places begin with 0")
    assert values.endswith("values.10 and 36 more are NaN: send null, or leave the number out")
    assert times.endswith("times.9 1899-12-31T00:00:00+00:00 and 36 more are not in 1900-01-01 to 2100-01-01")


# --- one revision at a time ---


async def test_readers_see_the_current_revision_alone(pool: Pool) -> None:
    harness = await claimed(pool)
    await send(harness, create(), append(LONG_AGO, LONG_AGO + MINUTE), save(LONG_AGO, value=2.0))
    await send(harness, about(messages.OpenTimeSeriesSave, save="mine"))
    await send(
        harness,
        points(messages.FillTimeSeriesSave, LONG_AGO + MINUTE, value=3.0, save="mine"),
        append(LONG_AGO, value=4.0),
    )
    assert [row["value"] for row in await pool.fetch(SHOWN)] == [2.0, 4.0], "a save shows at its end"
    await send(harness, about(messages.CompleteTimeSeriesSave, save="mine", points=1))
    assert [(row["value"], row["revision"]) for row in await pool.fetch(SHOWN)] == [(3.0, 2)]
    assert await pool.fetchval("select count(*) from public.time_series_data_points") == 5
    result = await audited(pool, context_of())
    assert result.findings == [], "no row is deleted, so that each is accounted for"
    await send(harness, about(time_series.messages.delete))
    assert await pool.fetch(SHOWN) == []


def numeric(model: type[CommandBase], size: int, **fields: Any) -> CommandBase:
    lists: dict[str, Any] = {"column_names": ["open"], "columns": [0] * size, "values": [1.0] * size}
    return about(model, floats=[-0.0] * size, **lists, **fields)


async def test_superseded_points_on_a_numeric_axis_leave_and_all_rows_balance(pool: Pool) -> None:
    harness = await claimed(pool)
    await send(harness, create(axis="float64"), numeric(messages.SaveNumericPoints, 3))
    await send(harness, numeric(messages.SaveNumericPoints, 2), numeric(messages.AppendNumericPoints, 1))
    shown = "select * from public.time_series_numeric_points_view order by number"
    before = await pool.fetch(shown)
    async with pool.acquire() as reader, reader.transaction(isolation="repeatable_read"):
        seen = await reader.fetch("select revision from public.time_series_numeric_points order by 1")
        await sweep(pool, harness)
        again = await reader.fetch("select revision from public.time_series_numeric_points order by 1")
        assert seen == again, "a reader in the middle of a transaction keeps what it saw"
    assert await pool.fetch(shown) == before
    assert await pool.fetchval("select count(*) from public.time_series_numeric_points") == 3
    assert await balance_of_numeric(pool) == (6, 3, 3, [])
    await pool.execute("delete from public.time_series_numeric_points where number = 0")
    assert await balance_of_numeric(pool) == (6, 2, 3, ["rows"]), "what leaves otherwise is found"


async def sweep(pool: Pool, harness: Harness) -> None:
    """Remove what is superseded, as the owner of the lane does."""
    store, lanes = CommandDatabase(pool), FlowingLanes(MemoryFollower())
    claims = await harness.claim()
    await lanes.take(claims)
    lanes.begun([claim.lane.id for claim in claims])
    writer, stream = InternalCommandWriter(store, SystemClock()), Stream.of(context_of())
    await SupersededSweeper(stream, store=store, writer=writer, lanes=lanes, every_s=60.0).look()


async def balance_of_numeric(pool: Pool) -> tuple[int | None, int, int, list[str]]:
    """Return how many points were applied, are in the table and were removed, and the hops that do not balance."""
    result = await audited(pool, context_of())
    (table,) = [table for table in result.tables if "numeric_points" in table.table]
    return table.applied, table.hot, table.removed, [finding.hop for finding in result.findings]


async def test_a_save_that_was_given_up_never_shows(pool: Pool) -> None:
    harness = await claimed(pool)
    opened = about(messages.OpenTimeSeriesSave, save="mine")
    filled = points(messages.FillTimeSeriesSave, LONG_AGO, value=2.0, save="mine")
    await send(harness, create(), append(LONG_AGO), opened, filled)
    await pool.execute("update time_series_metadata set open_expires_at = now() - interval '1 second'")
    done = await send(
        harness,
        points(messages.FillTimeSeriesSave, LONG_AGO, save="mine"),
        about(messages.CompleteTimeSeriesSave, save="mine", points=1),
        about(messages.OpenTimeSeriesSave, save="other"),
        about(messages.CompleteTimeSeriesSave, save="other", points=0),
    )
    assert codes(done) == ["NO_SAVE", "NO_SAVE", None, None]
    assert await pool.fetch(SHOWN) == []


# --- the archive ---


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Archive]:
    async with archive(database, tmp_path / "lake", policy()) as made:
        async with made.pool.acquire() as connection:
            await create_lanes(connection, Stream.of(context_of()))
        yield made


async def places(world: Archive) -> tuple[int | None, int, int, int]:
    """Return how many points were applied, and how many are hot, archived and diverted."""
    result = await audited(world.pool, context_of())
    assert result.findings == []
    (table,) = [table for table in result.tables if "data_points" in table.table]
    return table.applied, table.hot, table.archived, table.diverted


async def test_points_leave_and_come_back_and_the_series_counts_the_current_ones(world: Archive) -> None:
    harness = await claimed(world.pool)
    now = world.clock.now()
    old = [LONG_AGO + index * MINUTE for index in range(500)]
    await send(harness, create(), save(LONG_AGO, LONG_AGO), save(*old, now))
    before = await world.pool.fetch(SHOWN)
    assert len(before) == 501
    await world.settle()
    done = await send(harness, append(LONG_AGO, now, value=-0.0))
    assert [row.rows for _, row in done.outcomes] == [2], "a late point is diverted, the other one stays"
    assert await places(world) == (505, 504, 0, 1)
    await world.answer()
    await world.settle()
    await world.answer()
    await world.settle()
    assert await places(world) == (505, 2, 503, 0), "of rows, those that were superseded among them"
    assert await world.pool.fetchval("select points from time_series_metadata_view") == 503
    for back in ranges_back(await world.store.facts(world.policy.table_name), LONG_AGO, now):
        await restorer(world).bring(world.policy, back, MONTH, lambda rows: None)
    assert await places(world) == (505, 2, 503, 0)
    shown = await world.pool.fetch(SHOWN)
    assert len(shown) == 503, "what was superseded before it left is not shown when it is back"
    assert [row for row in shown if bits(row["value"]) != bits(-0.0)] == before


def restorer(world: Archive) -> Restorer:
    async def claim() -> Claim:
        assert world.claim is not None
        return world.claim

    return Restorer(RestoreDatabase(world.pool), LakeCopies(LakeReader([str(world.lake)])), claim, "ada")


async def test_by_the_other_policy_one_late_point_refuses_its_command(world: Archive) -> None:
    harness = await claimed(world.pool)
    await send(harness, create(), append(LONG_AGO))
    await world.settle()
    strict = await claimed(world.pool, LateRule.REJECT)
    strict.topic.ends[0] = harness.topic.ends[0]
    now = world.clock.now()
    done = await send(strict, append(now, LONG_AGO, now), append(now), save(LONG_AGO), save(now))
    assert codes(done) == ["RANGE_CLOSED", None, "RANGE_CLOSED", None]
    assert await places(world) == (3, 3, 0, 0)
    rows = await world.pool.fetch("select revision, points from time_series_metadata_view")
    assert [tuple(row) for row in rows] == [(1, 1)], "a refused save changes nothing"
