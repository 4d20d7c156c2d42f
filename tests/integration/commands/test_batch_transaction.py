"""One transaction per batch, on the real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.engine.commands import Harness, base, codes, create_lanes, outcomes, uuid7
from tests.support.servers.databases import execute
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import (
    DeactivateConnectorProfile,
    RegisterConnectorProfile,
    UpdateConnectorProfile,
)
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.context import AppendSpec
from tidemill.domain.errors import TableMisfit
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.generations import ClosedGenerations, GenerationStore
from tidemill.storage.database.header_json import headers_of
from tidemill.storage.database.pool import Pool, close_pool, create_pool

TICKS = Stream.of(replace(market_data, partitions=4))
PROFILES = Stream.of(replace(connector_profiles, partitions=4))
TIME = datetime(2013, 3, 1, tzinfo=UTC)


def tick(symbol: str = "AAPL", price: float = 1.5, **fields: Any) -> RecordMarketData:
    facts: dict[str, Any] = {"symbol": symbol, "time": TIME, "price": price, "source": "test"}
    return RecordMarketData(**base(**facts | fields))


def register(profile_id: str, name: str, **fields: Any) -> RegisterConnectorProfile:
    return RegisterConnectorProfile(
        **base(**{"profile_id": profile_id, "name": name, "profile_data": "{}"} | fields)
    )


def rename(profile_id: str, name: str) -> UpdateConnectorProfile:
    return UpdateConnectorProfile(**base(profile_id=profile_id, name=name))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    made = await create_pool(database, application_name="tidemill-tests", size=8)
    async with made.acquire() as connection:
        for stream in (TICKS, PROFILES):
            await create_lanes(connection, stream)
    yield made
    await close_pool(made)


@pytest.fixture
async def ticks(pool: Pool) -> Harness:
    harness = Harness(TICKS, CommandDatabase(pool))
    await harness.claim()
    return harness


@pytest.fixture
async def profiles(pool: Pool) -> Harness:
    harness = Harness(PROFILES, CommandDatabase(pool))
    await harness.claim()
    return harness


async def rows(pool: Pool, query: str, *values: Any) -> list[tuple[Any, ...]]:
    async with pool.acquire() as connection:
        return [tuple(row) for row in await connection.fetch(query, *values)]


async def test_a_command_leaves_a_row_a_log_entry_and_an_event(pool: Pool, ticks: Harness) -> None:
    command = tick()
    done = await ticks.send(command)
    assert outcomes(done) == {"applied": 1}
    assert await rows(pool, "select symbol, price, command_id::text from public.market_data") == [
        ("AAPL", 1.5, command.command_id)
    ]
    assert await rows(pool, "select position, sequence, outcome, events, type from tm.log") == [
        (1, 1, b"a", 1, "tidemill.market_data.RecordMarketData")
    ]
    assert await rows(pool, "select position, item, sequence, event_type, key, client_id from tm.outbox") == [
        (1, 0, 1, "tidemill.market_data.MarketDataRecorded", b"AAPL", None)
    ]


MISFITS = {
    "42P01": ("alter table {} rename to elsewhere", "alter table elsewhere rename to {}"),
    "42703": ("alter table {} rename column {} to elsewhere", "alter table {} rename column elsewhere to {}"),
    "42501": (
        "revoke insert on {} from tidemill_service",
        "grant insert on {} to tidemill_service",
    ),
}


@pytest.mark.parametrize("state", MISFITS)
async def test_a_table_that_is_not_as_expected_is_named_and_nothing_is_written(
    pool: Pool, database: str, state: str
) -> None:
    """Under connections that have met the table before, and know its statements."""
    as_service = f"{database}?role=tidemill_service"
    service = await create_pool(as_service, application_name="tidemill-tests", size=2)
    for stream, first, second, table, column in (
        (TICKS, tick(), tick(), "market_data", "price"),
        (PROFILES, register("p0", "n"), register("p1", "m"), "connector_profiles", "name"),
    ):
        harness = Harness(stream, CommandDatabase(service))
        await harness.claim()
        await harness.send(first)
        break_it, mend_it = MISFITS[state]
        execute(database, break_it.format(table, column))
        again = harness.topic.record(second)
        with pytest.raises(TableMisfit, match=f"TABLE_MISFIT: {state}: "):
            await harness.apply(again)
        execute(database, mend_it.format(table, column))
        assert outcomes(await harness.apply(again)) == {"applied": 1}
    await close_pool(service)


async def test_equal_facts_under_two_ids_are_two_rows_and_two_events(pool: Pool, ticks: Harness) -> None:
    done = await ticks.send(tick(), tick())
    assert (outcomes(done), done.events) == ({"applied": 2}, 2)
    assert await rows(pool, "select count(*) from public.market_data") == [(2,)]


async def test_a_repeat_gets_the_first_outcome_in_the_same_and_in_a_later_batch(
    pool: Pool, ticks: Harness
) -> None:
    command, bad = tick(), tick(symbol="MSFT", time=datetime(1999, 1, 1, tzinfo=UTC))
    first = await ticks.send(command, command, bad, bad)
    assert outcomes(first) == {"applied": 1, "rejected": 1, "duplicate": 2}
    again = await ticks.send(command, bad, tick())
    assert outcomes(again) == {"applied": 1, "duplicate": 2}
    assert sorted(filter(None, codes(again))) == ["INVALID"]
    assert await rows(pool, "select count(*) from public.market_data") == [(2,)]
    assert await rows(
        pool, "select distinct repeats::text from tm.log where outcome = 'd' order by 1"
    ) == sorted([(command.command_id,), (bad.command_id,)])


async def test_the_same_id_with_other_facts_is_a_reuse(ticks: Harness) -> None:
    command = tick()
    done = await ticks.send(command, command.model_copy(update={"price": 2.0}))
    assert codes(done) == [None, "ID_REUSE"]
    done = await ticks.send(
        command.model_copy(update={"price": 3.0}), command.model_copy(update={"timestamp": TIME})
    )
    assert codes(done) == ["ID_REUSE", None]
    assert outcomes(done) == {"rejected": 1, "duplicate": 1}


async def across(pool: Pool) -> list[tuple[Any, ...]]:
    """Return partition, outcome, code and repeated id of each record, lane by lane."""
    return await rows(
        pool,
        "select l.partition, outcome, code, repeats::text from tm.log join tm.lane l using (lane) order by l.partition",
    )


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
async def test_a_repeat_is_found_in_another_lane_under_another_key_and_time(
    pool: Pool, ticks: Harness, together: bool
) -> None:
    command = tick("AAPL")
    later = command.model_copy(update={"timestamp": TIME})
    records = [ticks.topic.record(command), ticks.topic.record(later, partition=3, key=b"OTHER")]
    for batch in [records] if together else [[each] for each in records]:
        await ticks.apply(*batch)
    assert await across(pool) == [(1, b"a", None, None), (3, b"d", None, command.command_id)]
    assert await rows(pool, "select count(*) from public.market_data") == [(1,)]


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
async def test_an_id_with_other_facts_in_another_lane_is_a_reuse(
    pool: Pool, ticks: Harness, together: bool
) -> None:
    first = tick("AAPL")
    records = [ticks.topic.record(each) for each in (first, tick("MSFT", command_id=first.command_id))]
    for batch in [records] if together else [[each] for each in records]:
        await ticks.apply(*batch)
    assert await across(pool) == [(1, b"a", None, None), (2, b"r", "ID_REUSE", first.command_id)]
    assert await rows(pool, "select symbol from public.market_data") == [("AAPL",)]


async def test_an_id_that_is_no_uuid_is_only_unique_within_its_service(pool: Pool, ticks: Harness) -> None:
    done = await ticks.send(*(tick(service=service, command_id="1") for service in ("a", "b", "a")))
    assert outcomes(done) == {"applied": 2, "duplicate": 1}
    assert await rows(pool, "select distinct client_id from tm.outbox") == [("1",)]


async def test_a_repeat_is_found_in_closed_generations_with_and_without_their_filter(
    pool: Pool,
) -> None:
    closed, command = ClosedGenerations(), tick()
    ticks = Harness(TICKS, CommandDatabase(pool, closed))
    await ticks.claim()
    await ticks.send(command)
    generations = GenerationStore(pool, closed)
    assert await generations.roll_if_due(max_age=timedelta(0), max_ids=1) == 2
    assert outcomes(await ticks.send(command, tick())) == {"applied": 1, "duplicate": 1}
    assert await generations.build_filters() == [1]
    await generations.load_filters()
    assert outcomes(await ticks.send(command, tick())) == {"applied": 1, "duplicate": 1}
    assert await rows(pool, "select gen, count(*) from tm.log group by gen order by gen") == [(1, 1), (2, 4)]


async def test_what_was_consumed_is_not_applied_again(pool: Pool, ticks: Harness) -> None:
    record = ticks.topic.record(tick())
    await ticks.apply(record)
    again = await ticks.apply(record)
    assert outcomes(again) == {}
    assert await rows(pool, "select count(*) from tm.log") == [(1,)]


async def test_unreadable_and_misplaced_records_are_parked_or_refused(pool: Pool, ticks: Harness) -> None:
    good, command = tick(), tick(symbol="MSFT")
    records = [
        ticks.topic.raw(0, b"k", b"\x00garbage", [("h", b"\x00\xff"), ("n", None)]),
        ticks.topic.record(command, key=b"OTHER"),
        ticks.topic.record(good),
    ]
    wrong = (ticks.topic.record(good).partition + 1) % 4
    records.append(ticks.topic.record(tick(), partition=wrong))
    done = await ticks.apply(*records)
    assert outcomes(done) == {"applied": 1, "rejected": 2, "parked": 1}
    assert sorted(filter(None, codes(done))) == ["MALFORMED", "WRONG_KEY", "WRONG_PARTITION"]
    assert await rows(pool, "select key, value, headers, code from tm.parked") == [
        (b"k", b"\x00garbage", '[["h", "AP8="], ["n", null]]', "MALFORMED")
    ]


async def test_headers_are_kept_as_they_came_whatever_their_names_hold(pool: Pool, ticks: Harness) -> None:
    headers = (("a\x00b", b"nul"), ("a\\0b", b""), ("\\u0000", None), ("a\x00b", b"\xff"))
    await ticks.apply(ticks.topic.raw(0, b"k", b"garbage", headers))
    ((text,),) = await rows(pool, "select headers from tm.parked")
    assert headers_of(text) == headers


async def test_what_context_code_raised_is_kept_whatever_its_text_holds(pool: Pool) -> None:
    def check(command: Any, _at: datetime) -> None:
        if command.symbol == "BAD":
            raise LookupError("half a smile \ud83d, and a NUL \x00")

    ((name, spec),) = TICKS.commands.items()
    assert isinstance(spec, AppendSpec)
    checked = replace(TICKS, commands={name: replace(spec, check=check)})
    harness = Harness(checked, CommandDatabase(pool))
    await harness.claim()
    done = await harness.send(tick("BAD"), tick())
    assert sorted(code or "" for code in codes(done)) == ["", "CRASHED"]
    ((detail,),) = await rows(pool, "select detail from tm.parked")
    assert "half a smile \\ud83d, and a NUL \\0" in detail


async def test_a_value_that_the_database_refuses_is_found_among_good_ones(pool: Pool, ticks: Harness) -> None:
    async with pool.acquire() as connection:
        await connection.execute("alter table public.market_data add check (price <> 13)")
    done = await ticks.send(*(tick(price=price) for price in (1, 2, 13, 4, 13, 6, 7)))
    assert outcomes(done) == {"applied": 5, "rejected": 2}
    assert [row.code for _, row in done.outcomes if row.code] == ["INVALID", "INVALID"]
    assert await rows(pool, "select price from public.market_data order by 1") == [
        (1,),
        (2,),
        (4,),
        (6,),
        (7,),
    ]
    assert await rows(pool, "select position from tm.log order by position") == [(n,) for n in range(1, 8)]


async def test_a_record_that_the_database_does_not_even_park_halts_its_lane_and_no_other(
    pool: Pool, ticks: Harness
) -> None:
    async with pool.acquire() as connection:
        await connection.execute("alter table tm.parked add constraint nothing check (value <> 'garbage')")
    good = ticks.topic.record(tick("AAPL"))
    stuck = (good.partition + 1) % TICKS.partitions
    bad = [ticks.topic.raw(stuck, b"k", value) for value in (b"other", b"garbage", b"behind")]
    done = await ticks.apply(good, *bad)
    assert outcomes(done) == {"applied": 1, "parked": 1}
    code, evidence = done.halted[ticks.lane_of(stuck)]
    assert (code, len(done.halted)) == ("PARKING_REFUSED", 1)
    assert f"partition {stuck}, offset 1: the database refused a value (23514)" in evidence
    assert await rows(pool, "select value from tm.parked") == [(b"other",)]


async def test_a_uuid7_beyond_the_horizon_is_stale_and_one_within_is_not(ticks: Harness) -> None:
    now = SystemClock().now()
    old, young = uuid7(now - timedelta(days=9)), uuid7(now - timedelta(days=7))
    done = await ticks.send(tick(command_id=old), tick(command_id=young))
    assert codes(done) == ["STALE", None]
    beyond_all_years = "ffffffff-ffff-7fff-8fff-ffffffffffff"
    assert codes(await ticks.send(tick(command_id=beyond_all_years))) == [None]


async def test_an_event_that_its_topic_would_refuse_is_too_large(pool: Pool) -> None:
    harness = Harness(PROFILES, CommandDatabase(pool), max_event_bytes=400)
    await harness.claim()
    long = '{"text": "' + "x" * 400 + '"}'
    done = await harness.send(register("p1", "one", profile_data=long), register("p2", "two"))
    assert sorted(code or "" for code in codes(done)) == ["", "TOO_LARGE"]


async def test_decide_folds_the_commands_of_a_key_in_order(pool: Pool, profiles: Harness) -> None:
    done = await profiles.send(
        register("p1", "one"),
        rename("p1", "uno"),
        UpdateConnectorProfile(**base(profile_id="p1", profile_data='{"type": "rest"}', expected_version=2)),
        UpdateConnectorProfile(**base(profile_id="p1", name="x", expected_version=2)),
        register("p1", "again"),
        rename("p9", "nobody"),
        DeactivateConnectorProfile(**base(profile_id="p1")),
    )
    assert sorted(filter(None, codes(done))) == ["ALREADY_EXISTS", "NOT_FOUND", "VERSION_CONFLICT"]
    assert await rows(
        pool, "select id, name, profile_data, active, version from public.connector_profiles"
    ) == [("p1", "uno", '{"type": "rest"}', False, 4)]


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
async def test_a_name_moves_within_one_batch_as_if_one_by_one(
    pool: Pool, profiles: Harness, together: bool
) -> None:
    """One lets go of a, another takes it and lets go of b, the first takes b and may not have a back."""
    first, second = "p1", "p2"
    await profiles.send(register(first, "a"), register(second, "b"))
    moves = [rename(first, "c"), rename(second, "a"), rename(first, "b"), rename(first, "a")]
    records = [profiles.topic.record(each) for each in moves]
    assert len({record.partition for record in records}) == 1
    batches = [records] if together else [[each] for each in records]
    done = [await profiles.apply(*batch) for batch in batches]
    assert [code for each in done for code in codes(each)] == [None, None, None, "NAME_TAKEN"]
    assert await rows(pool, "select id, name from public.connector_profiles order by id") == [
        (first, "b"),
        (second, "a"),
    ]


async def test_a_name_that_is_held_outside_the_batch_is_taken(profiles: Harness) -> None:
    await profiles.send(register("p1", "a"))
    done = await profiles.send(register("p2", "a"), register("p3", "a", service="other"))
    assert sorted(code or "" for code in codes(done)) == ["", "NAME_TAKEN"]


async def test_a_fenced_lane_drops_out_and_the_rest_go_on(pool: Pool, ticks: Harness) -> None:
    commands = [tick(symbol=symbol) for symbol in ("AAPL", "MSFT", "IBM", "GOOG", "FB", "X", "Y", "Z")]
    records = [ticks.topic.record(command) for command in commands]
    taken = records[0].partition
    await CommandDatabase(pool).claim(TICKS.aggregate, [taken], "somebody-else")
    done = await ticks.apply(*records)
    assert done.fenced == {ticks.lane_of(taken)}
    assert outcomes(done) == {"applied": sum(record.partition != taken for record in records)}


async def test_many_names_that_are_taken_do_not_take_a_pass_each(pool: Pool, profiles: Harness) -> None:
    taken = [f"name {number}" for number in range(60)]
    await profiles.send(*(register(f"holder {number}", name) for number, name in enumerate(taken)))
    await profiles.send(register("p", "own"))
    fields = [base(profile_id="p", name=name, expected_version=1) for name in taken]
    done = await profiles.send(*(UpdateConnectorProfile(**each) for each in fields))
    assert codes(done) == ["NAME_TAKEN"] * 60


async def test_an_update_of_many_rows_writes_what_changed_of_each(pool: Pool, profiles: Harness) -> None:
    keys = [f"p{number:03d}" for number in range(150)]
    await profiles.send(*(register(key, f"name of {key}", profile_data="{}") for key in keys))
    data = [UpdateConnectorProfile(**base(profile_id=key, profile_data=f'{{"n": "{key}"}}')) for key in keys]
    again = [UpdateConnectorProfile(**base(profile_id=key, profile_data="{}")) for key in keys[100:]]
    done = await profiles.send(*data, *again, rename(keys[7], "another"))
    assert outcomes(done) == {"applied": 201}
    stored = "select id, name, profile_data ->> 'n', version from public.connector_profiles order by id"
    expected = [(key, f"name of {key}", key if number < 100 else None) for number, key in enumerate(keys)]
    expected[7] = (keys[7], "another", keys[7])
    versions = {7: 3} | dict.fromkeys(range(100, 150), 3)
    assert await rows(pool, stored) == [
        (*row, versions.get(number, 2)) for number, row in enumerate(expected)
    ]
