"""Clients leave while they wait: nothing of theirs goes on in the database, and what they wrote counts once."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from random import Random
from typing import Any

import httpx2
import pytest

from tests.support.http.api import NOT_BEFORE, Api, Granted, bearer, new_key, served, tick
from tests.support.http.leaving import Leave, LeavingClient, locked, open_connections
from tests.support.http.sizes import sized
from tests.support.waiting import eventually_blocking
from tidemill_devkit.stack import Stack

CLIENTS = sized(60, 500)
AT_ONCE = 60
"""How many are connected before the first of them leaves."""

PATIENT = "acquire_s=60,size=4"
OWN = {
    "TIDEMILL_CONTEXTS": "market_data,client_configs",
    "TIDEMILL_SECRET_KEYS": "tests:" + b64encode(bytes(32)).decode(),
    "TIDEMILL_HTTP_TIMEOUT_S": "30",
    "TIDEMILL_HTTP_SLOW_QUERY_MS": "1",
    "TIDEMILL_HTTP_POOL_PAGE": PATIENT,
    "TIDEMILL_HTTP_POOL_COUNT": PATIENT,
}
"""What takes long may take as long as can be set; a query that ended by itself then is in the log, with a code."""

LEAVES = (Leave.CLOSE, Leave.CLOSE, Leave.RESET, Leave.RESET, Leave.HALF)
KINDS = ("page", "query", "count", "wait", "write")
MARKET = "/api/db/market-data"
_WAITING = """
select application_name as name, count(*)::int as queries from pg_stat_activity
where datname = current_database() and state = 'active' and application_name like 'tidemill http %' group by 1
"""
_LOGGED = "select command_id::text as id from tm.log where command_id::text = any($1)"


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, str]]:
    """Commands are processed, and nothing is projected: who waits for a read model waits until it leaves."""
    folder = tmp_path_factory.mktemp("http")
    principals = {"hasty": [Granted("*", ("read", "create", "operate"))]}
    with (
        new_database() as database,
        served(
            stack, database, unique_name("http"), folder, principals, servers=1, engine=False, environment=OWN
        ) as (api, tokens),
    ):
        api.engines.append(api.deployment.start("commands"))
        yield api, tokens["hasty"]


class Crowd:
    """Clients of one process, who have seen what no read model shows yet. `keys`: those of whole writes."""

    def __init__(self, api: Api, token: str, random: Random, seen: str) -> None:
        self._api = api
        self._token = token
        self._random = random
        self._seen = seen
        self.keys: dict[str, Leave] = {}
        self.asked: Counter[str] = Counter()

    def arrive(self, number: int) -> LeavingClient:
        """Ask for something that takes long."""
        kind, leave = KINDS[number % len(KINDS)], self._random.choice(LEAVES)
        self.asked[f"{kind}, {leave}"] += 1
        span = f"time.gte={NOT_BEFORE}"
        if kind == "write":
            key = new_key()
            self.keys[key] = leave
            body = tick("LEFT", price=float(number))
            return self._ask(leave, "POST", MARKET, {"Idempotency-Key": key, "Prefer": "wait=30"}, body)
        if kind == "query":
            where = {"time": {"gte": NOT_BEFORE}}
            return self._ask(leave, "POST", f"{MARKET}/query", {}, {"where": where})
        if kind == "wait":
            own = {"Tidemill-Seen": self._seen, "Prefer": "wait=30"}
            return self._ask(leave, "GET", "/api/db/latest-quotes/LEFT", own)
        path = f"{MARKET}?{span}" if kind == "page" else f"{MARKET}/count?{span}"
        return self._ask(leave, "GET", path, {})

    def _ask(
        self, leave: Leave, method: str, path: str, headers: dict[str, str], body: Any = None
    ) -> LeavingClient:
        return LeavingClient.asking(self._api.url(), leave, method, path, bearer(self._token) | headers, body)


def metric(api: Api, name: str) -> float:
    """Return the sum of a metric of the process over its labels."""
    text = httpx2.get(f"{api.servers[0].address}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    assert lines, f"there is no metric {name}"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def queries(api: Api) -> dict[str, int]:
    """Return how many queries of the process run, by class of work; those of its own service come and go."""
    running = {row["name"]: row["queries"] for row in api.deployment.installation.fetch(_WAITING)}
    return {name: count for name, count in running.items() if not name.endswith(" write")}


@pytest.mark.timeout(3600)
def test_nothing_goes_on_for_clients_that_left_and_what_they_wrote_counts_once(
    world: tuple[Api, str], seed: int
) -> None:
    api, token = world
    random = Random(seed)
    with api.client(token) as client:
        written = client.post(MARKET, json=tick("LEFT"), headers={"Prefer": "wait=30"})
        assert written.status_code == 201, written.text
        crowd = Crowd(api, token, random, written.headers["tidemill-seen"])
        idle = open_connections(api.url())
        for first in range(0, CLIENTS, AT_ONCE):
            with locked(api.deployment.installation.database, "public.market_data"):
                come_and_go(api, crowd, range(first, min(first + AT_ONCE, CLIENTS)), random)
                eventually_blocking(lambda: not queries(api), what="the queries of those who left to end")
                eventually_blocking(
                    lambda: open_connections(api.url()) <= idle, what="their connections to be closed"
                )
        eventually_blocking(lambda: metric(api, "tidemill_submissions_waiting") == 0, what="no waiting write")
        eventually_blocking(
            lambda: metric(api, "tidemill_http_requests_in_flight") == 0, what="no request in flight"
        )
        eventually_blocking(lambda: lent(client) <= 1, what="all connections to be back")  # its own is lent
    ended = {line["code"] for line in api.servers[0].said("query_slow")}
    assert not {"QUERY_TIMEOUT", "OVERLOADED", "INTERNAL"} & ended, "queries ended by themselves"
    assert "CLIENT_LEFT" in ended
    assert behind(api) == 0, "nobody waited until it was told BEHIND"
    assert_each_once(api, crowd)
    sys.stdout.write(f"\n{CLIENTS} clients left, seed {seed}: {dict(crowd.asked)}\n")


def come_and_go(api: Api, crowd: Crowd, numbers: range, random: Random) -> None:
    """Clients come; some leave at once, the others in any order when the process is busy with them."""
    staying: list[LeavingClient] = []
    for number in numbers:
        staying.append(crowd.arrive(number))
        if random.random() < 0.3:
            staying.pop(random.randrange(len(staying))).go()
    if any(client.leave is not Leave.HALF for client in staying):
        eventually_blocking(lambda: queries(api), what="queries that wait for the table")
    for client in random.sample(staying, len(staying)):
        client.go()


def lent(client: httpx2.Client) -> int:
    """Return how many connections to the database are lent."""
    return sum(pool["checked_out"] for pool in client.get("/api/db/connections").json()["pools"])


def behind(api: Api) -> float:
    """Return how many waiting reads got an answer of their own."""
    text = httpx2.get(f"{api.servers[0].address}/metrics").text
    route = 'tidemill_http_requests_total{method="GET",route="/api/db/{collection}/{id}",status="5xx"}'
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(route))


def assert_each_once(api: Api, crowd: Crowd) -> None:
    """A write that was taken has been applied once; one that was not, never."""
    taken = {entry["command_id"] for entry in api.journal("intent")} & crowd.keys.keys()
    assert {key for key, leave in crowd.keys.items() if leave is Leave.CLOSE} <= taken
    assert not {key for key, leave in crowd.keys.items() if leave is Leave.HALF} & taken
    applied = api.deployment.installation.fetch

    def all_logged() -> bool:
        return len(applied(_LOGGED, sorted(taken))) >= len(taken)

    eventually_blocking(all_logged, what="every write that was taken to be in the log")
    logged = Counter(row["id"] for row in applied(_LOGGED, sorted(crowd.keys)))
    assert logged == dict.fromkeys(taken, 1)
    rows = api.deployment.rows()
    assert {key: rows[key] for key in crowd.keys if rows[key]} == dict.fromkeys(taken, 1)
