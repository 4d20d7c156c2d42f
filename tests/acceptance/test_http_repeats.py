"""A write that is sent again counts once, whatever is lost between client and server; and what was written is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from random import Random

import pytest

from tests.support.http.api import Api, Granted, served
from tests.support.http.lossy import Loss, lossy
from tests.support.http.repeats import Repeater, assert_each_once, random_writes
from tests.support.http.sizes import sized
from tidemill_devkit.stack import Stack

WRITES = sized(300, 10_000)
READS = sized(300, 10_000)
READ_MODEL = "latest-quotes"


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
