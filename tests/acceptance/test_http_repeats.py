"""A write that is sent again counts once, whatever is lost between client and server; and what was written is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from random import Random

import pytest

from tests.support.http.api import Api, Granted, new_key, served, tick
from tests.support.http.lossy import Loss, lossy
from tests.support.http.repeats import Repeater, assert_each_once, random_writes
from tests.support.http.sizes import sized
from tidemill_devkit.stack import Stack

WRITES = sized(300, 10_000)
READS = sized(300, 10_000)
READ_MODEL = "latest-quotes"
CALLERS = 8
WAITING = {"Prefer": "wait=30"}


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, str]]:
    """A deployment with two processes that answer, and the token of a service."""
    folder: Path = tmp_path_factory.mktemp("http")
    principals = {"store": [Granted("*")]}
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, principals) as (api, tokens),
    ):
        yield api, tokens["store"]


@pytest.mark.timeout(3600)  # in full it takes ten minutes
def test_each_key_has_one_effect_and_one_answer_though_answers_are_lost(
    world: tuple[Api, str], seed: int
) -> None:
    """Writes, each sent one to five times, partly at once and to both processes."""
    api, token = world
    writes = random_writes(Random(seed), WRITES, processes=2)
    with lossy(api.url(0), api.url(1), seed=seed) as proxies:
        with closing(Repeater([proxy.url for proxy in proxies], token)) as repeater:
            repeater.send_all(writes)
        lost = proxies[0].lost + proxies[1].lost
    assert lost.keys() == set(Loss), lost
    assert_each_once(api, writes, repeater.answers)


def test_what_one_process_wrote_is_read_from_the_other_with_its_token(world: tuple[Api, str]) -> None:
    """Each caller alone writes its symbol, so that the read model has either its last price or an older row."""
    api, token = world
    rounds = READS // CALLERS
    with ThreadPoolExecutor(CALLERS) as callers:
        read = list(callers.map(lambda name: _prices_read(api, token, f"RYW{name}", rounds), range(CALLERS)))
    assert read == [[float(number) for number in range(1, rounds + 1)]] * CALLERS


def _prices_read(api: Api, token: str, symbol: str, rounds: int) -> list[float]:
    """Write prices 1, 2, 3 ... to the processes in turns; return what the other one shows right after each."""
    prices = []
    with api.client(token, 0) as one, api.client(token, 1) as other:
        for number in range(1, rounds + 1):
            writer, reader = (one, other) if number % 2 else (other, one)
            body = tick(symbol, price=float(number))
            written = writer.post(
                "/api/db/market-data", json=body, headers=WAITING | {"Idempotency-Key": new_key()}
            )
            assert written.status_code == 201, written.text
            seen = {"Tidemill-Seen": written.headers["tidemill-seen"]}
            shown = reader.get(f"/api/db/{READ_MODEL}/{symbol}", headers=WAITING | seen)
            assert shown.status_code == 200, shown.text
            prices.append(float(shown.json()["price"]))
    return prices
