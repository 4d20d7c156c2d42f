"""Every request gets one answer: of its operation, or a problem; a read ends when its client leaves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.support.asgi_client import Client, OneToken
from tests.support.security.principals import MovedClock
from tests.support.waiting import HANGING_S
from tidemill.domain.errors import RequestFault, RequestRefused, Unavailable
from tidemill.domain.request_codes import RequestCode
from tidemill.http import gateway as module
from tidemill.http.answer import HttpAnswer, json_answer
from tidemill.http.exchange import MAX_BODY_BYTES, Exchange
from tidemill.http.gateway import Gateway
from tidemill.http.route_table import Operation, RouteTable
from tidemill.runtime.telemetry.metrics import HTTP_IN_FLIGHT
from tidemill.security.rate_limits import UnitLimiter


class Handlers:
    """Operations of every kind."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.ended: list[str] = []
        self.go_on = asyncio.Event()

    async def echo(self, exchange: Exchange) -> HttpAnswer:
        return json_answer({"raw": exchange.raw["id"].decode(), "pairs": exchange.pairs})

    async def take(self, exchange: Exchange) -> HttpAnswer:
        return json_answer(await exchange.object(), 201)

    async def refuse(self, exchange: Exchange) -> HttpAnswer:
        raise RequestRefused(
            RequestCode.NO_SUCH_FIELD,
            "there is no field x",
            RequestFault("parameter", "x", "no such field", "NO_SUCH_FIELD"),
        )

    async def lack(self, exchange: Exchange) -> HttpAnswer:
        raise Unavailable("database", "10.0.0.7 refused: secret")

    async def crash(self, exchange: Exchange) -> HttpAnswer:
        raise ZeroDivisionError("secret")

    async def wait(self, exchange: Exchange) -> HttpAnswer:
        self.entered.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("done")
        return json_answer({})

    def operations(self) -> list[Operation]:
        json: dict[str, Any] = {"application/json": {}}
        return [
            _operation("GET", "/c/{id}", self.echo),
            _operation("GET", "/c/fixed", self.lack),
            _operation("POST", "/c", self.take, body=json, abandoned=False),
            _operation("GET", "/refuse", self.refuse),
            _operation("GET", "/crash", self.crash),
            _operation("GET", "/wait", self.wait),
            _operation("POST", "/wait", self.wait, abandoned=False),
            _operation("GET", "/open", self.wait, open=True),
        ]


def _operation(method: str, path: str, handler: object, **more: object) -> Operation:
    return Operation(method=method, path=path, name=f"{method} {path}", summary="", handler=handler, **more)  # type: ignore[arg-type]


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def client(handlers: Handlers) -> Client:
    return Client(Gateway(RouteTable(handlers.operations()), OneToken()))


async def test_an_operation_gets_the_raw_segment_and_the_pairs(client: Client) -> None:
    response = await client.ask("GET", "/c/a%2Fb?x=1&x=2")
    assert response is not None
    assert (response.status, response.json()) == (200, {"raw": "a%2Fb", "pairs": [["x", "1"], ["x", "2"]]})
    assert response.headers["content-length"] == str(len(response.body))


async def test_head_is_get_without_a_body(client: Client) -> None:
    response = await client.ask("HEAD", "/c/a")
    assert response is not None
    assert (response.status, response.body) == (200, b"")
    assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "url", "status", "code", "retry"),
    [
        ("GET", "/nothing", 404, "NO_ROUTE", "never"),
        ("GET", "/c/", 404, "NO_ROUTE", "never"),
        ("GET", "/c/a/b", 404, "NO_ROUTE", "never"),
        ("DELETE", "/c/a", 405, "NO_SUCH_VERB", "never"),
        ("BREW", "/c/a", 405, "NO_SUCH_VERB", "never"),
        ("GET", "/c/a?" + "x" * 9000, 414, "URL_TOO_LONG", "new-key"),
        ("GET", "/c/a?x", 400, "BAD_PARAMETER", "new-key"),
        ("GET", "/refuse", 400, "NO_SUCH_FIELD", "new-key"),
        ("GET", "/c/fixed", 503, "DATABASE_AWAY", "same-key"),
        ("GET", "/crash", 500, "INTERNAL", "never"),
    ],
)
async def test_every_error_is_a_problem(
    client: Client, method: str, url: str, status: int, code: str, retry: str
) -> None:
    response = await client.ask(method, url)
    assert response is not None
    problem = response.json()
    assert (response.status, problem["status"], problem["code"]) == (status, status, code)
    assert problem["retry"] == retry
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.body.decode()
    assert ("retry-after" in response.headers) == (status == 503)
    assert (response.headers.get("allow") == "GET, HEAD") == (status == 405)


async def test_a_problem_lists_what_is_wrong(client: Client) -> None:
    response = await client.ask("GET", "/refuse")
    assert response is not None
    assert response.json()["errors"] == [
        {"parameter": "x", "code": "NO_SUCH_FIELD", "detail": "no such field"}
    ]


