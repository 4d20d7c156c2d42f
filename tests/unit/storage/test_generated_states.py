"""The statements about the rows of an aggregate, word by word, and the columns that an update names."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill.contexts.cache_entries import cache_entries
from tidemill.contexts.client_configs import client_configs
from tidemill.contexts.time_series import time_series
from tidemill.contexts.time_series.points import CURRENT
from tidemill.domain.state_rows import changed_row
from tidemill.storage.commands.narrow_updates import names_to_write
from tidemill.storage.database import superseded_sql, table_sql

NUMERIC = CURRENT[1]


def test_rows_are_updated_by_key_and_version_in_the_columns_that_are_named() -> None:
    assert table_sql.update_states(client_configs.state, ("id", "version", "config_data")) == (
        "update public.client_configs t set version = n.version, config_data = n.config_data "
        "from unnest($1::text[], $2::bigint[], $3::jsonb[], $4::bigint[]) as n (id, version, config_data, tm_before) "
        "where t.id = n.id and t.version = n.tm_before returning 1"
    )


def test_rows_whose_time_is_over_are_listed_by_that_time_and_their_key() -> None:
    """`now()`, which an index can serve; `clock_timestamp()` it could not."""
    assert table_sql.select_expired(cache_entries.state, "expires_at") == (
        "select t.expires_at, t.id from public.cache_entries t where t.expires_at <= now() and not t.deleted "
        "and (t.expires_at, t.id) > ($1, $2) order by t.expires_at, t.id limit $3"
    )


def row(number: int, **changes: Any) -> Any:
    fields = {
        "id": f"c{number}",
        "service_name": "s",
        "name": f"n{number}",
        "config_data": "{}",
        "version": number,
    }
    return client_configs.state.model(**fields | changes)


def test_of_many_rows_the_columns_are_written_in_which_one_of_them_changed() -> None:
    old = [row(number) for number in range(200)]
    new = [changed_row(before, {"version": before.version + 1}) for before in old]
    assert names_to_write(client_configs.state, old, new) == ("id", "version")
    new[150] = changed_row(new[150], {"config_data": '{"a": 1}'})
    assert names_to_write(client_configs.state, old, new) == ("id", "config_data", "version")


def test_an_equal_value_that_may_be_stored_differently_is_written() -> None:
    old = [row(number) for number in range(200)]
    new = [changed_row(before, {}) for before in old]
    new[150] = changed_row(new[150], {"deleted": 0})  # equal to False
    assert names_to_write(client_configs.state, old, new) == ("id", "deleted")


def test_of_few_rows_all_columns_are_written_so_that_there_are_few_statements() -> None:
    old = [row(1)]
    assert names_to_write(client_configs.state, old, old) == tuple(client_configs.table.columns.keys())


NUMERIC_TABLE = "public.time_series_numeric_points"


def test_owners_of_superseded_facts_are_listed_by_two_looks_into_an_index() -> None:
    assert superseded_sql.select_owners(NUMERIC, time_series.state, NUMERIC_TABLE) == (
        "select o.id, exists (select from public.time_series_numeric_points f where f.time_series_id = o.id "
        "and f.revision < o.revision) or exists (select from public.time_series_numeric_points f "
        "where f.time_series_id = o.id and f.revision > o.revision and (o.open_save is null "
        "or f.revision < o.newest_revision)) from (select * from public.time_series_metadata where id > $1 "
        "order by id limit $2) o order by o.id"
    )


@pytest.mark.parametrize("relation", [NUMERIC_TABLE, "_timescaledb_internal._hyper_1_2_chunk"])
def test_superseded_facts_are_deleted_by_their_place_and_counted_by_owner(relation: str) -> None:
    of_one = f"from {relation} f where f.time_series_id = o.id and f.revision"
    assert superseded_sql.delete_superseded(NUMERIC, time_series.state, relation) == (
        f"with gone as (delete from {relation} where ctid = any(array("
        "select s.ctid from public.time_series_metadata o cross join lateral ("
        f"(select f.ctid {of_one} < o.revision limit $2) union all "
        f"(select f.ctid {of_one} > o.revision and (o.open_save is null or f.revision < o.newest_revision) limit $2)"
        ") s where o.id = any($1::text[]) limit $2)) returning time_series_id) "
        "select time_series_id, count(*) from gone group by time_series_id order by time_series_id"
    )
