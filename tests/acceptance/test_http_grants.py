"""Changes of grants and tokens reach processes that serve; the time that takes is tested by a clock, elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.support.http.api import Api, Granted, served
from tests.support.waiting import eventually_blocking
from tidemill_devkit.stack import Stack

STATE = "connector-profiles"
PRINCIPALS = ("tokens", "granted", "ended")


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, dict[str, str]]]:
    """Two processes that answer; nothing processes commands."""
    folder = tmp_path_factory.mktemp("http")
    all_of = {name: [Granted("*")] for name in PRINCIPALS}
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, all_of, engine=False) as made,
    ):
        yield made


def await_status(api: Api, token: str, status: int) -> None:
    """Wait until every process answers a token so."""
    for number in range(len(api.servers)):
        with api.client(token, number) as client:
            eventually_blocking(
                lambda: client.get(f"/api/db/{STATE}").status_code == status,
                what=f"{status} of process {number}",
            )


def test_every_process_sees_tokens_and_grants_that_an_operator_changes(
    world: tuple[Api, dict[str, str]],
) -> None:
    """A token is revoked, one is rotated, a grant is taken, and a principal ends."""
    api, tokens = world
    revoked = api.add_token("tokens")
    for token in (*tokens.values(), revoked):
        await_status(api, token, 200)
    api.deployment("principals", "token", "--revoke", revoked.split("_")[1])
    rotated = api.deployment("principals", "token", "tokens", "--rotate", "--overlap-hours", "0", "--json")
    api.grant("granted", Granted("*", ["create"]))
    api.revoke_principal("ended")
    await_status(api, revoked, 401)
    await_status(api, tokens["tokens"], 401)
    await_status(api, rotated.json()["token"], 200)
    await_status(api, tokens["granted"], 403)
    await_status(api, tokens["ended"], 401)
