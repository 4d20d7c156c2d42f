"""Indexes of facts beside those of a real database: what is lost is told and stops nothing."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, MetaData, Table

from tests.support.servers.databases import execute
from tidemill.catalog.tables import Kind
from tidemill.contexts.system_logs import context as system_logs
from tidemill.domain.stream import Stream
from tidemill.storage.catalog.declared import TableUse, uses_of_stream
from tidemill.storage.catalog.structure import differences
from tidemill.storage.database.pool import close_pool, create_pool

ROLE = "tidemill_service"
LOGS = "public.system_logs"
WORDS = "system_logs_message"
IN_TWO_CHUNKS = """
insert into system_logs (time, service, level, message, details, command_id)
select time, 's', 'info', 'it began', '{}', gen_random_uuid()
from unnest('{2026-01-01Z, 2026-03-01Z}'::timestamptz[]) as time
"""
LOST = {
    "missing": (
        f"drop index {WORDS}",
        f"index {WORDS} is missing",
        f"create index {WORDS} on {LOGS} using gin ((to_tsvector('simple', message)))",
    ),
    "of another method": (
        f"drop index {WORDS}; create index {WORDS} on system_logs using hash (message)",
        f"index {WORDS} is of the method hash, not gin",
        None,
    ),
    "of other words": (
        f"drop index {WORDS}; create index {WORDS} on system_logs using gin (to_tsvector('simple', service))",
        (
            f"index {WORDS} is on (to_tsvector('simple'::regconfig, service)), not on "
            "(to_tsvector('simple'::regconfig, message))"
        ),
        None,
    ),
    "of other columns": (
        (
            "drop index system_logs_service_level_time; "
            "create index system_logs_service_level_time on system_logs (service, time desc)"
        ),
        "index system_logs_service_level_time is on (service, time), not on (service, level, time)",
        None,
    ),
}


@pytest.mark.parametrize("name", LOST)
async def test_an_index_of_facts_that_is_lost_is_told_and_stops_nothing(database: str, name: str) -> None:
    done, what, draft = LOST[name]
    execute(database, IN_TWO_CHUNKS, *done.split("; "))
    pool = await create_pool(f"{database}?role={ROLE}", application_name="tidemill-tests", size=1)
    uses = uses_of_stream(Stream.of(system_logs))
    (told,) = await differences(pool, uses)
    assert (told.what, told.sql, told.breaks) == (what, draft, False)
    assert told.kind is not Kind.EXTRA
    if draft is not None:
        execute(database, draft)
        assert await differences(pool, uses) == []
    await close_pool(pool)


async def test_the_index_that_timescaledb_makes_by_itself_is_no_difference(database: str) -> None:
    made = "create table noises (time timestamptz not null, place text not null, command_id uuid not null)"
    execute(
        database,
        made,
        "select create_hypertable('noises', by_range('time'))",
        "create index by_place on noises (place)",
        f"grant insert on noises to {ROLE}",
    )
    noises = Table(
        "noises", MetaData(), *(Column(name, nullable=False) for name in ("time", "place", "command_id"))
    )
    names = frozenset(noises.columns.keys())
    pool = await create_pool(f"{database}?role={ROLE}", application_name="tidemill-tests", size=1)
    told = await differences(pool, [TableUse(noises, frozenset({"insert"}), names, frozenset())])
    await close_pool(pool)
    assert [each.what for each in told] == ["index by_place on (place) is not declared"]
