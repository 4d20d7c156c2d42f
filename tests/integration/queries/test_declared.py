"""Declared queries on the real database: what fits is found out by planning, and every shipped one uses an index."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.support.servers.databases import execute
from tidemill.app.context_loader import load_contexts
from tidemill.app.deployment import Deployment
from tidemill.domain.errors import RequestRefused
from tidemill.domain.query import Query
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.cursors import Cursors
from tidemill.queries.declared import DeclaredQueries
from tidemill.settings import Settings
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.queries.declared import DeclaredQueryDatabase

CONTEXTS = "users,data_analyses,tool_generations,system_logs,news_articles,telemetry_events,time_series"
CATALOG = Deployment.of(Settings(), load_contexts(CONTEXTS)).catalog
TABLES = {name: model.table for name, model in CATALOG.readable().items()}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

ROWS = (
    """
    insert into data_analyses (id, service_name, user_id, name, kind, parameters, status, deleted, version, created_at,
                               updated_at)
    select 'a' || n, 's', 'u' || n % 500, 'n', 'k', '{}', (array['queued', 'running', 'completed'])[n % 3 + 1],
           n % 7 = 0, 1, timestamptz '2026-01-01 12:00Z' + n * interval '1 second', now()
    from generate_series(1, 20000) n
    """,
    """
    insert into analysis_files (id, service_name, data_analysis_id, filename, file_type, size_bytes, sha256, location,
                                deleted, version, created_at, updated_at)
    select 'f' || n, 's', 'a' || n % 5000, 'f' || n, 'text/csv', 9007199254740993, 'x', 'l', false, 1, now(), now()
    from generate_series(1, 20000) n
    """,
    """
    insert into tool_generations (id, service_name, user_id, tool_type, prompt, parameters, status, deleted, version,
                                  created_at, updated_at)
    select 't' || n, 's', 'u' || n % 500, (array['map', 'chart'])[n % 2 + 1], 'p', '{"a": [1.50]}', 'queued', false, 1,
           now(), now()
    from generate_series(1, 20000) n
    """,
    """
    insert into system_logs (time, service, level, message, details, command_id)
    select timestamptz '2026-01-01 12:00Z' + n * interval '1 minute', 's' || n % 50,
           (array['info', 'error'])[n / 50 % 2 + 1], 'm' || n, '{}', gen_random_uuid()
    from generate_series(1, 20000) n
    """,
    """
    insert into news_articles (time, source, url, title, body, symbols, command_id)
    select timestamptz '2026-01-01 12:00Z' + n * interval '1 minute', 's' || n % 50, 'u' || n, 'title ' || n,
           'word' || n % 200 || ' and more', jsonb_build_object('S' || n % 400, '{}'::jsonb), gen_random_uuid()
    from generate_series(1, 20000) n
    """,
    """
    insert into telemetry_events (time, source, name, value, attributes, command_id)
    select timestamptz '2026-01-01 12:00Z' + n * interval '1 minute', 's' || n % 50, 'n', n, '{}', gen_random_uuid()
    from generate_series(1, 20000) n
    """,
    """
    insert into time_series_metadata (id, service_name, time_column, value_columns, axis, revision, points,
                                      newest_revision, open_points, deleted, version, created_at, updated_at)
    select 's' || n, 's', 'date', '["open"]', 'datetime', 1, 0, 1, 0, n = 2, 1, now(), now()
    from generate_series(0, 49) n
    """,
    """
    insert into time_series_data_points (timestamp, time_series_id, column_name, value, revision, number)
    select timestamptz '2026-01-01 12:00Z' + n * interval '1 minute', 's' || n % 50,
           (array['open', 'close'])[n / 50 % 2 + 1], nullif(n, 1), n / 100 % 2, n
    from generate_series(1, 20000) n
    """,
    """
    insert into time_series_numeric_points (float_position, time_series_id, column_name, value, revision, number)
    select n, 's' || n % 50, (array['open', 'close'])[n / 50 % 2 + 1], n, n / 100 % 2, n
    from generate_series(1, 20000) n
    """,
    "analyze time_series_metadata",
    "analyze time_series_data_points",
    "analyze time_series_numeric_points",
    "analyze data_analyses",
    "analyze analysis_files",
    "analyze tool_generations",
    "analyze system_logs",
    "analyze news_articles",
    "analyze telemetry_events",
)

BY_REVISION = "idx_time_series_numeric_points_series_column_revision"
SERIES = {"time_series_id": "s1", "column_name": "open"}
SPAN = {"since": NOON, "until": datetime(2026, 1, 3, 12, tzinfo=UTC)}
SHIPPED: list[tuple[str, dict[str, Any], str, int]] = [
    (
        "analyses-by-status",
        {"user_id": "u1", "status": "queued"},
        "data_analyses_user_id_status_created_at",
        11,
    ),
    ("recent-analyses", {"user_id": "u1", "since": NOON}, "data_analyses_user_id_status_created_at", 34),
    ("files-of-analysis", {"data_analysis_id": "a1"}, "analysis_files_data_analysis_id", 4),
    (
        "tools-by-type",
        {"user_id": "u1", "status": "queued", "tool_type": "chart"},
        "tool_generations_user_id_status_tool_type",
        40,
    ),
    (
        "log-lines",
        {"service": "s1", "level": "error", "since": NOON, "until": datetime(2026, 1, 8, tzinfo=UTC)},
        "system_logs_service_level_time",
        94,
    ),
    (
        "telemetry-by-hour",
        {"source": "s1", "name": "n", "since": NOON, "until": datetime(2026, 1, 2, tzinfo=UTC)},
        "telemetry_events_source_name_time",
        12,
    ),
    (
        "articles-with-words",
        {"words": "Word7 title", "since": NOON, "until": datetime(2026, 1, 8, tzinfo=UTC)},
        "news_articles_words",
        47,
    ),
    (
        "articles-about",
        {"symbol": "S7", "since": NOON, "until": datetime(2026, 1, 8, tzinfo=UTC)},
        "news_articles_symbols",
        24,
    ),
    ("points-of-series", SERIES | SPAN, "idx_time_series_data_points_series_column_time", 14),
    (
        "series-by-bucket",
        SERIES | SPAN | {"bucket_s": 86400.0},
        "idx_time_series_data_points_series_column_time",
        3,
    ),
    ("numeric-points-of-series", SERIES, BY_REVISION, 100),
    ("float-points-of-series", SERIES | {"since": 0.0, "until": 10_000.0}, BY_REVISION, 50),
    ("integer-points-of-series", SERIES | {"since": 0, "until": 10_000}, BY_REVISION, 0),
    ("float-series-by-bucket", SERIES | {"since": 0.0, "until": 10_000.0, "width": 1_000.0}, BY_REVISION, 10),
    ("integer-series-by-bucket", SERIES | {"since": 0, "until": 9, "width": Decimal(3)}, BY_REVISION, 0),
]


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    as_reader = f"{database}?role=tidemill_reader"
    made = await create_pool(as_reader, application_name="tidemill-tests", size=2, writes=False)
    yield made
    await close_pool(made)


def queries(pool: Pool, *declared: Query) -> DeclaredQueries:
    chosen = {query.name: query for query in declared} if declared else CATALOG.queries()
    return DeclaredQueries(chosen, TABLES, DeclaredQueryDatabase(pool))


def indexes(plan: Any) -> set[str]:
    nodes, names = [plan], set()
    while nodes:
        node = nodes.pop()
        names |= {node["Index Name"]} if "Index Name" in node else set()
        nodes += node.get("Plans", [])
    return names


async def test_every_shipped_query_fits_and_uses_its_index(pool: Pool, database: str) -> None:
    execute(database, *ROWS)
    asked = queries(pool)
    assert await asked.check() == {}
    assert {name for name, *_ in SHIPPED} == CATALOG.queries().keys()
    for name, values, index, expected in SHIPPED:
        query = CATALOG.queries()[name]
        plan = await pool.fetchval(f"explain (format json) {query.statement}", *values.values())
        assert any(index in used for used in indexes(json.loads(plan)[0]["Plan"])), (name, plan)
        texts = {
            key: value.isoformat() if isinstance(value, datetime) else str(value)
            for key, value in values.items()
        }
        answer = await asked.run(name, texts, limit=1000)
        assert (name, len(answer.rows), answer.more) == (name, expected, False)
        assert [list(row) for row in json.loads(answer.json)] == [list(query.returns)] * expected


async def test_rows_are_json_of_the_declared_types_in_their_order(pool: Pool, database: str) -> None:
    execute(database, *ROWS)
    asked = queries(pool)
    files = await asked.run("files-of-analysis", {"data_analysis_id": "a1"}, limit=2)
    assert files.more
    assert json.loads(files.rows[0])["size_bytes"] == "9007199254740993"
    recent = await asked.run("recent-analyses", {"user_id": "u1", "since": "2026-01-01T12:00:00Z"}, limit=1)
    assert json.loads(recent.rows[0]) | {"id": "a19501"} == json.loads(recent.rows[0])
    assert '"created_at":"2026-01-01T17:25:01.000000Z","finished_at":null' in recent.rows[0]
    tools = await asked.run("tools-by-type", SHIPPED[3][1], limit=1)
    assert '"parameters":{"a": [1.50]}' in tools.rows[0]


async def test_every_type_is_bound_and_returned(pool: Pool) -> None:
    every = Query(
        "every-type",
        "select :t as t, :i as i, :f as f, :b as b, :n as n, :at as at, :d as d, :u as u, to_jsonb(:i) as j, "
        "timestamptz 'infinity' as late, float8 'NaN' as nan from users_view right join (select 1) x on false",
        parameters={"t": str, "i": int, "f": float, "b": bool, "n": Decimal, "at": datetime, "d": date, "u": UUID},
        returns={
            "t": str, "i": int, "f": float, "b": bool, "n": Decimal, "at": datetime, "d": date, "u": UUID, "j": dict,
            "late": datetime, "nan": float,
        },
        reads=("users",),
    )  # fmt: skip
    values = {
        "t": "a'\"", "i": 2**62, "f": 0.1, "b": True, "n": "1.10", "at": "2026-01-01T00:00:00+02:00",
        "d": "2026-01-01", "u": "00000000-0000-0000-0000-00000000000A",
    }  # fmt: skip
    asked = queries(pool, every)
    assert await asked.check() == {}
    (row,) = (await asked.run("every-type", values)).rows
    assert json.loads(row) == {
        "t": "a'\"", "i": str(2**62), "f": 0.1, "b": True, "n": "1.10", "at": "2025-12-31T22:00:00.000000Z",
        "d": "2026-01-01", "u": "00000000-0000-0000-0000-00000000000a", "j": 2**62, "late": "infinity", "nan": "NaN",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("points-of-series", SERIES | SPAN),
        ("numeric-points-of-series", SERIES),
        ("float-points-of-series", SERIES | {"since": 0.0, "until": 1e9}),
        ("float-series-by-bucket", SERIES | {"since": 0.0, "until": 1e9, "width": 1_000.0}),
    ],
)
async def test_pages_give_each_row_once_in_the_order_of_the_whole(
    pool: Pool, database: str, name: str, values: dict[str, Any]
) -> None:
    """The numeric axis has a column that is null in all rows, since the series has the other one."""
    execute(database, *ROWS)
    query = CATALOG.queries()[name]
    asked = DeclaredQueries({name: query}, TABLES, DeclaredQueryDatabase(pool), Cursors(b"k"))
    texts = {
        key: value.isoformat() if isinstance(value, datetime) else str(value) for key, value in values.items()
    }
    whole = await asked.run(name, texts, limit=1_000)
    pages: list[str] = []
    cursor = None
    while True:
        page = await asked.run(name, texts, limit=3, after=cursor)
        pages += page.rows
        cursor = page.next
        if cursor is None:
            break
    assert len(whole.rows) > 9
    assert pages == list(whole.rows)


async def test_rows_with_equal_times_are_told_apart_by_their_numbers(pool: Pool, database: str) -> None:
    same = "update time_series_data_points set timestamp = '2026-01-02' where timestamp > '2026-01-02'"
    execute(database, *ROWS, same)
    asked = queries(pool, CATALOG.queries()["points-of-series"])
    texts = SERIES | {"since": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}
    walked = await asked.walk("points-of-series", texts, 10_000)
    numbers = [json.loads(row)["number"] for row in walked.rows]
    assert (len(numbers), len(set(numbers))) == (100, 100)


USERS = Query("a", "select id from users_view", returns={"id": str}, reads=("users",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sql": "select id from nowhere"}, 'relation "nowhere" does not exist'),
        ({"sql": "select nothing as id from users_view"}, 'column "nothing" does not exist'),
        ({"sql": "select id from users"}, "permission denied for table users"),
        ({"sql": "select id, email from users_view"}, "it returns id, email, and declares id"),
        ({"sql": "select version as id from users_view"}, "its column id is int8, declared is str"),
        ({"sql": "select id from users_view where"}, "syntax error"),
        ({"sql": "select id from data_analyses_view"}, "it reads data_analyses, data_analyses_view, which"),
        (
            {"sql": "select id from analysis_files_view where id in (select id from data_analyses_view)",
             "reads": ("analysis-files",)},
            "it reads data_analyses_view, which",
        ),
        ({"sql": "select service as id from system_logs"}, "it reads system_logs, which"),
        ({"sql": "delete from users_view returning id"}, "syntax error"),
        ({"sql": "select id from users_view) q; select (1"}, ""),
        ({"reads": ("users", "gone")}, "there is no collection gone"),
    ],
)  # fmt: skip
async def test_a_query_that_does_not_fit_is_stopped_by_name(
    pool: Pool, database: str, changes: dict[str, Any], said: str
) -> None:
    if ";" in changes.get("sql", ""):
        with pytest.raises(Exception, match="must be one statement"):
            replace(USERS, **changes)
        return
    asked = queries(pool, replace(USERS, **changes), replace(USERS, name="b"))
    faults = await asked.check()
    assert list(faults) == ["a"]
    assert said in faults["a"]
    with pytest.raises(RequestRefused) as refused:
        await asked.run("a", {})
    assert refused.value.code is RequestCode.QUERY_UNFIT
    assert "users" not in refused.value.detail
    assert (await asked.run("b", {})).rows == []


async def test_a_hypertable_and_what_views_are_made_of_are_read_under_their_collections(pool: Pool) -> None:
    both = Query(
        "both",
        "select f.id from analysis_files_view f join data_analyses_view a on a.id = f.data_analysis_id "
        "where exists (select from system_logs where service = f.id)",
        returns={"id": str},
        reads=("analysis-files", "data-analyses", "system-logs"),
    )
    assert await queries(pool, both).check() == {}


async def test_a_query_that_broke_after_the_check_is_refused(pool: Pool, database: str) -> None:
    asked = queries(pool, USERS)
    assert await asked.check() == {}
    execute(database, "alter view users_view rename column id to key")
    with pytest.raises(RequestRefused) as refused:
        await asked.run("a", {})
    assert refused.value.code is RequestCode.QUERY_UNFIT


async def test_nothing_is_written_and_time_is_bounded(pool: Pool, database: str) -> None:
    writing = replace(USERS, sql="select set_config('a.b', nextval('s')::text, false) as id from users_view")
    execute(
        database, "create sequence s", "grant usage on s to tidemill_reader",
        "insert into users select 'a', 's', 'u', 'e', 'h', null, true, 'u', 'e', false, 1, now(), now()",
    )  # fmt: skip
    with pytest.raises(RequestRefused) as refused:
        await queries(pool, writing).run("a", {})
    assert refused.value.code is RequestCode.QUERY_UNFIT
    assert "cannot execute nextval() in a read-only" in str(refused.value.__cause__)
    locking = await asyncpg.connect(database)
    asked = queries(pool, USERS)
    await asked.check()
    async with locking.transaction():
        await locking.execute("lock table users in access exclusive mode")
        with pytest.raises(RequestRefused) as refused:
            await asked.run("a", {}, timeout_s=0.1)
    assert refused.value.code is RequestCode.QUERY_TIMEOUT
    await locking.close()


async def test_a_value_that_the_server_refuses_is_the_senders(pool: Pool) -> None:
    dividing = replace(
        USERS, sql="select (1 / :n)::text as id from (select 1) one left join users_view on true",
        parameters={"n": int},
    )  # fmt: skip
    with pytest.raises(RequestRefused) as refused:
        await queries(pool, dividing).run("a", {"n": 0})
    assert refused.value.code is RequestCode.BAD_VALUE
