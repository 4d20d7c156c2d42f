"""Servers are killed and frozen under processes that answer: each answer is true, and says what to do in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest

from tests.support.clients.journeys import Worker
from tests.support.http.api import NOT_BEFORE, Api, Granted, new_key, served, tick
from tests.support.http.lossy import lossy
from tests.support.http.repeats import Repeater, assert_each_once, random_writes
from tests.support.http.sizes import sized
from tests.support.waiting import eventually_blocking
from tidemill_devkit.stack import Stack
from tidemill_devkit.stack.plan import Server

pytestmark = pytest.mark.breaks_servers

WRITES = sized(120, 2_000)
KILLS = sized(2, 10)
MARKET = "/api/db/market-data"
READ_MODEL = "/api/db/latest-quotes/FROZEN"
Freezable = Server | Worker


@pytest.fixture(scope="module")
def divided(
    breakable_stack: Stack,
    new_breakable_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, dict[str, Freezable], str]]:
    """A deployment, what of it may be frozen, by name, and a token: each kind of work has a process of its own."""
    folder, principals = tmp_path_factory.mktemp("http"), {"store": [Granted("*")]}
    with (
        new_breakable_database() as database,
        served(
            breakable_stack, database, unique_name("http"), folder, principals, servers=1, engine=False
        ) as (api, tokens),
    ):
        workers = {name: api.deployment.start(name) for name in ("commands", "projections")}
        yield api, {**breakable_stack.servers, **workers}, tokens["store"]


@pytest.fixture
def world(
    breakable_stack: Stack,
    breakable_database: str,
    unique_name: Callable[[str], str],
    tmp_path: Path,
) -> Iterator[tuple[Api, str]]:
    principals = {"store": [Granted("*")]}
    with served(breakable_stack, breakable_database, unique_name("http"), tmp_path, principals) as (
        api,
        tokens,
    ):
        yield api, tokens["store"]


# --- killed ----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(3600)
def test_each_key_has_one_effect_and_one_answer_though_the_broker_is_killed(
    world: tuple[Api, str], breakable_stack: Stack, seed: int
) -> None:
    """Writes, each sent one to five times through wires that lose answers, while the broker dies and comes back."""
    api, token = world
    writes = random_writes(Random(seed), WRITES, processes=2)
    with (
        lossy(api.url(0), api.url(1), seed=seed) as proxies,
        closing(Repeater([proxy.url for proxy in proxies], token)) as repeater,
        ThreadPoolExecutor(1) as sender,
    ):
        sending = sender.submit(repeater.send_all, writes)
        for kill in range(1, KILLS + 1):
            eventually_blocking(
                lambda: len(repeater.answers.of_key) >= kill * WRITES // (KILLS + 2) or sending.done(),  # noqa: B023  called at once
                what="answers",
            )
            assert not sending.done(), "the broker died after the last write"
            breakable_stack.kafka.kill()
            breakable_stack.kafka.start()
        sending.result()
    assert_each_once(api, writes, repeater.answers)


# --- frozen ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Freeze:
    """What is frozen, and the answers meanwhile: status and code of a page, of a read with a token, and of a write."""

    what: str
    page: tuple[int, str]
    read: tuple[int, str]
    write: tuple[int, str]


OK = 200, ""
FREEZES = (
    Freeze("postgres", (503, "DATABASE_AWAY"), (503, "DATABASE_AWAY"), (503, "JOURNAL_AWAY")),
    Freeze("kafka", OK, OK, (503, "BUS_AWAY")),
    Freeze("commands", OK, OK, (202, "")),
    Freeze("projections", OK, (503, "BEHIND"), (201, "")),
)


@contextmanager
def frozen(thing: Freezable) -> Iterator[None]:
    """Freeze a server or a process while the block runs."""
    thing.freeze()
    try:
        yield
    finally:
        thing.thaw()


def told(response: httpx2.Response) -> tuple[int, str]:
    """Return status and code of an answer; one that is to be asked for again says when."""
    problem = response.headers["content-type"].startswith("application/problem+json")
    assert problem == (response.status_code >= 400), response.text
    if response.status_code in {202, 503}:
        assert float(response.headers["retry-after"]) >= 1, response.headers
    if response.status_code == 503:
        assert response.json()["retry"] in {"same-key", "later"}, response.text
    return response.status_code, response.json()["code"] if problem else ""


def write(client: httpx2.Client, key: str, body: dict[str, Any], wait_s: int = 1) -> httpx2.Response:
    """Send a price under a key."""
    headers = {"Idempotency-Key": key, "Prefer": f"wait={wait_s}"}
    return client.post(MARKET, json=body, headers=headers)


@pytest.mark.parametrize("freeze", FREEZES, ids=lambda freeze: freeze.what)
def test_what_is_frozen_is_told_in_time_and_all_is_well_when_it_goes_on(
    divided: tuple[Api, dict[str, Freezable], str], freeze: Freeze
) -> None:
    """Every answer comes while it is still frozen: nothing waits for it without end."""
    api, freezable, token = divided
    page, key, body = f"{MARKET}?time.gte={NOT_BEFORE}", new_key(), tick("FROZEN")
    with api.client(token) as client:

        def seen_and_read(wait_s: int) -> httpx2.Response:
            return client.get(READ_MODEL, headers={"Tidemill-Seen": seen, "Prefer": f"wait={wait_s}"})

        seen = write(client, new_key(), tick("FROZEN"), 30).headers["tidemill-seen"]
        assert told(seen_and_read(30)) == OK
        with frozen(freezable[freeze.what]):
            written = write(client, key, body)
            seen = written.headers.get("tidemill-seen", seen)
            answers = told(client.get(page)), told(seen_and_read(1)), told(written)
        assert answers == (freeze.page, freeze.read, freeze.write)
        eventually_blocking(
            lambda: told(write(client, key, body, 30)) == (201, ""), what="the write to be applied"
        )
        seen = write(client, key, body, 30).headers["tidemill-seen"]
        eventually_blocking(lambda: told(seen_and_read(30)) == OK, what="what was written to be read")
        assert told(client.get(page)) == OK
    assert api.deployment.rows()[key] == 1
