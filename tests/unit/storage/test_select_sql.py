"""The statements of documents, pages and counts, word for word."""

from __future__ import annotations

import re

import pytest

from tests.support.engine.collections import all_collections
from tidemill.queries.filters import shape_of
from tidemill.queries.order import Position, total_order
from tidemill.queries.request import PageRequest, page_request
from tidemill.storage.queries import select_sql
from tidemill.storage.queries.json_sql import json_value
from tidemill.storage.queries.select_sql import AfterKey, PageShape

COLLECTIONS = all_collections()
BARS, READINGS, SAMPLES = (COLLECTIONS.visible(name) for name in ("bars", "readings", "samples"))


def page_sql(pairs: list[tuple[str, str]], collection: str = "bars", after: Position | None = None) -> str:
    visible = COLLECTIONS.visible(collection)
    request = page_request(visible, pairs)
    keys = None if after is None else tuple(AfterKey(value is None, True) for value in after.values)
    return select_sql.select_rows(
        PageShape(
            collection=visible,
            fields=request.fields,
            where=shape_of(request.where),
            order=total_order(visible, request.sort),
            after=keys,
            repeats=after is not None and after.given > 0,
            native=False,
        )
    )


def where_of(request: PageRequest, collection: str = "samples") -> str:
    sql = select_sql.count_rows(COLLECTIONS.visible(collection), shape_of(request.where))
    return sql.partition(" where ")[2]


def innermost(sql: str) -> str:
    """The rows that are read, in their order."""
    found = re.search(r"from \(((?:with tm_first as|select t\.).*)\) p\) r\) c$", sql)
    assert found is not None, sql
    return found[1]


def test_a_document() -> None:
    assert select_sql.select_document(BARS, ("close",), (False, True), native=False) == (
        "select convert_to((select row_to_json(tm_e)::text from (select t.close as close) tm_e), 'UTF8') as body, "
        "null::bigint as version from public.bars t where t.symbol = $1::text and t.day = $2::text::date"
    )


def test_a_page() -> None:
    assert page_sql([("close.gte", "1")]) == (
        "select convert_to('[' || coalesce(string_agg(c.tm_row, ',' order by c.tm_n) filter (where c.tm_shown), '') "
        "|| ']', 'UTF8') as rows, count(*) filter (where c.tm_shown) as row_count, count(*) as read_count, "
        "(array_agg(c.tm_at order by c.tm_n desc) filter (where c.tm_shown))[1] as last, "
        "(array_agg(c.tm_equal order by c.tm_n desc) filter (where c.tm_shown))[1] as equal from "
        "(select r.tm_n, r.tm_row, r.tm_at, 1 as tm_equal, r.tm_n <= $2::bigint and (r.tm_n = 1 or "
        "sum(octet_length(r.tm_row) + 1) over (order by r.tm_n) <= $3::bigint) as tm_shown from "
        "(select row_number() over () as tm_n, (select row_to_json(tm_e)::text from "
        "(select p.symbol as symbol, p.day as day, p.close as close) tm_e) as tm_row, "
        "json_build_array(p.symbol::text, p.day::text)::text as tm_at from "
        "(select t.symbol, t.day, t.close from public.bars t where t.close >= $1::double precision "
        "order by t.symbol, t.day limit $2::bigint + 1) p) r) c"
    )


def test_the_rows_after_a_position_in_one_direction() -> None:
    assert innermost(page_sql([("_fields", "close")], after=Position(("a", "2026-01-01")))) == (
        "select t.close, t.symbol, t.day from public.bars t where true and (t.symbol, t.day) > "
        "($1::text, $2::text::date) order by t.symbol, t.day limit $3::bigint + 1"
    )


def test_the_rows_after_a_position_in_mixed_directions_with_nulls() -> None:
    after = Position(("1.5", "a", "2026-01-01"))
    assert innermost(page_sql([("_sort", "-close")], after=after)).partition(" where ")[2] == (
        "true and (t.close < $1::text::double precision or (t.close = $1::text::double precision and "
        "(t.symbol > $2::text or (t.symbol = $2::text and t.day > $3::text::date)))) "
        "order by t.close desc, t.symbol, t.day limit $4::bigint + 1"
    )
    assert innermost(page_sql([("_sort", "close")], after=after)).partition(" where ")[2] == (
        "true and ((t.close > $1::text::double precision or t.close is null) or "
        "(t.close = $1::text::double precision and (t.symbol > $2::text or (t.symbol = $2::text and "
        "t.day > $3::text::date)))) order by t.close, t.symbol, t.day limit $4::bigint + 1"
    )


@pytest.mark.parametrize(("sort", "beyond"), [("-close", "t.close is not null"), ("close", "false")])
def test_the_rows_after_a_null(sort: str, beyond: str) -> None:
    sql = innermost(page_sql([("_sort", sort)], after=Position((None, "a", "2026-01-01"))))
    assert f"true and ({beyond} or (t.close is null and (t.symbol > $1::text or " in sql


