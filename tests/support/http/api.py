"""The HTTP API of a deployment on real servers: what processes commands, and several processes that answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2

from tests.support.clients.journeys import SESSION_S, Deployment, Worker
from tests.support.servers.installation import Installation, installation_on
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.runtime.clock import SystemClock
from tidemill.security.tokens import Token
from tidemill_devkit.stack import Stack

OWN: Final = {
    "TIDEMILL_HTTP_PORT": "0",
    "TIDEMILL_HTTP_CURSOR_KEY": "one key for the cursors of all processes",
    "TIDEMILL_HTTP_UNITS_PER_S": "100000",
}
"""The settings of each process that answers: what a test asks for in a second must not depend on the machine."""
ALL: Final = ("read", "create", "update", "delete")
NOT_BEFORE: Final = "2020-01-01T00:00:00Z"
"""A bound of time that every document of a test lies behind."""

_PRINCIPAL: Final = """
insert into tm.principal (name, kind, created_at) values ($1, 'service', now()) on conflict (name) do nothing
"""
_GRANT: Final = """
insert into tm.principal_grant (principal, collection, verbs, hidden) values ($1, $2, $3, $4)
on conflict (principal, collection) do update set verbs = excluded.verbs, hidden = excluded.hidden
"""
_TOKEN: Final = """
insert into tm.principal_token (id, principal, hash, label, last_characters, created_at, expires_at, revoked_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""


@dataclass(frozen=True)
class Granted:
    """What a principal may do with a collection."""

    collection: str
    verbs: Sequence[str] = ALL
    hidden: Sequence[str] = ()


@dataclass
class Api:
    """A deployment that answers over HTTP. Clients wait as long as a hanging test may take."""

    deployment: Deployment
    servers: list[Worker] = field(default_factory=list)
    engines: list[Worker] = field(default_factory=list)

    def serve(self, **environment: str) -> Worker:
        """Start one more process that answers; it does when this returns."""
        server = self.deployment.start("http", **OWN, **environment)
        await_answers(server)
        self.servers.append(server)
        return server

    def url(self, number: int = 0) -> str:
        """Return where a process listens."""
        return address_of(self.servers[number])

    def client(self, token: str | None, number: int = 0) -> httpx2.Client:
        """Return a client of one process, with a token; the caller closes it."""
        return httpx2.Client(base_url=self.url(number), headers=bearer(token), timeout=HANGING_S)

    def replace_server(self, number: int) -> None:
        """Kill a process that answers, and start another one in its place."""
        self.servers[number].kill()
        self.serve()
        self.servers[number] = self.servers.pop()

    def replace_engine(self) -> None:
        """Kill what processes commands, and start another one in its place."""
        self.engines.pop().kill()
        self.engines.append(self.deployment.start("all"))

    # --- principals ---

    def add_principal(self, name: str, *granted: Granted) -> str:
        """Add a service with grants, by the owner's login; return a token for it."""
        self._fetch(_PRINCIPAL, name)
        for grant in granted:
            self.grant(name, grant)
        return self.add_token(name)

    def grant(self, name: str, granted: Granted) -> None:
        """Set what a service may do with a collection."""
        self._fetch(_GRANT, name, granted.collection, list(granted.verbs), list(granted.hidden))

    def add_token(self, name: str, *, valid: timedelta = timedelta(days=1)) -> str:
        """Return one more token of a service."""
        token, now = Token.fresh(), SystemClock().now()
        row = token.row(name, label="", created_at=now - timedelta(days=1), expires_at=now + valid)
        self._fetch(_TOKEN, *row)
        return token.text

    def revoke_principal(self, name: str) -> None:
        """End everything that a service may do."""
        self._fetch("update tm.principal set revoked_at = now() where name = $1", name)

    # --- what the database has ---

    def journal(self, kind: str) -> list[Any]:
        """Return the entries of a kind, in the order of their times."""
        return self._fetch(
            "select principal, action, collection, command_id::text, detail::text, number, writer::text "
            "from tm.journal where kind = $1 order by at, number",
            kind,
        )

    def _fetch(self, query: str, *arguments: object) -> list[Any]:
        return self.deployment.installation.fetch(query, *arguments)


def bearer(token: str | None) -> dict[str, str]:
    """Return the header of a token; without one, none."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def address_of(server: Worker) -> str:
    """Return where a process answers requests."""
    return str(server.said("http_served")[-1]["address"])


def tick(symbol: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of one price, of now."""
    now = SystemClock().now().isoformat().replace("+00:00", "Z")
    return {"symbol": symbol, "time": now, "price": 1.5, "source": "http"} | fields


def new_key() -> str:
    """Return an Idempotency-Key that nothing has."""
    return str(uuid4())


def plain_client() -> httpx2.Client:
    """Return a client for many threads that opens a connection for each request; the caller closes it."""
    return httpx2.Client(limits=httpx2.Limits(max_keepalive_connections=0), timeout=HANGING_S, verify=False)


@contextmanager
def served(
    stack: Stack,
    database: str,
    prefix: str,
    folder: Path,
    principals: Mapping[str, Sequence[Granted]],
    *,
    partitions: int = 2,
    servers: int = 2,
    engine: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[Api, dict[str, str]]]:
    """Serve a deployment until the block ends, and yield it with the token of each principal.

    `engine`: whether commands are processed, too.

    Principals are there before the first process, so that none of a test's requests is answered for an older state.
    """
    own = {"TIDEMILL_KAFKA_SESSION_S": str(SESSION_S), "TIDEMILL_REGISTRY_URL": ""} | dict(environment or {})
    made = installation_on(stack, database, prefix, folder, partitions)
    with ExitStack() as exit_stack:
        installation = Installation({**made.environment, **own}, folder)
        api = Api(Deployment(installation, partitions, exit_stack))
        if "TIDEMILL_CONTEXTS" in own:
            api.deployment("migrate")
        api.deployment("topics", "create")
        tokens = {name: api.add_principal(name, *granted) for name, granted in principals.items()}
        api.engines += [api.deployment.launch("all")] if engine else []
        api.servers += [api.deployment.launch("http", **OWN) for _ in range(servers)]
        for worker in [*api.engines, *api.servers]:
            worker.await_well()
        for server in api.servers:
            await_answers(server)
        yield api, tokens


def await_answers(server: Worker) -> None:
    """Wait until a process answers requests."""
    eventually_blocking(
        lambda: server.said("http_served") and httpx2.get(f"{address_of(server)}/livez").status_code == 200,
        what="a process that answers",
        retry_on=(httpx2.HTTPError,),
    )
