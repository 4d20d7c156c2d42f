"""Requests that no honest client sends, to a server that runs: each is refused with a problem, and none holds it up."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from random import Random

import httpx2
import pytest

from tests.support.http.api import NOT_BEFORE, Api, Granted, bearer, new_key, served, tick
from tests.support.http.hostile import HEADERS, ask, connected, parsed, raw_requests, said
from tests.support.waiting import HANGING_S
from tidemill_devkit.stack import Stack

PRINCIPALS = {"hostile": [Granted("*")], "other": [Granted("*", ["read"], ["source"])]}


class World:
    def __init__(self, api: Api, tokens: dict[str, str]) -> None:
        self.api, self.tokens = api, tokens

    @property
    def token(self) -> str:
        return self.tokens["hostile"]

    def begun(self, head: bytes) -> socket.socket:
        """Return a connection on which a request has begun."""
        wire = connected(self.api.url())
        wire.sendall(head)
        return wire

    def head(self, method: str, path: str, *lines: str) -> bytes:
        named = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {self.token}",
            *lines,
        ]
        return "\r\n".join([*named, "", ""]).encode()


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
        served(stack, database, unique_name("http"), folder, PRINCIPALS, servers=1) as (api, tokens),
    ):
        yield World(api, tokens)


def test_every_hostile_request_is_refused_with_a_problem_and_holds_nothing_up(world: World) -> None:
    """Paths, queries, numbers, times, bodies and headers; meanwhile others are silent in the middle of a request."""
    silent_head = world.begun(b"GET /api/db/stats HTTP/1.1\r\nHost: loc")
    silent_body = world.begun(
        world.head("POST", "/api/db/market-data", "Content-Type: application/json", "Content-Length: 100")
        + b"{"
    )
    requests = list(raw_requests(world.token))
    with ThreadPoolExecutor(4) as crowd:  # some have to wait for a state that never comes
        answers = list(crowd.map(partial(ask, world.api.url()), requests))
    faults = []
    for request, answer in zip(requests, answers, strict=True):
        if answer is None:
            faults += [f"{request.name}: no answer"] if request.is_http else []
        elif fault := answer.fault():
            faults.append(f"{request.name}: {fault}")
    assert faults == []
    assert len(requests) > 5 * len(HEADERS)
    assert said(silent_head) is None
    silent = said(silent_body)
    assert silent is not None
    assert (silent.status, silent.fault()) == (400, "")
    with world.api.client(world.token) as client:
        assert client.get("/api/db/health").status_code == 200


def test_a_body_that_never_ends_is_refused_while_it_comes(world: World) -> None:
    wire = world.begun(
        world.head(
            "POST",
            "/api/db/market-data/query",
            "Content-Type: application/json",
            "Transfer-Encoding: chunked",
        )
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with suppress(OSError):  # it does not read any further
        for _ in range(64):
            wire.sendall(chunk)
    answer = said(wire)
    assert answer is not None
    assert (answer.status, answer.fault()) == (413, "")


def test_a_reader_that_reads_nothing_keeps_no_one_else_from_reading(world: World) -> None:
    with world.api.client(world.token) as client:
        for number in range(3):
            body = "\n".join(
                httpx2.Request("POST", "http://x", json=tick("SLOW", price=float(row))).content.decode()
                for row in range(number * 300, number * 300 + 300)
            )
            headers = {
                "Content-Type": "application/x-ndjson",
                "Idempotency-Key": new_key(),
                "Prefer": "wait=30",
            }
            assert client.post("/api/db/market-data", content=body, headers=headers).status_code == 200
        page = f"/api/db/market-data?time.gte={NOT_BEFORE}&_limit=1000"
        slow = [world.begun(world.head("GET", page, "Connection: close")) for _ in range(20)]
        assert client.get(page).status_code == 200
        answers = [said(wire) for wire in slow]
    assert [answer and answer.status for answer in answers] == [200] * 20


def test_a_cursor_that_was_changed_or_is_of_another_principal_is_refused(world: World, seed: int) -> None:
    page = f"/api/db/market-data?time.gte={NOT_BEFORE}&_limit=1&_after="
    random = Random(seed)
    with world.api.client(world.token) as client:
        cursor = client.get(page.removesuffix("&_after=")).json()["data"]["next"]
        assert client.get(page + cursor).status_code == 200
        changed = {
            _flipped(cursor, random.randrange(len(cursor)), 1 << random.randrange(6)) for _ in range(100)
        }
        changed |= {cursor[:-1], cursor * 2, cursor[::-1], cursor[1:]}
        for other in changed - {cursor}:
            response = client.get(page + other)
            assert response.status_code == 400, (other, response.text)
            assert response.json()["code"] in {"CURSOR_MISMATCH", "BAD_PARAMETER"}
        foreign = client.get(page + cursor, headers=bearer(world.tokens["other"]))
        assert (foreign.status_code, foreign.json()["code"]) == (400, "CURSOR_MISMATCH")


DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _flipped(cursor: str, place: int, bit: int) -> str:
    """Return the cursor with one bit of its content changed."""
    digit = DIGITS[DIGITS.index(cursor[place]) ^ bit] if cursor[place] in DIGITS else "A"
    return cursor[:place] + digit + cursor[place + 1 :]


def test_a_request_one_byte_at_a_time_is_answered(world: World) -> None:
    """Both ways: the client sends and reads one byte after the other."""
    head = world.head("GET", "/api/db/schema/market-data", "Connection: close")
    with connected(world.api.url()) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.settimeout(HANGING_S)
        for byte in head:
            wire.sendall(bytes([byte]))
        received = bytearray()
        while byte_read := wire.recv(1):
            received += byte_read
    answer = parsed(bytes(received))
    assert answer is not None
    assert answer.status == 200
