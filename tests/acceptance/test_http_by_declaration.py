"""Articles, cache entries and time series over HTTP, by what their contexts declare and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.support.http.api import Api, Granted, new_key, served
from tests.support.waiting import eventually_blocking
from tidemill.domain.identity import fact_id
from tidemill.runtime.clock import SystemClock
from tidemill_devkit.stack import Stack

CONTEXTS = "news_articles,cache_entries,time_series"
WAITING = {"Prefer": "wait=30"}
SWEPT = """
select l.command_id::text as id, l.service from tm.log l join tm.outbox o using (lane, position)
where l.type = 'tidemill.cache_entries.ExpireCacheEntry' and convert_from(o.key, 'utf8') = $1 order by l.at
"""


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, httpx2.Client]]:
    """A deployment that looks often for rows whose time is over, and demands ids where none follows from fields.

    It demands If-Match, too. Its outbox is in rows, in which a test looks keys up.
    """
    own = {
        "TIDEMILL_CONTEXTS": CONTEXTS,
        "TIDEMILL_COMMANDS_EXPIRY_EVERY_S": "0.2",
        "TIDEMILL_HTTP_DEMAND_IDEMPOTENCY_KEY": "true",
        "TIDEMILL_HTTP_DEMAND_IF_MATCH": "true",
    }
    folder, principals = tmp_path_factory.mktemp("http"), {"crawler": [Granted("*")]}
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, principals, servers=1, environment=own) as (
            api,
            tokens,
        ),
        api.client(tokens["crawler"]) as client,
    ):
        api.deployment.installation("generations", "use", "rows")
        yield api, client


def article(name: str, **fields: Any) -> dict[str, Any]:
    given = {"source": "wire", "url": f"https://example.org/{name}", "title": f"Tides of {name}"}
    return {"time": "2026-01-05T09:00:00Z", **given, "body": "High water at noon.", **fields}


def article_id(name: str) -> str:
    return fact_id("tidemill.news_articles.RecordNewsArticle", ["wire", f"https://example.org/{name}"])


def recorded(client: httpx2.Client, name: str, **headers: str) -> tuple[str, str]:
    """Send an article; return the outcome and the id that the answer names."""
    answer = client.post("/api/db/news-articles", json=article(name), headers=WAITING | headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["command_id"] == answer.headers["idempotency-key"]
    return answer.headers["tidemill-outcome"], answer.headers["idempotency-key"]


def count(client: httpx2.Client, name: str) -> int:
    where = {"url": f"https://example.org/{name}", "time.gte": "2026-01-01T00:00:00Z"}
    answer = client.get("/api/db/news-articles/count", params=where)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["count"])


def test_an_article_that_is_sent_again_without_a_key_is_known(world: tuple[Api, httpx2.Client]) -> None:
    api, client = world
    assert recorded(client, "again") == ("applied", article_id("again"))
    assert recorded(client, "again") == ("duplicate", article_id("again"))
    line = json.dumps(article("again"))
    published = json.loads(
        api.deployment("publish", "RecordNewsArticle", "-", "--wait", "--json", stdin=line).out
    )
    assert (published["command_id"], published["outcome"]) == (article_id("again"), "duplicate")
    assert count(client, "again") == 1
    command = {"command": "RecordNewsArticle", "parameters": article("again")}
    named = client.post("/api/db/commands", json=command, headers=WAITING)
    assert (named.headers["tidemill-outcome"], named.headers["idempotency-key"]) == (
        "duplicate",
        article_id("again"),
    )


def test_a_key_that_is_sent_counts_and_so_the_article_is_recorded_once_for_each(
    world: tuple[Api, httpx2.Client],
) -> None:
    _, client = world
    key = new_key()
    assert recorded(client, "keyed", **{"Idempotency-Key": key}) == ("applied", key)
    assert recorded(client, "keyed", **{"Idempotency-Key": key}) == ("duplicate", key)
    assert recorded(client, "keyed") == ("applied", article_id("keyed"))
    assert count(client, "keyed") == 2


def test_an_article_that_changed_is_refused_under_its_id(world: tuple[Api, httpx2.Client]) -> None:
    _, client = world
    recorded(client, "changed")
    changed = article("changed", body="High water at one.")
    answer = client.post("/api/db/news-articles", json=changed, headers=WAITING)
    assert (answer.status_code, answer.json()["code"]) == (422, "ID_REUSE")


def test_lines_of_articles_need_no_key(world: tuple[Api, httpx2.Client]) -> None:
    _, client = world
    body = "\n".join(json.dumps(article(name)) for name in ("one", "two", "one"))
    headers = WAITING | {"Content-Type": "application/x-ndjson"}
    for expected in (["applied", "applied", "duplicate"], ["duplicate"] * 3):
        answer = client.post("/api/db/news-articles", content=body, headers=headers)
        assert answer.status_code == 200, answer.text
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["command_id"] for line in lines] == [*map(article_id, ("one", "two", "one"))]
        assert [line["outcome"] for line in lines] == expected
    assert (count(client, "one"), count(client, "two")) == (1, 1)


def test_articles_are_found_by_words_and_by_what_they_are_about(world: tuple[Api, httpx2.Client]) -> None:
    _, client = world
    body = article("words", title="Neap tides", symbols={"PIER": {"kind": "port"}}, sentiment_score=-0.5)
    assert client.post("/api/db/news-articles", json=body, headers=WAITING).status_code == 201
    span = {"since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"}
    for name, asked in (
        ("articles-with-words", {"words": "NEAP water"}),
        ("articles-about", {"symbol": "PIER"}),
    ):
        answer = client.post("/api/db/query", json={"query": name, "parameters": asked | span})
        assert answer.status_code == 200, answer.text
        (row,) = answer.json()["data"]["rows"]
        assert (row["title"], row["symbols"], row["sentiment_score"]) == (
            "Neap tides",
            {"PIER": {"kind": "port"}},
            -0.5,
        )


def test_an_entry_lives_until_its_time_and_is_removed_by_a_command_of_the_service(
    world: tuple[Api, httpx2.Client],
) -> None:
    api, client = world
    stays = entry(client, "stays", timedelta(days=1))
    assert stays.status_code == 201
    assert client.get("/api/db/cache-entries/stays").json()["value"] == {"n": 1}
    assert entry(client, "stays", timedelta(days=1)).json()["code"] == "ALREADY_EXISTS"
    assert entry(client, "over", -timedelta(seconds=1)).json()["code"] == "EXPIRED"
    short_entry(client, "ends")
    eventually_blocking(
        lambda: client.get("/api/db/cache-entries/ends").status_code == 404, what="the end of an entry"
    )
    listed = client.get("/api/db/cache-entries").json()["data"]["rows"]
    assert [row["id"] for row in listed] == ["stays"]
    assert client.get("/api/db/cache-entries/count").json()["count"] == 1
    eventually_blocking(lambda: removals(api, "ends"), what="a command that removes it")
    again = entry(client, "ends", timedelta(days=1), value={"n": 2})
    assert again.status_code == 201, again.text
    assert client.get("/api/db/cache-entries/ends").json()["version"] == 3


def test_the_ledger_the_log_and_the_read_model_know_of_what_was_removed(
    world: tuple[Api, httpx2.Client],
) -> None:
    api, client = world
    short_entry(client, "checked")
    removed = eventually_blocking(lambda: removals(api, "checked"), what="a row to be removed")[0]
    assert removed["service"] == "tidemill.expiry"
    (shown,) = api.deployment("command", "show", removed["id"], "--json").json()
    assert shown["outcome"] == "applied"
    api.deployment("audit", "--wait", "60")
    api.deployment("projections", "verify", "cache-entries")


def test_where_keys_are_demanded_a_write_without_one_is_refused(world: tuple[Api, httpx2.Client]) -> None:
    _, client = world
    ends = (SystemClock().now() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    body = {"cache_entry_id": "keyless", "value": {"n": 1}, "expires_at": ends}
    refused = client.post("/api/db/cache-entries", json=body, headers=WAITING)
    assert (refused.status_code, refused.json()["code"]) == (400, "KEY_REQUIRED")
    assert refused.json()["errors"][0]["header"] == "Idempotency-Key"
    assert client.get("/api/db/cache-entries/keyless").status_code == 404
    with_id = client.post("/api/db/cache-entries", json=body | {"command_id": new_key()}, headers=WAITING)
    assert with_id.status_code == 201, "the id of a command is its key"


def test_where_if_match_is_demanded_a_change_without_it_is_refused(
    world: tuple[Api, httpx2.Client],
) -> None:
    _, client = world
    assert entry(client, "matched", timedelta(days=1)).status_code == 201
    url = "/api/db/cache-entries/matched"

    def changed(method: str, body: dict[str, Any] | None, **headers: str) -> httpx2.Response:
        own = WAITING | {"Idempotency-Key": new_key()} | headers
        return client.request(method, url, json=body, headers=own)

    for method, body in (("PATCH", {"value": {"n": 2}}), ("PUT", {"value": {"n": 2}}), ("DELETE", None)):
        refused = changed(method, body)
        assert (refused.status_code, refused.json()["code"]) == (428, "MATCH_REQUIRED"), refused.text
        assert refused.json()["errors"][0]["header"] == "If-Match"
    read = client.get(url)
    assert read.json()["value"] == {"n": 1}
    patched = changed("PATCH", {"value": {"n": 3}}, **{"If-Match": read.headers["etag"]})
    assert patched.status_code == 200, patched.text
    assert changed("DELETE", None, **{"If-Match": "*"}).status_code == 200
    description = client.get("/openapi.json").json()
    assert "428" in description["paths"]["/api/db/{collection}/{id}"]["patch"]["responses"]


def entry(client: httpx2.Client, key: str, lives: timedelta, value: Any = None) -> httpx2.Response:
    ends = (SystemClock().now() + lives).isoformat().replace("+00:00", "Z")
    body = {"cache_entry_id": key, "value": value or {"n": 1}, "expires_at": ends}
    return client.post("/api/db/cache-entries", json=body, headers=WAITING | {"Idempotency-Key": new_key()})


def short_entry(client: httpx2.Client, key: str) -> None:
    """Create an entry that ends as soon as this machine can create one that has not ended before."""
    for seconds in (1, 4, 16, 64):
        answer = entry(client, key, timedelta(seconds=seconds))
        if answer.status_code == 201:
            return
        assert answer.json()["code"] == "EXPIRED", answer.text
    raise AssertionError("this machine creates no entry within a minute")


def removals(api: Api, key: str) -> list[Any]:
    """Return the commands that removed an entry, in order."""
    return api.deployment.installation.fetch(SWEPT, key)


# --- time series -----------------------------------------------------------------------------------------------------

POINTS: dict[str, Any] = {
    "column_names": ["open"],
    "columns": [0, 0, 0],
    "values": [1.5, None, -0.0],
    "times": ["2026-01-05T09:00:00.000000Z", "2026-01-05T09:00:01.000000Z", "2026-01-05T09:00:02.000001Z"],
}


def posted(client: httpx2.Client, path: str, body: dict[str, Any]) -> httpx2.Response:
    return client.post(f"/api/db/{path}", json=body, headers=WAITING | {"Idempotency-Key": new_key()})


def points_of(client: httpx2.Client, series: str, seen: str) -> list[list[Any]]:
    where = {"time_series_id": series, "timestamp.gte": "2026-01-01T00:00:00Z", "_sort": "timestamp"}
    answer = client.get(
        "/api/db/time-series-data-points", params=where, headers=WAITING | {"Tidemill-Seen": seen}
    )
    assert answer.status_code == 200, answer.text
    rows = json.loads(answer.text, parse_int=float)["data"][
        "rows"
    ]  # as text, since Python drops the sign of -0
    return [[row["timestamp"], row["value"]] for row in rows]


def test_a_series_is_created_saved_appended_to_and_read_as_it_was_sent(
    world: tuple[Api, httpx2.Client],
) -> None:
    _, client = world
    created = {"time_series_id": "s", "time_column": "date", "value_columns": ["open"]}
    assert posted(client, "time-series-metadata", created).status_code == 201
    both = {"time_series_id": "s", **POINTS}
    saved = posted(client, "commands", {"command": "SaveTimeSeriesPoints", "parameters": both})
    sent = [[time, value] for time, value in zip(POINTS["times"], POINTS["values"], strict=True)]
    read = points_of(client, "s", saved.headers["tidemill-seen"])
    assert read == sent
    assert [str(value) for _, value in read] == ["1.5", "None", "-0.0"]
    late = {"time_series_id": "s", "column_names": ["open"], "columns": [0], "values": [2.0]}
    appended = posted(client, "time-series-data-points", late | {"times": ["2026-01-05T08:00:00.000000Z"]})
    assert points_of(client, "s", appended.headers["tidemill-seen"]) == [
        ["2026-01-05T08:00:00.000000Z", 2.0],
        *sent,
    ]
    assert client.get("/api/db/time-series-metadata/s").json()["value_columns"] == ["open"]


@pytest.mark.parametrize(
    ("path", "body", "where", "detail"),
    [
        (
            "time-series-metadata",
            {"time_column": "date", "value_columns": '["open"]'},
            "/value_columns",
            "must be a JSON object or array, embedded and not as text",
        ),
        (
            "time-series-data-points",
            {"time_series_id": "s", **POINTS, "times": ["2026-01-05T09:00:00.123456789Z"] * 3},
            "/times/0",
            "is finer than a microsecond: round it",
        ),
    ],
)
def test_what_would_not_come_back_as_it_was_sent_is_refused(
    world: tuple[Api, httpx2.Client], path: str, body: dict[str, Any], where: str, detail: str
) -> None:
    _, client = world
    answer = posted(client, path, body)
    assert answer.status_code == 400
    faults = {fault["pointer"]: fault["detail"] for fault in answer.json()["errors"]}
    assert faults[where] == detail


def test_a_series_that_does_not_exist_takes_no_points(world: tuple[Api, httpx2.Client]) -> None:
    _, client = world
    answer = posted(client, "time-series-data-points", {"time_series_id": "none", **POINTS})
    assert answer.json()["code"] == "NO_SERIES"
    assert answer.json()["advice"].startswith("no series in force has this id")
