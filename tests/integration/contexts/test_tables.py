"""What only the database can say about the contexts' tables."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.json_texts import json_objects
from tests.support.servers.databases import execute, fetch
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.profile_data import MAX_TYPE_CHARACTERS, checked

ONE_A_MONTH = """
insert into market_data (time, symbol, price, source, command_id)
select time, 'IBM', 1, 'test', gen_random_uuid()
from generate_series(timestamptz '2000-01-01Z', timestamptz '2026-12-31Z', interval '1 month') as time
"""
INDEXES = """
select indexrelid::regclass::text as name, indisunique as is_unique from pg_index
where indrelid = 'market_data'::regclass
"""
PROFILE = "insert into connector_profiles values ($1, $2, $3, '{}', $4, 1, now(), now())"
TYPED = """
insert into connector_profiles
values ('p', 'n', 's', jsonb_build_object('type', $1::text), true, 1, now(), now())
"""


@pytest.fixture(scope="module")
def shared_database(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """One database for tests that only look."""
    with new_database() as url:
        yield url


def is_storable(text: str) -> bool:
    try:
        checked(text)
    except ValueError:
        return False
    return True


def test_a_quarter_of_a_century_is_some_two_dozen_chunks(database: str) -> None:
    execute(database, ONE_A_MONTH)
    chunks = fetch(database, "select count(*) from timescaledb_information.chunks")[0][0]
    assert 26 <= chunks <= 29
    assert [tuple(row) for row in fetch(database, INDEXES)] == [("market_data_symbol_time", False)]


@settings(max_examples=10)
@given(texts=st.lists(json_objects(), min_size=20, max_size=40))
def test_the_database_takes_all_that_the_rules_take(shared_database: str, texts: list[str]) -> None:
    taken = [text for text in texts if is_storable(text)]
    rows = fetch(
        shared_database, "select text::jsonb ->> 'type' as type from unnest($1::text[]) as text", taken
    )
    assert len(rows) == len(taken)


def test_the_largest_type_fits_its_index(database: str) -> None:
    kind = "\U0001f600" * MAX_TYPE_CHARACTERS
    fetch(database, TYPED, kind)
    found = fetch(database, "select id from connector_profiles where profile_data ->> 'type' = $1", kind)
    assert [row["id"] for row in found] == ["p"]


def test_the_guard_knows_active_names_only(database: str) -> None:
    assert connector_profiles.state is not None
    (unique,) = connector_profiles.state.unique
    fetch(database, PROFILE, "a", "main", "feed", True)
    fetch(database, PROFILE, "b", "main", "feed", False)
    fetch(database, PROFILE, "c", "main", "other", True)
    with pytest.raises(asyncpg.UniqueViolationError) as taken:
        fetch(database, PROFILE, "d", "main", "feed", True)
    assert taken.value.constraint_name == unique.constraint
