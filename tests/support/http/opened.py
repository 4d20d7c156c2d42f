"""The API of a process in this one: what `serve http` answers, without a socket, under a clock that a test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.support.asgi_client import Client, Response
from tests.support.http.api import OWN
from tests.support.security.principals import MovedClock
from tests.support.servers.installation import Installation
from tests.support.waiting import next_turn
from tidemill.app import http_api
from tidemill.app.connections import SharedResources
from tidemill.app.deployment import Deployment
from tidemill.app.processes.http import policy_of
from tidemill.http.route_table import Operation
from tidemill.runtime.clock import SystemClock
from tidemill.storage.database.sessions import Session
from tidemill.storage.database.work_pool import WorkPool

JOURNAL = " journal"
"""How the name of the sessions ends that store the journal."""


@dataclass
class Work:
    """What the database was asked, but for the journal: which pools lent a connection, and the statements."""

    lent: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    def take(self) -> tuple[list[str], list[str]]:
        """Return it, and begin anew."""
        taken = self.lent[:], self.statements[:]
        self.lent.clear()
        self.statements.clear()
        return taken


@dataclass
class OpenApi:
    """The API. `clock`: by which principals are read again and refusals are counted."""

    process: http_api.OpenedApi
    clock: MovedClock
    work: Work

    @property
    def operations(self) -> tuple[Operation, ...]:
        """Every operation that is served, described or not."""
        return self.process.gateway._routes.operations

    async def ask(self, method: str, url: str, *, token: str | None, **request: Any) -> Response:
        """Send a request, and return the answer."""
        response = await Client(self.process.gateway).ask(method, url, token=token, **request)
        assert response is not None
        await next_turn()  # statements are told a turn later
        return response


def present() -> MovedClock:
    """Return a clock that stands still at the present time, which tokens and rows have, too."""
    clock = MovedClock()
    clock.at = clock._began = SystemClock().now()
    return clock


@asynccontextmanager
async def opened(
    installation: Installation, patched: pytest.MonkeyPatch, clock: MovedClock | None = None
) -> AsyncIterator[OpenApi]:
    """Open the API of an installation until the block ends; then its journal is stored."""
    clock, work = clock or present(), Work()
    patched.setattr(http_api, "SystemClock", lambda: clock)
    _record(work, patched)
    environment = {**installation.environment, **OWN}
    deployment = Deployment.of(replace(installation, environment=environment).settings())
    async with SharedResources() as shared:
        process = await http_api.open_api(shared, deployment, "tidemill http tests", policy_of(deployment))
        yield OpenApi(process, clock, work)


def _record(work: Work, patched: pytest.MonkeyPatch) -> None:
    """Have every pool and every session of the process tell what it is asked."""
    acquire, created, prepare = WorkPool.acquire, Session.__init__, Session.prepare

    def lending(self: WorkPool, *, timeout: float) -> Any:
        work.lent.append(self.config.name)
        return acquire(self, timeout=timeout)

    def watched(self: Session, *driver: Any, **own: Any) -> None:
        created(self, *driver, **own)
        self.add_query_logger(_noting(self, work.statements.append))

    async def preparing(self: Session, query: str, **more: Any) -> Any:
        work.statements.append(query)
        return await prepare(self, query, **more)

    patched.setattr(WorkPool, "acquire", lending)
    patched.setattr(Session, "__init__", watched)
    patched.setattr(Session, "prepare", preparing)


def _noting(session: Session, note: Callable[[str], None]) -> Callable[[Any], None]:
    def asked(logged: Any) -> None:
        if not session.get_settings().application_name.endswith(JOURNAL):
            note(logged.query)

    return asked
