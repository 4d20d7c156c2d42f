"""What was revoked, has expired or was changed is in force in every process within 5 s, by the clock alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import product

import pytest

from tests.support.clients.journeys import Deployment
from tests.support.http.api import Api, Granted
from tests.support.http.opened import OpenApi, opened, present
from tests.support.servers.installation import Installation

IN_FORCE_S = 5.0
"""The promise; a process asks once a request comes that is later than what it knows by 4 s."""

PATH = "/api/db/client-configs"

REVOKE = "update tm.principal_token set revoked_at = now() where id = $1"

EXPIRY = "select expires_at from tm.principal_token where id = $1"

Change = Callable[[Api, str, str], object]
"""Changes what a principal may do: gets its name and its token."""

CHANGES: dict[str, tuple[Change, int]] = {
    "a token is revoked": (lambda api, _, token: api._fetch(REVOKE, token.split("_")[1]), 401),
    "its principal is revoked": (lambda api, name, _: api.revoke_principal(name), 401),
    "a verb is taken": (lambda api, name, _: api.grant(name, Granted("*", ["create"])), 403),
    "its grants are taken": (
        lambda api, name, _: api._fetch("delete from tm.principal_grant where principal = $1", name),
        404,
    ),
}


@pytest.fixture(scope="module")
def principals(served: Installation) -> Iterator[Api]:
    with ExitStack() as exit_stack:
        yield Api(Deployment(served, 2, exit_stack))


@pytest.fixture
async def processes(
    served: Installation, principals: Api, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[OpenApi, OpenApi]]:
    """Two processes, which read principals each for itself; one clock."""
    principals.add_principal("any", Granted("*"))
    clock = present()
    async with opened(served, monkeypatch, clock) as first, opened(served, monkeypatch, clock) as second:
        yield first, second


async def statuses(processes: tuple[OpenApi, OpenApi], token: str) -> list[int]:
    return [(await process.ask("GET", PATH, token=token)).status for process in processes]


async def test_a_change_is_in_force_in_every_process_within_5_s(
    processes: tuple[OpenApi, OpenApi], principals: Api, unique_name: Callable[[str], str]
) -> None:
    """However old what they know is when it changes; and no other request comes in between."""
    clock = processes[0].clock
    for (change, (make, status)), known_for_s in product(CHANGES.items(), (0.0, 1.9, 2.1, 3.9)):
        name = unique_name("changed")
        token = principals.add_principal(name, Granted("*"))
        clock.pass_(IN_FORCE_S)
        assert await statuses(processes, token) == [200, 200]
        clock.pass_(known_for_s)
        make(principals, name, token)
        clock.pass_(IN_FORCE_S - 0.9)
        assert await statuses(processes, token) == [status, status], (change, known_for_s)


async def test_a_token_is_refused_by_every_process_at_the_moment_it_expires(
    processes: tuple[OpenApi, OpenApi], principals: Api
) -> None:
    """No process has to read anything for that; one that is issued in its place is known within 5 s."""
    clock = processes[0].clock
    token = principals.add_token("any", valid=timedelta(hours=1))
    (row,) = principals._fetch(EXPIRY, token.split("_")[1])
    clock.at = row["expires_at"] - timedelta(microseconds=1)
    assert await statuses(processes, token) == [200, 200]
    clock.pass_(1e-6)
    assert await statuses(processes, token) == [401, 401]
    successor = principals.add_token("any")
    clock.pass_(IN_FORCE_S - 0.9)
    assert await statuses(processes, successor) == [200, 200]


async def test_while_requests_come_each_process_asks_once_in_two_seconds(
    processes: tuple[OpenApi, OpenApi], principals: Api
) -> None:
    """So that what is promised costs a question, not a question a request."""
    token, process = principals.add_token("any"), processes[1]
    process.clock.pass_(IN_FORCE_S)
    assert await statuses(processes, token) == [200, 200]
    process.work.take()
    for _ in range(100):
        process.clock.pass_(0.1)
        await process.ask("GET", "/api/db/query", token=token)
    _, statements = process.work.take()
    asked = [statement for statement in statements if "principal_version" in statement]
    assert 3 <= len(asked) <= 5, statements
