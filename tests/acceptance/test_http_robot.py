"""Robots that obey only `retry` and `Retry-After`: documents are what a model says, whatever is lost or killed."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from random import Random

import pytest

from tests.support.http.api import Api, Granted, new_key, served
from tests.support.http.lossy import Loss, LossyProxy, lossy
from tests.support.http.robot import Model, Robot
from tests.support.http.sizes import sized
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit.stack import Stack

STEPS = sized(300, 4_000)
ROBOTS = 8
DOCUMENTS = 3
KILLS = sized(1, 12)
LOSSES = (*[Loss.NOTHING] * 6, Loss.REQUEST, Loss.ANSWER, Loss.HALF)
OWN = {
    "TIDEMILL_CONTEXTS": "market_data,client_configs",
    "TIDEMILL_SECRET_KEYS": "tests:" + b64encode(bytes(32)).decode(),
    "TIDEMILL_HTTP_MAX_WAITING": "4",
}
"""Fewer writes may wait than robots send at once, so that some are refused."""


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, str]]:
    folder, principals = tmp_path_factory.mktemp("http"), {"robot": [Granted("*")]}
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, principals, environment=OWN) as (api, tokens),
    ):
        yield api, tokens["robot"]


def test_documents_are_what_a_model_says_whatever_is_lost_and_killed(
    world: tuple[Api, str], seed: int
) -> None:
    api, token = world
    with (
        lossy(api.url(0), api.url(1), seed=seed, losses=LOSSES) as proxies,
        closing(Robot([proxy.url for proxy in proxies], token)) as robot,
        ThreadPoolExecutor(ROBOTS) as crowd,
    ):
        models = [
            Model(robot, Random(f"{seed} {number}"), [new_key() for _ in range(DOCUMENTS)])
            for number in range(ROBOTS)
        ]
        taken: Counter[int] = Counter()

        def live(number: int) -> None:
            for _ in range(STEPS // ROBOTS):
                models[number].step()
                taken[number] += 1
            models[number].compare()

        living = [crowd.submit(live, number) for number in range(ROBOTS)]
        for kill in range(1, KILLS + 1):
            eventually_blocking(
                lambda: taken.total() >= kill * STEPS // (KILLS + 2) or all(one.done() for one in living),  # noqa: B023  called at once
                what="steps",
            )
            replace(api, proxies, kill % 2)
        for one in living:
            one.result(40 * HANGING_S)
    assert [fault for model in models for fault in model.wrong] == []
    assert {"200", "201", "404", "409", "412", "none"} <= robot.answers.keys(), robot.answers
    sys.stdout.write(
        f"\n{STEPS} steps of {ROBOTS} robots, {KILLS} kills, seed {seed}: {dict(robot.answers)}\n"
    )


def replace(api: Api, proxies: list[LossyProxy], number: int) -> None:
    """Kill a process that answers; another one takes its place."""
    api.replace_server(number)
    proxies[number].lead_to(api.url(number))
