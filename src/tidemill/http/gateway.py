"""The ASGI application: finds the operation, asks who wants it, lets it answer, and makes a problem of every error.

A read ends when its client leaves: after a while it is watched, and cancelled. A write does not end: what was accepted
is decided, whoever waits for it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any, Final, Protocol

from prometheus_client import Counter, Gauge, Histogram

from tidemill.domain.errors import RequestRefused, Unavailable
from tidemill.domain.request_codes import RequestCode
from tidemill.http import problems
from tidemill.http.answer import HttpAnswer, Send
from tidemill.http.exchange import ClientLeft, Exchange, Receive
from tidemill.http.route_table import NoSuchVerb, Operation, RouteTable
from tidemill.http.url import demand_short, segments
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import HTTP_IN_FLIGHT, HTTP_REQUESTS, HTTP_SECONDS
from tidemill.security.bind_policy import names_this_machine
from tidemill.security.principals import Principal, PrincipalKind
from tidemill.security.rate_limits import UnitLimiter

WATCH_AFTER_S: Final = 0.05
"""How long a read may take before its client is watched."""

_log = logger(__name__)


class Authentication(Protocol):
    """Tells who asks."""

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return the principal. Raises `RequestRefused` (`UNAUTHENTICATED`, `DATABASE_AWAY`)."""
        ...


Observe = Callable[[str, str, int, float], None]
"""Gets the template of the path, the method, the status and the seconds of each request."""


def observe_metrics(path: str, method: str, status: int, seconds: float) -> None:
    """Count a request by its route, never by what it named."""
    requests, times = _metrics(path, method, f"{status // 100}xx")
    requests.inc()
    times.observe(seconds)


@cache  # routes, methods and classes of status are few; to look a metric up takes longer than to count
def _metrics(path: str, method: str, status: str) -> tuple[Counter, Histogram]:
    return HTTP_REQUESTS.labels(path, method, status), HTTP_SECONDS.labels(path, method)


@cache
def _in_flight(path: str) -> Gauge:
    return HTTP_IN_FLIGHT.labels(path)


def observe_nothing(_path: str, _method: str, _status: int, _seconds: float) -> None:
    """Forget a request."""


NoteRefusal = Callable[[Operation, Exchange, RequestRefused], Awaitable[None]]
"""Gets every request that was refused once its operation was known. May raise `RequestRefused` in its place."""


async def note_nothing(_operation: Operation, _exchange: Exchange, _error: RequestRefused) -> None:
    """Forget a refusal."""