def test_facts_are_ordered_by_all_that_is_visible() -> None:
    since = [("time.gte", "2026-01-01T00:00:00Z")]
    row_hash = (
        "encode(sha256(convert_to(row(t.time, t.source, t.value, t.command_id)::text, 'UTF8')), 'hex') "
        'collate "C"'
    )
    columns = f"select t.time, t.source, t.value, t.command_id, {row_hash} as tm_hash from tm_first t "
    assert innermost(page_sql(since, "readings")) == (
        "with tm_first as (select t.* from public.readings t "
        "where t.time >= $1::timestamptz order by t.time desc, t.command_id "
        f"fetch first ($2::bigint + 1 + $4::bigint) rows with ties) {columns}"
        "order by t.time desc, t.command_id, tm_hash limit $2::bigint + 1 offset $4::bigint"
    )
    after = Position(("2026-01-01 00:00:00+00", "00000000-0000-0000-0000-000000000001", "ab"), 2)
    assert innermost(page_sql(since, "readings", after)).partition(" where ")[2] == (
        "t.time >= $1::timestamptz and t.time <= $2::text::timestamptz and (t.time < $2::text::timestamptz or "
        "(t.time = $2::text::timestamptz and (t.command_id > $3::text::uuid or (t.command_id = $3::text::uuid and "
        f"({row_hash} > $4::text or {row_hash} = $4::text))))) order by t.time desc, t.command_id "
        f"fetch first ($5::bigint + 1 + $7::bigint) rows with ties) {columns}"
        "order by t.time desc, t.command_id, tm_hash limit $5::bigint + 1 "
        "offset least($7::bigint, (select count(*) from tm_first t where t.time = $2::text::timestamptz and "
        f"t.command_id = $3::text::uuid and {row_hash} = $4::text))"
    )


@pytest.mark.parametrize(
    ("pairs", "sql"),
    [
        ([], "true"),
        ([("small", "1")], "t.small = $1::smallint"),
        ([("whole.neq", "1")], "t.whole is distinct from $1::integer"),
        ([("big.lt", "1"), ("big.gt", "0")], "(t.big < $1::bigint and t.big > $2::bigint)"),
        ([("amount.lte", "1.5")], "t.amount <= $1::text::numeric"),
        ([("ratio", "NaN")], "t.ratio = $1::double precision"),
        ([("rate", "0.1")], "t.rate = $1::real"),
        ([("name.prefix", "bin")], "t.name ^@ $1::text"),
        ([("name.in", "a"), ("name.in", "b")], "t.name = any($1::text[])"),
        ([("name.nin", "a")], "(t.name = any($1::text[])) is not true"),
        ([("flag", "true")], "t.flag = $1::boolean"),
        ([("at.gte", "2026-01-01T00:00:00Z")], "t.at >= $1::timestamptz"),
        ([("at.gte", "infinity")], "t.at >= $1::text::timestamptz"),
        ([("at.in", "infinity"), ("at.in", "2026-01-01T00:00:00Z")], "t.at = any($1::text[]::timestamptz[])"),
        ([("moment", "2026-01-01T00:00:00")], "t.moment = $1::timestamp"),
        ([("day", "2026-01-01")], "t.day = $1::date"),
        ([("clock", "10:00")], "t.clock = $1::text::time"),
        ([("span.is", "null")], "t.span is null"),
        ([("ref.is", "notnull")], "t.ref is not null"),
        ([("raw", "AA==")], "t.raw = $1::bytea"),
        ([("data.has", "a")], "t.data ? $1::text"),
        ([("data.contains", "{}")], "t.data @> $1::jsonb"),
        ([("tags.has", "a")], "$1::text = any(t.tags::text[])"),
        ([("tags.contains", "a"), ("tags.contains", "b")], "t.tags::text[] @> $1::text[]"),
        ([("numbers.overlaps", "1")], "t.numbers::bigint[] && $1::bigint[]"),
        ([("Odd \"name'; --", "x")], 't."Odd ""name\'; --" = $1::text'),
        (
            [("_where", '{"_or": [{"small": {"eq": 1}}, {"_not": {"big": {"gt": 2}, "id": {"eq": "a"}}}]}')],
            "(t.small = $1::smallint or (((t.big > $2::bigint and t.id = $3::text)) is not true))",
        ),
    ],
)
def test_filters(pairs: list[tuple[str, str]], sql: str) -> None:
    assert where_of(page_request(SAMPLES, pairs)) == sql


def test_counts() -> None:
    where = shape_of(page_request(SAMPLES, [("small", "1")]).where)
    passing = "public.samples t where t.small = $1::smallint"
    assert select_sql.count_rows(SAMPLES, where) == f"select count(*) from {passing}"
    assert (
        select_sql.count_capped(SAMPLES, where)
        == f"select count(*) from (select from {passing} limit $2::bigint) c"
    )
    assert select_sql.explain_rows(SAMPLES, where) == f"explain (format json) select from {passing}"


@pytest.mark.parametrize(
    ("column", "sql", "native"),
    [
        ("whole", "x", "x"),
        ("big", "x::text", "x"),
        ("version", "x", "x"),
        ("amount", "x::text", "x"),
        ("ratio", "x", "x"),
        ("data", "x", "x"),
        ("numbers", "x::text[]", "x"),
        ("raw", "translate(encode(x, 'base64'), E'\\n', '')", "translate(encode(x, 'base64'), E'\\n', '')"),
    ],
)
def test_values_as_json(column: str, sql: str, native: str) -> None:
    assert json_value(SAMPLES.columns[column], "x", native=False) == sql
    assert json_value(SAMPLES.columns[column], "x", native=True) == native


def test_times_as_json() -> None:
    instant = (
        "case when {0} >= timestamptz '0001-01-01 00:00:00+00' and {0} < timestamptz 'infinity' "
        "then to_char({0} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') else {0}::text end"
    )
    assert json_value(SAMPLES.columns["at"], "x", native=False) == instant.format("x")
    assert json_value(SAMPLES.columns["times"], "x", native=False) == (
        f"case when x is not null then array(select {instant.format('u.v')} "
        "from unnest(x) with ordinality as u (v, n) order by u.n) end"
    )


def test_a_statement_is_generated_once_for_a_shape() -> None:
    assert page_sql([("close.gte", "1")]) is page_sql([("close.gte", "2"), ("_limit", "5")])
