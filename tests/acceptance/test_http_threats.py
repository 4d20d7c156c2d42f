"""Callers burst no table into chunks, are quoted in no log, and forge no line of one (T14, T25, T29)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx2
import pytest

from tests.support.clients.journeys import Worker
from tests.support.http.api import NOT_BEFORE, Api, Granted, bearer, new_key, plain_client, served, tick
from tests.support.http.sizes import sized
from tests.support.waiting import eventually_blocking
from tidemill.runtime.clock import SystemClock
from tidemill_devkit.stack import Stack

BOMBS = sized(60, 2_000)
CANARIES = sized(20, 1_000)
MARKET = "/api/db/market-data"
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_CHUNKS = (
    "select count(*)::int as n from timescaledb_information.chunks where hypertable_name = 'market_data'"
)
_TEXTS = """
select string_agg(j::text, ' ') as text from tm.journal j
union all select string_agg(q::text, ' ') from tm.principal_token q
"""
CONTROLS = (
    "\x1b[2J", "\x1b]0;owned\x07", "\r\nSet-Cookie: a=b", '\n{"event": "forged", "level": "info"}', "\x00", "\x07",
    "\x9b31m", "\u2028forged", "\x7f", "=cmd|' /C calc'!A0", "%0d%0aforged", "${jndi:ldap://x}", "\b" * 20,
    "\u202eforged", "{event}%s%n",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, str]]:
    folder, principals = tmp_path_factory.mktemp("http"), {"hostile": [Granted("*")]}
    own = {"TIDEMILL_LOG_LEVEL": "DEBUG", "TIDEMILL_HTTP_SLOW_QUERY_MS": "0.001"}
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, principals, servers=1, environment=own) as (
            api,
            tokens,
        ),
    ):
        yield api, tokens["hostile"]


def written(api: Api, token: str, bodies: list[dict[str, Any]]) -> list[httpx2.Response]:
    """Return the answers to writes that are sent side by side."""
    headers = bearer(token) | {"Prefer": "wait=30"}

    def write(client: httpx2.Client, body: dict[str, Any]) -> httpx2.Response:
        own = headers | {"Idempotency-Key": new_key()}
        response = eventually_blocking(
            lambda: _decided(client, f"{api.url()}{MARKET}", body, own), what="an outcome"
        )
        assert response is not None
        return response

    with plain_client() as client, ThreadPoolExecutor(8) as crowd:
        return list(crowd.map(lambda body: write(client, body), bodies))


def _decided(
    client: httpx2.Client, url: str, body: dict[str, Any], headers: dict[str, str]
) -> httpx2.Response | None:
    response = client.post(url, json=body, headers=headers)
    return None if response.status_code in {202, 503} else response


# --- T14 -------------------------------------------------------------------------------------------------------------


def test_times_scattered_over_all_years_make_no_more_chunks_than_there_are_years(
    world: tuple[Api, str], seed: int
) -> None:
    """A chunk each would exhaust the locks that all share; what is too early or too late is rejected."""
    api, token = world
    random = Random(seed)
    times = [datetime(random.randint(1, 9999), random.randint(1, 12), 1, tzinfo=UTC) for _ in range(BOMBS)]
    times += [EARLIEST + timedelta(days=random.randint(0, 9_000)) for _ in range(BOMBS)]
    latest = SystemClock().now() + timedelta(minutes=5)
    answers = written(api, token, [tick("BOMB", time=time.isoformat()) for time in times])
    for time, answer in zip(times, answers, strict=True):
        assert answer.status_code == (201 if EARLIEST <= time <= latest else 422), (time, answer.text)
    (row,) = api.deployment.installation.fetch(_CHUNKS)
    assert row["n"] <= latest.year - EARLIEST.year + 2
    assert {answer.status_code for answer in written(api, token, [tick("CALM")])} == {201}


# --- T25 and T29 -----------------------------------------------------------------------------------------------------


def processes(api: Api) -> list[Worker]:
    return [*api.servers, *api.engines]


def logs(api: Api) -> str:
    return "\n".join(worker.log.read_text(errors="surrogateescape") for worker in processes(api))


def told(api: Api) -> str:
    """Return all that processes say to operators: logs, metrics, health, the journal and the tokens that are kept."""
    pages = [
        httpx2.get(f"{worker.address}/{page}").text
        for worker in processes(api)
        for page in ("metrics", "health")
    ]
    kept = [str(row["text"]) for row in api.deployment.installation.fetch(_TEXTS)]
    return "\n".join([logs(api), *pages, *kept])


def ask_everywhere(client: httpx2.Client, text: str) -> list[httpx2.Response]:
    """Send a text in each place that a request has; most are refused."""
    asked = [
        client.post(MARKET, json=tick(text)),
        client.post(MARKET, json=tick("OK", source=text)),
        client.post(MARKET, json=tick("OK", nope=text)),
        client.post(MARKET, json=tick("OK", price=text)),
        client.post(MARKET, content=json.dumps(tick(text))[:-1]),
        client.get(MARKET, params={"time.gte": NOT_BEFORE, "symbol": text}),
        client.get(MARKET, params={"time.gte": NOT_BEFORE, text: "a"}),
        client.get(MARKET, params={"time.gte": text}),
        client.get(MARKET, params={"_sort": text}),
        client.post(f"{MARKET}/query", json={"where": {text: {"eq": text}}}),
        client.post("/api/db/commands", json={"command": text, "parameters": {}}),
        client.post("/api/db/query", json={"query": text, "parameters": {"a": text}}),
    ]
    printable = "".join(letter for letter in text if " " <= letter <= "~") or "x"
    names = ("User-Agent", "X-Correlation-Id", "Idempotency-Key", "If-Match", "Tidemill-Seen", "Prefer")
    quoted = "/api/db/latest-quotes/A"
    return asked + [client.get(quoted, headers={name: printable}) for name in names]


def test_what_callers_send_is_in_no_log_metric_or_journal(world: tuple[Api, str], seed: int) -> None:
    """Values, tokens that are valid and tokens that are not, at the lowest level of logs."""
    api, token = world
    random = Random(seed)
    canaries = [f"c4n4ry{random.randrange(10**12):012d}" for _ in range(CANARIES)]
    with api.client(token) as client:
        for canary in canaries:
            codes = {answer.status_code for answer in ask_everywhere(client, canary)}
            assert {200, 400} < codes, codes
        wrong = f"tm_0123456789_{canaries[0]}"
        assert client.get(MARKET, headers=bearer(wrong)).status_code == 401
    said = told(api)
    assert "query_slow" in said, "what is logged of a query at all"
    assert [canary for canary in canaries if canary in said] == []
    assert token.rpartition("_")[2] not in said


def test_no_text_of_a_caller_forges_or_breaks_a_line_of_a_log(world: tuple[Api, str]) -> None:
    api, token = world
    with api.client(token) as client:
        for text in CONTROLS:
            assert 500 not in {answer.status_code for answer in ask_everywhere(client, text)}, text
    said = logs(api)
    assert "forged" not in said
    unusual = {letter for letter in said if not letter.isprintable() and letter != "\n"}
    assert unusual == set()
    for line in said.splitlines():
        assert isinstance(json.loads(line), dict) if line else True
