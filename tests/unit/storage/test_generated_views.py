"""The statements that are generated for read models, word by word."""

from __future__ import annotations

import pytest
from sqlalchemy import ARRAY, Column, MetaData, Table, Text

from tests.support.engine.projections import DAYS
from tidemill.domain.errors import ContractError
from tidemill.storage.database import difference_sql, table_sql

AWKWARD = Table(
    "Order Lines",
    MetaData(schema="shop"),
    Column("user", Text, primary_key=True),
    Column("Amount", Text),
)


def test_rows_are_loaded_by_a_join_and_locked_in_order() -> None:
    assert table_sql.select_rows(DAYS, live=True) == (
        "select t.good, t.day, t.amount, t.id, t.uuid, t.created_at, t.updated_at, t.version "
        "from unnest($1::text[], $2::date[]) with ordinality as k (good, day, tm_place) "
        "join public.days t on t.good = k.good and t.day = k.day order by k.tm_place for update of t"
    )


def test_rows_are_inserted_from_arrays() -> None:
    assert table_sql.insert_rows(DAYS, live=False) == (
        "insert into tm_shadow.days (good, day, amount, id, uuid, created_at, updated_at, version) "
        "select n.good, n.day, n.amount, n.id, n.uuid, n.created_at, n.updated_at, n.version "
        "from unnest($1::text[], $2::date[], $3::bigint[], $4::bigint[], $5::uuid[], "
        "$6::timestamp with time zone[], $7::timestamp with time zone[], $8::bigint[]) "
        "as n (good, day, amount, id, uuid, created_at, updated_at, version)"
    )


def test_rows_are_updated_by_key() -> None:
    assert table_sql.update_rows(DAYS, live=True) == (
        "update public.days t set amount = n.amount, id = n.id, uuid = n.uuid, created_at = n.created_at, "
        "updated_at = n.updated_at, version = n.version "
        "from unnest($1::text[], $2::date[], $3::bigint[], $4::bigint[], $5::uuid[], "
        "$6::timestamp with time zone[], $7::timestamp with time zone[], $8::bigint[]) "
        "as n (good, day, amount, id, uuid, created_at, updated_at, version) "
        "where t.good = n.good and t.day = n.day"
    )


def test_rows_are_deleted_by_key() -> None:
    assert table_sql.delete_rows(DAYS, live=True) == (
        "delete from public.days t using unnest($1::text[], $2::date[]) as o (good, day) "
        "where t.good = o.good and t.day = o.day"
    )


@pytest.mark.parametrize(
    ("conditions", "sql"),
    [
        ((), ""),
        ((("good", "="),), " where t.good = cast($1::text as text)"),
        (
            (("good", "="), ("day", ">=")),
            " where t.good = cast($1::text as text) and t.day >= cast($2::text as date)",
        ),
    ],
)
def test_a_page_is_read_by_conditions_in_the_order_of_the_key(
    conditions: tuple[tuple[str, str], ...], sql: str
) -> None:
    assert table_sql.select_page(DAYS, conditions) == (
        "select t.good, t.day, t.amount, t.id, t.uuid, t.created_at, t.updated_at, t.version "
        f"from public.days t{sql} order by t.good, t.day limit ${len(conditions) + 1}"
    )


@pytest.mark.parametrize(
    ("columns", "newest_by", "order"),
    [
        (("Time", "command_id"), "Time", 't."Time" desc, t.command_id'),
        (("Time",), "Time", 't."Time" desc'),
        (("command_id",), None, "t.command_id"),
        (("name",), None, "1"),
    ],
)
def test_of_a_table_without_a_key_the_newest_rows_come_first(
    columns: tuple[str, ...], newest_by: str | None, order: str
) -> None:
    table = Table("facts", MetaData(), *(Column(name, Text) for name in columns))
    statement = table_sql.select_page(table, (), newest_by)
    assert statement.partition("from ")[2] == f"public.facts t order by {order} limit $1"


def test_two_sets_of_rows_are_compared_byte_for_byte() -> None:
    assert difference_sql.count_differences(AWKWARD) == (
        "select count(*), count(*) filter (where "
        'l."user" is null or s."user" is null or '
        'row(l."user", l."Amount")::record *<> row(s."user", s."Amount")::record) '
        'from tm_shadow.live_168c4c22 l full join tm_shadow."Order Lines" s on l."user" = s."user"'
    )


def test_differences_are_shown_as_text_in_key_order() -> None:
    assert difference_sql.select_differences(AWKWARD) == (
        'select l."user" is null as only_rebuilt, s."user" is null as only_live, '
        'array[coalesce(l."user", s."user")::text] as key, '
        'array[l."user"::text, l."Amount"::text] as live, array[s."user"::text, s."Amount"::text] as rebuilt '
        'from tm_shadow.live_168c4c22 l full join tm_shadow."Order Lines" s on l."user" = s."user" where '
        'l."user" is null or s."user" is null or '
        'row(l."user", l."Amount")::record *<> row(s."user", s."Amount")::record '
        'order by coalesce(l."user", s."user") limit $1'
    )


def test_the_live_rows_themselves_can_be_compared() -> None:
    assert difference_sql.count_differences(AWKWARD, snapshot=False).endswith(
        'from shop."Order Lines" l full join tm_shadow."Order Lines" s on l."user" = s."user"'
    )


def test_rows_that_differ_are_deleted_and_inserted_with_what_is_not_declared() -> None:
    assert difference_sql.keep_undeclared(AWKWARD, ("Note", "to")) == (
        'update tm_shadow."Order Lines" s set "Note" = l."Note", "to" = l."to" from shop."Order Lines" l '
        'where l."user" = s."user"'
    )
    assert difference_sql.delete_differing(AWKWARD) == (
        'delete from shop."Order Lines" l where not exists (select from tm_shadow."Order Lines" s where '
        'l."user" = s."user" and not (row(l."user", l."Amount")::record *<> row(s."user", s."Amount")::record))'
    )
    assert difference_sql.insert_missing(AWKWARD, ("Note",)) == (
        'insert into shop."Order Lines" ("user", "Amount", "Note") select "user", "Amount", "Note" '
        'from tm_shadow."Order Lines" s where not exists (select from shop."Order Lines" l where l."user" = s."user")'
    )


def test_a_snapshot_has_a_short_name_of_its_own() -> None:
    long = [Table("x" * 63, MetaData(schema=schema)) for schema in ("a", "b")]
    names = {
        make(table) for table in long for make in (difference_sql.snapshot_name, difference_sql.progress_name)
    }
    assert len(names) == 4
    assert all(len(name) < 63 for name in names)


def test_arrays_are_refused() -> None:
    table = Table("nested", MetaData(), Column("id", Text, primary_key=True), Column("tags", ARRAY(Text)))
    with pytest.raises(ContractError, match="nested: tags are arrays, which unnest would flatten; use jsonb"):
        table_sql.insert_rows(table, live=True)
