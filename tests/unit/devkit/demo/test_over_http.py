"""What the demo does over HTTP: it obeys 202 and 503; an answer that differs fails its check, and only that one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from tidemill.admin.records.outgoing import RecordPlace
from tidemill.domain.errors import TidemillError, Unavailable
from tidemill.domain.lane import NO_OFFSET
from tidemill_devkit.demo import over_http
from tidemill_devkit.demo.over_http import QuoteReads, QuoteWrite, read_quote, span_start, write_quote
from tidemill_devkit.demo.over_http_proof import proof_over_http, sent_over_http
from tidemill_devkit.demo.plan import DemoPlan, make_plan

FIRST = QuoteWrite("applied", "FB-2013-03-01", "market-data.3=196")
WRITES = [FIRST, replace(FIRST, outcome="duplicate")]


@cache
def plan() -> DemoPlan:
    """The plan with one stock; it hashes passwords, which who only collects tests need not wait for."""
    return make_plan(datetime(2026, 1, 1, tzinfo=UTC), ("FB",))


def row(time: datetime, price: float) -> dict[str, Any]:
    return {"time": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}", "price": price}


@cache
def good() -> QuoteReads:
    newest, quotes = plan().http_quote, plan().quotes
    return QuoteReads(
        latest={"symbol": "FB", **row(newest.time, newest.close), "version": 196},
        page=[row(quote.time, quote.close) for quote in quotes if quote.time >= span_start(newest)],
    )


AT_ONCE, WITH_TOKEN, PAGE = 0, 1, 2


def failed(writes: list[QuoteWrite], reads: QuoteReads) -> list[int]:
    return [number for number, check in enumerate(proof_over_http(plan(), writes, reads)) if not check.ok]


def test_the_quote_is_the_newest_and_in_no_topic_before() -> None:
    assert plan().http_quote.day == max(quote.day for quote in plan().quotes)
    key = plan().over_http[0].command.command_id
    assert key not in {record.command.command_id for record in plan().fed}
    assert len(good().page) == 10
    assert failed(WRITES, good()) == []


WRONG: dict[str, tuple[Callable[[QuoteReads], tuple[list[QuoteWrite], QuoteReads]], int]] = {
    "applied twice": (lambda good: ([FIRST, FIRST], good), AT_ONCE),
    "another place": (lambda good: ([FIRST, replace(WRITES[1], seen="market-data.3=197")], good), AT_ONCE),
    "an older answer": (lambda good: (WRITES, replace(good, latest=good.page[0])), WITH_TOKEN),
    "another price": (lambda good: (WRITES, replace(good, latest={**good.latest, "price": 1.0})), WITH_TOKEN),
    "a row too few": (lambda good: (WRITES, replace(good, page=good.page[1:])), PAGE),
    "a row twice": (lambda good: (WRITES, replace(good, page=[*good.page, good.page[0]])), PAGE),
}


@pytest.mark.parametrize(("differs", "check"), WRONG.values(), ids=WRONG.keys())
def test_what_differs_fails_its_check(
    differs: Callable[[QuoteReads], tuple[list[QuoteWrite], QuoteReads]], check: int
) -> None:
    assert failed(*differs(good())) == [check]


def outcome(command_id: str | None, service: str = "development") -> Mapping[str, Any]:
    return {"command_id": command_id, "service_name": service}


def test_the_records_are_where_their_outcomes_are() -> None:
    others = {
        ("market-data", 3, 8): [outcome("FB-2013-03-01", "quote-feed")],
        ("market-data", 3, 9): [outcome(None)],
    }
    first = {("market-data", 3, 12): [outcome("FB-2013-03-01")]}
    second = {("market-data", 3, 10): [outcome("FB-2013-03-01")]}
    places = [sent.place for sent in sent_over_http(plan(), {**others, **first, **second})]
    assert places == [RecordPlace(3, 10), RecordPlace(3, 12)]
    missing = [sent.place for sent in sent_over_http(plan(), {**others, **first})]
    assert missing == [RecordPlace(3, 12), RecordPlace(0, NO_OFFSET)]


# --- the client ------------------------------------------------------------------------------------------------------

Answer = tuple[int, Mapping[str, str], Any]


@contextmanager
def api(*answers: Answer) -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    """An API that gives these answers, in order; yields its address and what it was asked: method, path, key."""
    waiting, requests = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            requests.append((self.command, self.path, self.headers.get("idempotency-key")))
            status, headers, content = waiting.pop(0)
            body = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


KNOWN = {"outcome": FIRST.outcome, "command_id": FIRST.command_id, "seen": FIRST.seen}


async def test_an_outcome_that_is_not_known_is_asked_for_where_the_answer_says() -> None:
    url = "/api/db/commands/FB-2013-03-01"
    later: Answer = (202, {"location": url}, {})
    with api((503, {"retry-after": "1"}, {}), later, (202, {}, {}), (200, {}, KNOWN)) as (address, requests):
        assert await write_quote(address, plan().over_http[0].command) == FIRST
    post = ("POST", "/api/db/market-data", FIRST.command_id)
    assert requests == [post, post, ("GET", url, None), ("GET", url, None)]


async def test_a_read_that_is_behind_is_asked_again() -> None:
    page = {"data": {"rows": good().page}}
    with api((503, {}, {}), (200, {}, good().latest), (200, {}, page)) as (address, _):
        assert await read_quote(address, plan().http_quote, FIRST.seen) == good()


async def test_a_refusal_is_said_with_its_text() -> None:
    with (
        api((422, {}, {"code": "INVALID"})) as (address, _),
        pytest.raises(TidemillError, match=r'POST /api/db/market-data: 422 \{"code": "INVALID"\}'),
    ):
        await write_quote(address, plan().over_http[0].command)


async def test_an_api_that_does_not_answer_ends_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_http, "_MAX_S", 0.0)
    with api((503, {}, {})) as (address, _), pytest.raises(Unavailable, match="POST /api/db/market-data"):
        await write_quote(address, plan().over_http[0].command)
