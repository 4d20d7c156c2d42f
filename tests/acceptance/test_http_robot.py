"""Robots that obey only `retry` and `Retry-After`: documents are what a model says, whatever is lost or killed.

Answers are lost, and meanwhile processes that answer, the engine, the broker and the database are killed in turn.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import cycle, islice
from random import Random

import pytest

from tests.support.http.api import Api, Granted, new_key, served
from tests.support.http.lossy import Loss, LossyProxy, lossy
from tests.support.http.robot import Model, Robot
from tests.support.http.sizes import sized
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit.stack import Stack

pytestmark = pytest.mark.breaks_servers

STEPS = sized(300, 4_000)
ROBOTS = 8
DOCUMENTS = 3
KILLED = ("server", "kafka", "engine", "postgres")
KILLS = sized(len(KILLED), 6 * len(KILLED))
BOUND_S = 60.0
"""What no request is told to wait in all while everything is well."""

LOSSES = (*[Loss.NOTHING] * 6, Loss.REQUEST, Loss.ANSWER, Loss.HALF)
OWN = {
    "TIDEMILL_CONTEXTS": "market_data,client_configs",
    "TIDEMILL_SECRET_KEYS": "tests:" + b64encode(bytes(32)).decode(),
    "TIDEMILL_HTTP_MAX_WAITING": "4",
}
"""Fewer writes may wait than robots send at once, so that some are refused."""


@pytest.fixture(scope="module")
def world(
    breakable_stack: Stack,
    new_breakable_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, str]]:
    folder, principals = tmp_path_factory.mktemp("http"), {"robot": [Granted("*")]}
    with (
        new_breakable_database() as database,
        served(breakable_stack, database, unique_name("http"), folder, principals, environment=OWN) as (
            api,
            tokens,
        ),
    ):
        yield api, tokens["robot"]


@pytest.mark.timeout(3600)  # in full it takes a quarter of an hour
def test_documents_are_what_a_model_says_whatever_is_lost_and_killed(
    world: tuple[Api, str], breakable_stack: Stack, seed: int
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
        for kill, what in enumerate(islice(cycle(KILLED), KILLS), start=1):
            eventually_blocking(
                lambda: taken.total() >= kill * STEPS // (KILLS + 2) or all(one.done() for one in living),  # noqa: B023  called at once
                what="steps",
            )
            with broken(robot):
                kill_one(what, api, breakable_stack, proxies, kill % 2)
        for one in living:
            one.result(40 * HANGING_S)
    assert [fault for model in models for fault in model.wrong] == []
    assert {"200", "201", "404", "409", "412", "none"} <= robot.answers.keys(), robot.answers
    assert robot.longest_s <= BOUND_S, robot.answers
    sys.stdout.write(
        f"\n{STEPS} steps of {ROBOTS} robots, {KILLS} kills, seed {seed}: {dict(robot.answers)}\n"
    )


@contextmanager
def broken(robot: Robot) -> Iterator[None]:
    """Let a robot know that something is broken while the block runs."""
    robot.all_well.clear()
    yield
    robot.all_well.set()


def kill_one(what: str, api: Api, stack: Stack, proxies: list[LossyProxy], number: int) -> None:
    """Kill something; return when another one has taken its place."""
    if what == "server":
        api.replace_server(number)
        proxies[number].lead_to(api.url(number))
    elif what == "engine":
        api.replace_engine()
    else:
        stack.servers[what].kill()
        stack.servers[what].start()
        for worker in [*api.engines, *api.servers]:
            worker.await_well()
