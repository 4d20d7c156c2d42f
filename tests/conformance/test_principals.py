"""What a `PrincipalReader` and a `PrincipalStore` promise, asked of the fake and of the real one alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from tests.fakes.principals import MemoryPrincipals
from tidemill.security.ports import PrincipalReader, PrincipalStore
from tidemill.security.principal_rows import (
    GrantRow,
    PrincipalChange,
    PrincipalRow,
    PrincipalState,
    TokenRow,
)
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.security.principals import PrincipalDatabase

NOW = datetime(2026, 12, 1, 12, 0, 0, 123_456, tzinfo=UTC)
BILLING = PrincipalRow("billing", "service", "client-7", NOW)
ANN = PrincipalRow("ann", "person", None, NOW)
TICKS = GrantRow("billing", "ticks", ("read", "create"), ("price",))
ALL = GrantRow("billing", "*", ("read",))
TOKEN = TokenRow("0123456789", "billing", b"h" * 32, "ci", "wxyz", NOW, NOW + timedelta(days=90))


class Store(PrincipalReader, PrincipalStore, Protocol):
    """Both ports, which one adapter has."""


@pytest.fixture(params=["memory", "timescaledb"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryPrincipals()
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    yield PrincipalDatabase(pool)
    await close_pool(pool)


async def put(store: Store, **rows: object) -> PrincipalChange:
    change = PrincipalChange(action="test", principal="-", before=None, after=None, **rows)  # type: ignore[arg-type]

    async def decided(_: PrincipalState) -> PrincipalChange:
        return change

    return await store.change(decided)


async def state(store: Store) -> PrincipalState:
    whole = await store.changed_since(None)
    assert whole is not None
    return whole


async def test_at_first_there_is_nothing(store: Store) -> None:
    assert (await state(store))[1:] == ((), (), ())


async def test_rows_come_back_as_they_were_stored(store: Store) -> None:
    await put(store, principals=(BILLING, ANN), grants=(TICKS, ALL), tokens=(TOKEN,))
    assert (await state(store))[1:] == ((ANN, BILLING), (ALL, TICKS), (TOKEN,))


async def test_what_did_not_change_is_not_read_again(store: Store) -> None:
    first = await state(store)
    assert await store.changed_since(first.version) is None
    await put(store, principals=(BILLING,))
    second = await store.changed_since(first.version)
    assert second is not None
    assert second.principals == (BILLING,)
    assert await store.changed_since(second.version) is None


async def test_a_row_takes_the_place_of_that_with_its_key(store: Store) -> None:
    await put(store, principals=(BILLING, ANN), grants=(TICKS, ALL), tokens=(TOKEN,))
    revoked = BILLING._replace(revoked_at=NOW, subject=None)
    narrower = TICKS._replace(verbs=("read",), hidden=())
    ended = TOKEN._replace(revoked_at=NOW, expires_at=NOW)
    await put(store, principals=(revoked,), grants=(narrower,), tokens=(ended,), removed=(ALL,))
    assert (await state(store))[1:] == ((ANN, revoked), (narrower,), (ended,))


async def test_who_decides_sees_what_was_decided_before(store: Store) -> None:
    """Fifty at once, each of which adds a label to the same token: none is lost."""
    await put(store, principals=(BILLING,), tokens=(TOKEN,))

    async def later(before: PrincipalState) -> PrincipalChange:
        (token,) = before.tokens
        moved = token._replace(expires_at=token.expires_at + timedelta(days=1))
        return PrincipalChange(action="test", principal="billing", before=None, after=None, tokens=(moved,))

    await asyncio.gather(*(store.change(later) for _ in range(50)))
    assert (await state(store)).tokens[0].expires_at == TOKEN.expires_at + timedelta(days=50)


async def test_if_the_decision_fails_nothing_is_changed(store: Store) -> None:
    await put(store, principals=(BILLING,))
    before = await state(store)

    async def refused(_: PrincipalState) -> PrincipalChange:
        raise LookupError("no journal")

    with pytest.raises(LookupError):
        await store.change(refused)
    assert await store.changed_since(before.version) is None


async def test_a_change_comes_back_from_its_call(store: Store) -> None:
    change = await put(store, principals=(ANN,))
    assert change.principals == (ANN,)
