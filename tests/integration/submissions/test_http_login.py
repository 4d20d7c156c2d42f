"""`serve http` with a login that has the role `tidemill_http` and nothing else: every route is asked once."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from tests.support.servers.databases import execute
from tests.support.servers.installation import Installation, Serving
from tests.support.waiting import HANGING_S, eventually_blocking

TICK = {"symbol": "ROLE", "time": "2026-11-30T10:00:00Z", "price": 10.5, "source": "test"}
DAY = "time.gte=2026-11-30T00:00:00Z&time.lt=2026-12-01T00:00:00Z"
BY_STATUS = {"query": "analyses-by-status", "parameters": {"user_id": "ada", "status": "running"}}
LATER = {"migrations", "transaction", "models", "search", "aggregate", "commit", "rollback"}
"""The ends of paths that are refused with 501 until a later version: none of them reaches the database."""


@dataclass
class Api:
    """The API, and which of its operations were asked."""

    address: str
    asked: set[tuple[str, str]] = field(default_factory=set)
    location: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: str = "",
        prefer: str = "",
        key: str = "",
        status: int = 200,
        **values: str,
    ) -> Any:
        """Ask an operation by its path in the description; return the answer's body."""
        self.asked.add((method, path))
        url = self.address + path.format(**values) + (f"?{query}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        more = {name: value for name, value in (("prefer", prefer), ("idempotency-key", key)) if value}
        headers = {"content-type": "application/json"} | more
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=HANGING_S) as answer:
                code, text, self.headers = answer.status, answer.read(), answer.headers
                self.location = answer.headers.get("location", "")
        except urllib.error.HTTPError as error:
            with error:
                code, text = error.code, error.read()
        assert code == status, (method, url, code, text)
        return json.loads(text) if text.startswith(b"{") else text


@pytest.fixture
def login(served: Installation, unique_name: Callable[[str], str]) -> Iterator[str]:
    name = unique_name("http")
    execute(served.database, f"create role \"{name}\" login password 'l0gin' in role tidemill_http")
    parts = urlsplit(served.database)
    yield parts._replace(netloc=f"{name}:l0gin@{parts.hostname}:{parts.port}").geturl()
    kick = f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{name}'"
    execute(served.database, kick, f'drop role "{name}"')


@pytest.fixture
def serving(served: Installation, login: str) -> Iterator[Serving]:
    # Nowhere: a statement that took the service's login would fail.
    nowhere = urlsplit(login)._replace(netloc="nobody:nothing@127.0.0.1:1").geturl()
    logins = {"TIDEMILL_DATABASE_HTTP_URL": login, "TIDEMILL_DATABASE_URL": nowhere}
    with served.serving("http", **logins) as serving:
        eventually_blocking(lambda: _addresses(serving), what="the address of the API")
        yield serving


@pytest.fixture
def asked(serving: Serving) -> Api:
    return Api(_addresses(serving)[0])


def _addresses(serving: Serving) -> list[str]:
    return [line["address"] for line in serving.lines() if line.get("event") == "http_served"]


def test_every_route_is_served_with_the_rights_of_its_role(asked: Api, serving: Serving) -> None:
    unprotected = [line["level"] for line in serving.lines() if line.get("event") == "http_unprotected"]
    assert unprotected == ["warning"], "without principals everybody may do everything: it says so"
    _writes(asked)
    _reads(asked)
    _service(asked)
    described = asked("GET", "/openapi.json")["paths"]
    operations = {(method.upper(), path) for path, item in described.items() for method in item}
    assert {(method, path) for method, path in operations - asked.asked if not _is_later(path)} == set()


def test_without_principals_each_answer_says_who_is_served(asked: Api) -> None:
    asked("GET", "/api/db/{collection}/count", query=DAY, collection="market-data")
    assert asked.headers["tidemill-principal"] == "development"
    asked("GET", "/livez")
    assert "tidemill-principal" not in asked.headers, "what is open to all serves nobody"


def test_a_key_that_was_made_is_told_although_the_outcome_is_not_known_and_repeats_the_write(
    asked: Api,
) -> None:
    unknown = TICK | {"source": uuid4().hex}
    asked("POST", "/api/db/{collection}", unknown, prefer="wait=0", status=202, collection="market-data")
    key = asked.headers["idempotency-key"]
    assert UUID(key).version == 7
    once: dict[str, Any] = {"collection": "market-data", "query": f"{DAY}&source={unknown['source']}"}
    asked(
        "POST",
        "/api/db/{collection}",
        unknown,
        prefer="wait=30",
        key=key,
        status=201,
        collection="market-data",
    )
    assert asked.headers["idempotency-key"] == key
    assert asked("GET", "/api/db/{collection}/count", **once)["count"] == 1


def _is_later(path: str) -> bool:
    return path.rsplit("/", 1)[-1] in LATER or path.endswith("{transaction_id}")


def _writes(asked: Api) -> None:
    asked("POST", "/api/db/{collection}", TICK, status=201, collection="market-data")
    command: dict[str, Any] = {
        "command": "RecordMarketData",
        "parameters": TICK | {"price": 11},
        "command_id": str(uuid4()),
    }
    asked("POST", "/api/db/commands", command)
    asked("GET", "/api/db/commands/{command_id}", command_id=command["command_id"])
    config = {"name": uuid4().hex, "config_data": {"a": 1}}
    one: dict[str, Any] = {"collection": "client-configs"}
    asked("POST", "/api/db/{collection}", config, status=201, **one)
    one["id"] = asked.location.rsplit("/", 1)[-1]
    asked("PATCH", "/api/db/{collection}/{id}", {"name": "other"}, **one)
    asked("PUT", "/api/db/{collection}/{id}", config, **one)
    asked("GET", "/api/db/{collection}/{id}", **one)
    asked("DELETE", "/api/db/{collection}/{id}", **one)


def _reads(asked: Api) -> None:
    facts: dict[str, Any] = {"query": DAY, "collection": "market-data"}
    assert "ROLE" in json.dumps(asked("GET", "/api/db/{collection}", **facts)["data"])
    asked("GET", "/api/db/{collection}/count", **facts)
    for schema in asked("GET", "/api/db/schema")["collections"]:
        one = {"collection": schema["name"]}
        asked("GET", "/api/db/schema/{collection}", **one)
        if schema["kind"] != "facts":
            asked("POST", "/api/db/{collection}/query", {}, **one)
            asked("GET", "/api/db/{collection}/count", **one)
    asked("GET", "/api/db/query")
    asked("POST", "/api/db/query", BY_STATUS)


def _service(asked: Api) -> None:
    for name in ("migrations", "migrations/status", "stats", "health", "performance", "connections"):
        asked("GET", f"/api/db/{name}")
    for path in ("/livez", "/readyz", "/docs"):
        asked("GET", path)
