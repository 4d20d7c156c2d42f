"""Who may do what over HTTP: what must not show, and changes of grants and tokens, in two processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.support.http.api import Api, Granted, new_key, served, tick
from tests.support.http.grants import (
    FACTS,
    PRINCIPALS,
    STATE,
    Try,
    tries,
)
from tests.support.waiting import eventually_blocking
from tidemill_devkit.stack import Stack

IN_FORCE_S = 5.0
"""Within this time a change of grants and tokens is in force in every process."""

MORE = {"owner": [Granted("*", ["read", "create", "update", "delete", "operate"])], "changed": [Granted("*")]}


class World:
    """A deployment with two processes that answer; it has one document of each collection."""

    def __init__(self, api: Api, tokens: dict[str, str]) -> None:
        self.api = api
        self.tokens: dict[str, str | None] = {**tokens, "none": None, "bad token": "tm_guessed"}
        api.revoke_principal("revoked")
        with api.client(tokens["owner"]) as client:
            for collection, body in {
                FACTS: tick("KEPT", source="secret-source"),
                STATE: {"profile_id": "kept", "name": "secret-name", "profile_data": {}},
            }.items():
                written = client.post(
                    f"/api/db/{collection}",
                    json=body,
                    headers={"Prefer": "wait=30", "Idempotency-Key": new_key()},
                )
                assert written.status_code == 201, written.text
                seen = written.headers["tidemill-seen"]
                if collection == FACTS:
                    asked = {"Tidemill-Seen": seen, "Prefer": "wait=30"}
                    eventually_blocking(
                        lambda: client.get("/api/db/latest-quotes/KEPT", headers=asked).status_code == 200,  # noqa: B023  called at once
                        what="the latest quote",
                    )
            self.description: dict[str, Any] = client.get("/openapi.json").json()

    def await_status(self, number: int, token: str, path: str, status: int) -> None:
        """Wait until a process answers a token so; it has the time that is promised, and some for a slow machine."""
        with self.api.client(token, number) as client:
            eventually_blocking(
                lambda: client.get(path).status_code == status, 4 * IN_FORCE_S, f"{status} of {path}"
            )


@pytest.fixture(scope="module")
def world(
    stack: Stack,
    new_database: Callable[[], AbstractContextManager[str]],
    unique_name: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("http")
    with (
        new_database() as database,
        served(stack, database, unique_name("http"), folder, {**PRINCIPALS, **MORE}) as (api, tokens),
    ):
        made = World(api, tokens)
        for number in range(2):
            made.await_status(number, tokens["revoked"], "/api/db/schema", 401)
        yield made


def test_what_must_not_be_known_to_exist_is_answered_like_what_does_not(world: World) -> None:
    """Status, headers and body are equal up to the path, for a collection without a grant and for one that is not."""
    paths = [one for one in tries(world.description) if one.principal == "without" and one.collection]
    with httpx2.Client(base_url=world.api.url(), timeout=60) as client:
        shown: dict[tuple[str, str], set[str]] = {}
        for one in paths:
            response = one.send(client, world.tokens["without"])
            shown.setdefault((one.operation, one.method), set()).add(_without_path(response, one))
    assert {key: len(answers) for key, answers in shown.items()} == dict.fromkeys(shown, 1), shown


def test_a_hidden_column_is_refused_like_one_that_does_not_exist(world: World) -> None:
    asked = (
        "?_fields={}",
        "?{}=a",
        "?{}.prefix=secret",
        "?_sort={}",
        "?_where=%7B%22{}%22:%7B%22eq%22:%22a%22%7D%7D",
    )
    with world.api.client(world.tokens["half-blind"]) as client:
        for query in asked:
            hidden, absent = (
                client.get(f"/api/db/{STATE}{query.format(name)}").text.replace(name, "NAME")
                for name in ("name", "nope")
            )
            assert hidden == absent
            assert "NO_SUCH_FIELD" in hidden
        assert "name" not in client.get(f"/api/db/{STATE}/kept").json()


# --- changes, in two processes ---------------------------------------------------------------------------------------


def test_a_token_that_is_revoked_is_refused_by_every_process(world: World) -> None:
    api = world.api
    token = api.add_token("changed")
    for number in range(2):
        world.await_status(number, token, "/api/db/schema", 200)
    token_id = token.split("_")[1]
    api.deployment("principals", "token", "--revoke", token_id)
    for number in range(2):
        world.await_status(number, token, "/api/db/schema", 401)


def test_a_token_that_has_expired_is_refused_by_every_process(world: World) -> None:
    token = world.api.add_token("changed", valid=timedelta(seconds=20))
    for number in range(2):
        world.await_status(number, token, "/api/db/schema", 200)
    for number in range(2):
        with world.api.client(token, number) as client:
            eventually_blocking(lambda: client.get("/api/db/schema").status_code == 401, what="its end")


def test_a_rotated_token_ends_and_its_successor_is_taken_by_every_process(world: World) -> None:
    api, old = world.api, world.api.add_token("changed")
    for number in range(2):
        world.await_status(number, old, "/api/db/schema", 200)
    said = api.deployment("principals", "token", "changed", "--rotate", "--overlap-hours", "0", "--json")
    for number in range(2):
        world.await_status(number, old, "/api/db/schema", 401)
        world.await_status(number, said.json()["token"], "/api/db/schema", 200)


def test_a_changed_grant_counts_in_every_process(world: World) -> None:
    api, token = world.api, world.api.add_token("changed")
    for number in range(2):
        world.await_status(number, token, f"/api/db/{STATE}", 200)
    api.grant("changed", Granted("*", ["create"]))
    for number in range(2):
        world.await_status(number, token, f"/api/db/{STATE}", 403)
    api.revoke_principal("changed")
    for number in range(2):
        world.await_status(number, token, f"/api/db/{STATE}", 401)


# --- what the journal has --------------------------------------------------------------------------------------------


def _without_path(response: httpx2.Response, one: Try) -> str:
    body = response.json()
    body.pop("instance", None)
    headers = {
        name: value for name, value in response.headers.items() if name not in {"date", "content-length"}
    }
    return json.dumps([response.status_code, headers, body], sort_keys=True).replace(
        one.collection or "", "C"
    )