@pytest.mark.parametrize("token", [None, "bad"])
async def test_without_a_principal_there_is_no_answer(client: Client, token: str | None) -> None:
    response = await client.ask("GET", "/c/a", token=token)
    assert response is not None
    assert (response.status, response.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_header_that_counts_comes_once(client: Client) -> None:
    response = await client.ask("GET", "/c/a", headers=[("authorization", "Bearer other")])
    assert response is not None
    assert response.json()["code"] == "BAD_PARAMETER"


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        (b'{"a": 1}', "application/json; charset=utf-8", 201, None),
        ([b'{"a"', b": 1}"], "application/json", 201, None),
        (b'{"a": 1}', "text/plain", 415, "MEDIA_TYPE"),
        (b"[1]", "application/json", 400, "BAD_BODY"),
        ([b" " * MAX_BODY_BYTES, b"{}"], "application/json", 413, "BODY_TOO_LARGE"),
    ],
)
async def test_a_body_is_read_within_bounds(
    client: Client, body: bytes | list[bytes], media_type: str, status: int, code: str | None
) -> None:
    response = await client.ask("POST", "/c", body=body, headers=[("content-type", media_type)])
    assert response is not None
    assert response.status == status
    assert response.json().get("code") == code


async def test_a_body_that_says_it_is_too_large_is_not_read(client: Client) -> None:
    headers = [("content-type", "application/json"), ("content-length", str(MAX_BODY_BYTES + 1))]
    response = await client.ask("POST", "/c", body=b"", headers=headers)
    assert response is not None
    assert response.json()["code"] == "BODY_TOO_LARGE"


async def test_a_body_that_never_ends_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidemill.http.exchange.BODY_WITHIN_S", 0.01)
    asking = client.ask("POST", "/c", body=[], headers=[("content-type", "application/json")])
    response = await asyncio.wait_for(asking, HANGING_S)
    assert response is not None
    assert response.json()["code"] == "BAD_BODY"


async def test_a_read_ends_when_its_client_leaves(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_AFTER_S", 0.0)
    asking = asyncio.create_task(client.ask("GET", "/wait"))
    await handlers.entered.wait()
    client.gone.set()
    assert await asyncio.wait_for(asking, HANGING_S) is None
    assert handlers.ended == ["cancelled"]


async def test_a_write_goes_on_when_its_client_leaves(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WATCH_AFTER_S", 0.0)
    asking = asyncio.create_task(client.ask("POST", "/wait"))
    await handlers.entered.wait()
    client.gone.set()
    handlers.go_on.set()
    await asyncio.wait_for(asking, HANGING_S)
    assert handlers.ended == ["done"]


async def test_a_process_that_ends_cancels_what_it_must(client: Client, handlers: Handlers) -> None:
    asking = asyncio.create_task(client.ask("GET", "/wait"))
    await handlers.entered.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert handlers.ended == ["cancelled"]


async def test_while_it_drains_only_the_probes_are_answered(client: Client, handlers: Handlers) -> None:
    client.gateway.draining = True
    handlers.go_on.set()
    refused = await client.ask("GET", "/c/a")
    assert refused is not None
    assert refused.json()["code"] == "DRAINING"
    probed = await client.ask("GET", "/open", token=None)
    assert probed is not None
    assert probed.status == 200


async def test_requests_in_flight_are_counted_by_route_however_they_end(
    client: Client, handlers: Handlers
) -> None:
    in_flight = HTTP_IN_FLIGHT.labels("/wait")._value.get
    asking = asyncio.create_task(client.ask("POST", "/wait"))
    await asyncio.wait_for(handlers.entered.wait(), HANGING_S)
    assert in_flight() == 1
    handlers.go_on.set()
    await asyncio.wait_for(asking, HANGING_S)
    assert in_flight() == 0
    await client.ask("GET", "/crash")
    assert HTTP_IN_FLIGHT.labels("/crash")._value.get() == 0


async def test_each_request_is_observed_by_its_template(handlers: Handlers) -> None:
    seen: list[tuple[str, str, int]] = []
    client = Client(
        Gateway(
            RouteTable(handlers.operations()),
            OneToken(),
            observe=lambda path, method, status, _: seen.append((path, method, status)),
        )
    )
    await client.ask("GET", "/c/secret-id")
    await client.ask("GET", "/nowhere")
    await client.ask("GET", "/crash")
    assert seen == [("/c/{id}", "GET", 200), ("none", "other", 404), ("/crash", "GET", 500)]


async def test_who_asks_for_more_than_it_may_is_refused_and_told_when_to_come_back(
    handlers: Handlers,
) -> None:
    clock = MovedClock()
    limiter = UnitLimiter(clock, per_s=1, window_s=2)
    client = Client(Gateway(RouteTable(handlers.operations()), OneToken(), limiter=limiter))
    answers = [await client.ask("GET", "/c/a") for _ in range(3)]
    assert [answer and answer.status for answer in answers] == [200, 200, 429]
    refused = answers[-1]
    assert refused is not None
    assert refused.json()["code"] == "RATE_LIMITED"
    assert int(refused.headers["retry-after"]) == 1
    assert refused.headers["ratelimit-policy"] == '"units";q=2;w=2'
    clock.at += timedelta(seconds=1)
    again = await client.ask("GET", "/c/a")
    assert again is not None
    assert again.status == 200
    stranger = await client.ask("GET", "/c/a", token=None)
    assert stranger is not None
    assert stranger.status == 401, "who is not known spends nothing"