class Gateway:
    """See the module. `draining`: after it is set, what comes is refused, so that clients go elsewhere."""

    def __init__(
        self,
        routes: RouteTable,
        authentication: Authentication,
        *,
        accepts: Callable[[Exchange], bool] = lambda _: True,
        observe: Observe = observe_nothing,
        note: NoteRefusal = note_nothing,
        limiter: UnitLimiter | None = None,
    ) -> None:
        """`accepts`: whether a peer may speak to this process. `observe`: for metrics. `note`: for the journal.

        `limiter`: how much a principal may ask for; None: without limit.
        """
        self._routes = routes
        self._authentication = authentication
        self._accepts = accepts
        self._observe = observe
        self._note = note
        self._limiter = limiter
        self.draining = False
        self.in_flight = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """HttpAnswer one request."""
        assert scope["type"] == "http", scope["type"]
        began_s = time.perf_counter()
        exchange = Exchange(scope, receive)
        template, method = "none", "other"
        self.in_flight += 1
        try:
            try:
                operation = self._operation(exchange)
                template, method = operation.path, exchange.method
                answer = await self._answer(operation, exchange)
            except ClientLeft:
                self._observe(template, method, 499, time.perf_counter() - began_s)
                return
            except Exception as error:  # noqa: BLE001  every error is an answer
                answer = _problem(error, exchange)
            self._observe(template, method, answer.status, time.perf_counter() - began_s)
            answer.headers += exchange.outgoing
            await answer.send(send, with_body=exchange.method != "HEAD")
        finally:
            self.in_flight -= 1

    def _operation(self, exchange: Exchange) -> Operation:
        demand_short(exchange.path, exchange.query)
        operation, exchange.raw = self._routes.find(exchange.method, segments(exchange.path))
        if self.draining and not operation.open:
            raise RequestRefused(RequestCode.DRAINING, "this process is about to end")
        return operation

    async def _answer(self, operation: Operation, exchange: Exchange) -> HttpAnswer:
        try:
            with _in_flight(operation.path).track_inprogress():
                return await self._handled(operation, exchange)
        except RequestRefused as refused:
            await self._note(operation, exchange, refused)
            raise

    async def _handled(self, operation: Operation, exchange: Exchange) -> HttpAnswer:
        if not self._accepts(exchange):
            raise RequestRefused(
                RequestCode.UNAUTHENTICATED, "only trusted proxies may connect in plain text"
            )
        if not operation.open:
            exchange.principal = await self._principal(exchange)
            self._spend(exchange, operation.units)
        if operation.abandoned:
            answer = await _until_client_leaves(operation, exchange)
        else:
            answer = await operation.handler(exchange)
        if exchange.principal is not None and exchange.principal.kind is PrincipalKind.DEVELOPMENT:
            answer.add(b"tidemill-principal", "development")
        return answer

    def _spend(self, exchange: Exchange, units: float) -> None:
        if self._limiter is None or exchange.caller.kind is PrincipalKind.DEVELOPMENT:
            return
        allowance = self._limiter.spend(exchange.caller.name, units)
        left = f'"units";r={allowance.left};t={math.ceil(allowance.reset_s)}'
        exchange.outgoing.append((b"ratelimit", left.encode()))
        if not allowance.is_granted:
            exchange.outgoing.append((b"ratelimit-policy", self._limiter.policy.encode()))
            raise RequestRefused(
                RequestCode.RATE_LIMITED,
                f"{exchange.caller.name} asked for more than it may in this time",
                retry_after_s=allowance.retry_after_s,
            )

    async def _principal(self, exchange: Exchange) -> Principal:
        principal = await self._authentication.authenticate(exchange.header("authorization"))
        development = principal.kind is PrincipalKind.DEVELOPMENT
        if development and not names_this_machine(exchange.header("host")):
            raise RequestRefused(
                RequestCode.UNAUTHENTICATED, "without principals only requests to localhost are answered"
            )
        return principal


async def _until_client_leaves(operation: Operation, exchange: Exchange) -> HttpAnswer:
    """Return the handler's answer; cancel it when the client leaves, and raise `ClientLeft`.

    A timer instead of a task from the start: most answers come before it.
    """
    if operation.body:
        await exchange.body()  # else the watcher would take it for itself
    loop, handler = asyncio.get_running_loop(), asyncio.current_task()
    assert handler is not None
    watch = _Watch(exchange, handler)
    timer = loop.call_later(WATCH_AFTER_S, watch.begin)
    try:
        return await operation.handler(exchange)
    except asyncio.CancelledError:
        if watch.cancelled:
            handler.uncancel()
            raise ClientLeft from None
        raise
    finally:
        timer.cancel()
        watch.end()


class _Watch:
    """Cancels a handler when its client leaves."""

    def __init__(self, exchange: Exchange, handler: asyncio.Task[Any]) -> None:
        self._exchange = exchange
        self._handler = handler
        self._task: asyncio.Task[None] | None = None
        self.cancelled = False

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._exchange.left()
        self.cancelled = True
        self._handler.cancel()

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _problem(error: Exception, exchange: Exchange) -> HttpAnswer:
    instance = exchange.instance
    if isinstance(error, RequestRefused):
        answer = problems.refusal(error, instance=instance)
        if isinstance(error, NoSuchVerb):
            answer.add(b"allow", ", ".join(error.methods))
        return answer
    if isinstance(error, Unavailable):
        return problems.unavailable(error, instance=instance)
    fault_id, answer = problems.internal(instance=instance)
    _log.error(Log.REQUEST_FAILED, fault=fault_id, method=exchange.method, path=instance, exc_info=error)
    return answer
