"""Principals on a real database: two processes, revocations by verb and by hand, outages, restored rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from tests.support.security.principals import COLLECTIONS, MovedClock
from tests.support.servers.databases import execute, fetch
from tidemill.admin.principals import PrincipalManagement
from tidemill.domain.errors import DataError, RequestRefused
from tidemill.security.authenticator import Authenticator
from tidemill.security.directory import PrincipalDirectory
from tidemill.security.principal_rows import PrincipalChange, PrincipalRow, PrincipalState
from tidemill.security.principals import PrincipalKind
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.security.principals import PrincipalDatabase


@dataclass
class Deployment:
    """A database with an operator, and two processes that read it, each with a pool of its own."""

    url: str
    clock: MovedClock
    management: PrincipalManagement
    pools: list[Pool]
    processes: list[Authenticator]

    async def names(self, token: str) -> list[str]:
        """Return what each process takes a token for."""
        return [await self._name(process, f"Bearer {token}") for process in self.processes]

    async def _name(self, process: Authenticator, header: str) -> str:
        try:
            return (await process.authenticate(header)).name
        except RequestRefused as error:
            return str(error.code)


@pytest.fixture
async def deployment(database: str) -> AsyncIterator[Deployment]:
    clock = MovedClock()
    pools = [
        await create_pool(database, application_name=f"tidemill-{number}", size=2) for number in range(3)
    ]
    management = PrincipalManagement(
        store=PrincipalDatabase(pools[0]), collections=COLLECTIONS, clock=clock, actor="olga"
    )
    processes = [
        Authenticator(
            PrincipalDirectory(PrincipalDatabase(pool), clock, deadline_s=30), clock, development=True
        )
        for pool in pools[1:]
    ]
    yield Deployment(database, clock, management, pools, processes)
    for process in processes:
        await process.close()
    for pool in pools:
        await close_pool(pool)


async def test_what_is_revoked_by_an_operator_is_refused_by_every_process_within_five_seconds(
    deployment: Deployment,
) -> None:
    management, clock = deployment.management, deployment.clock
    assert await deployment.names("anything") == ["development"] * 2
    await management.add("billing", PrincipalKind.SERVICE)
    clock.pass_(5)
    assert await deployment.names("anything") == ["UNAUTHENTICATED"] * 2
    first, second = [await management.issue_token("billing") for _ in range(2)]
    clock.pass_(5)
    assert await deployment.names(first.token) == ["billing"] * 2
    await management.revoke_token(first.id)
    clock.pass_(5)
    assert await deployment.names(first.token) == ["UNAUTHENTICATED"] * 2
    assert await deployment.names(second.token) == ["billing"] * 2
    await management.revoke("billing")
    clock.pass_(5)
    assert await deployment.names(second.token) == ["UNAUTHENTICATED"] * 2
    await management.add("billing", PrincipalKind.SERVICE, reinstate=True)
    clock.pass_(5)
    assert await deployment.names(second.token) == ["UNAUTHENTICATED"] * 2


@pytest.mark.parametrize(
    "statement",
    [
        "update tm.principal_token set revoked_at = now()",
        "update tm.principal_token set expires_at = '2000-01-01'",
        "delete from tm.principal_token",
        "truncate tm.principal_token",
        "update tm.principal set revoked_at = now()",
    ],
)
async def test_a_change_by_hand_is_seen_as_any_other(deployment: Deployment, statement: str) -> None:
    await deployment.management.add("billing", PrincipalKind.SERVICE)
    issued = await deployment.management.issue_token("billing")
    assert await deployment.names(issued.token) == ["billing"] * 2
    execute(deployment.url, statement)
    deployment.clock.pass_(5)
    assert await deployment.names(issued.token) == ["UNAUTHENTICATED"] * 2


async def test_without_the_database_the_last_state_stays_for_a_minute_and_no_longer(
    deployment: Deployment,
) -> None:
    await deployment.management.add("billing", PrincipalKind.SERVICE)
    issued = await deployment.management.issue_token("billing")
    assert await deployment.names(issued.token) == ["billing"] * 2
    for pool in deployment.pools[1:]:
        pool.terminate()
    deployment.clock.pass_(59)
    assert await deployment.names(issued.token) == ["billing"] * 2
    deployment.clock.pass_(2)
    assert await deployment.names(issued.token) == ["DATABASE_AWAY"] * 2


async def test_the_version_of_restored_rows_is_another_one(deployment: Deployment) -> None:
    seen = set()
    for _ in range(3):
        await deployment.management.add("billing", PrincipalKind.SERVICE)
        seen.add(str(fetch(deployment.url, "select version::text from tm.principal_version")[0][0]))
        execute(deployment.url, "delete from tm.principal")
    assert len(seen) == 3


async def test_the_database_itself_refuses_two_principals_for_one_subject(deployment: Deployment) -> None:
    """Also to an operator who writes SQL."""
    await deployment.management.add("billing", PrincipalKind.SERVICE)

    async def decided(_: PrincipalState) -> PrincipalChange:
        row = PrincipalRow("other", "service", "billing", deployment.clock.at)
        return PrincipalChange(action="x", principal="other", before=None, after=None, principals=(row,))

    with pytest.raises(DataError, match="principal_subject"):
        await deployment.management.store.change(decided)


async def test_no_token_without_a_principal_and_no_grant_of_nothing(deployment: Deployment) -> None:
    for statement, error in (
        (
            "insert into tm.principal_token values ('a', 'x', sha256(''), '', '', now(), now(), null)",
            asyncpg.ForeignKeyViolationError,
        ),
        (
            "insert into tm.principal values ('x', 'development', null, now(), null)",
            asyncpg.CheckViolationError,
        ),
        ("insert into tm.principal_version values (false, gen_random_uuid())", asyncpg.CheckViolationError),
    ):
        with pytest.raises(error):
            execute(deployment.url, statement)
