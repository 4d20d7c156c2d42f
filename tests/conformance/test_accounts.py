"""What every `SignInRows` promises, asked of the fake and of the real one alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.accounts import MemoryAccounts
from tests.fakes.commands import MemoryCommandStore
from tests.fakes.secrets import MemoryDataKeys, MemorySecretKeys
from tests.support.engine.commands import Harness, create_lanes, outcomes
from tests.support.engine.entity_contexts import tables
from tests.support.engine.secret_contexts import OLD_ONLY
from tests.support.engine.sign_in_contexts import CLUB, STREAM, badge, badges, member, members
from tests.support.security.hashes import OF_PEARS
from tidemill.admin.sign_in import PasswordVerifier
from tidemill.api import Account, SignInOutcome, SignInRows, hash_password
from tidemill.api.entities.declaration import Entity
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.commands.ports import CommandStore
from tidemill.commands.secret_events import RowKeys
from tidemill.domain.secrets import SealedText
from tidemill.domain.state import SignInColumns, State
from tidemill.runtime.clock import SystemClock
from tidemill.security.ports import SecretKeys
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.security.accounts import AccountDatabase
from tidemill.storage.security.data_keys import DataKeyTransaction
from tidemill.storage.security.secret_keys import SecretKeyDatabase


@dataclass
class Side:
    """One side: the fakes, or the database."""

    store: CommandStore
    keys: SecretKeys
    harness: Harness
    open_rows: Callable[[State, SignInColumns], SignInRows]

    async def send(self, *commands: Any) -> None:
        assert dict(outcomes(await self.harness.send(*commands))) == {"applied": len(commands)}

    async def account(self, name: str, entity: Entity = members) -> Account | None:
        columns = entity.state.sign_in
        assert columns is not None
        return await self.open_rows(entity.state, columns).account(name)

    async def key(self, name: str) -> str | None:
        account = await self.account(name)
        return None if account is None else account.key


@pytest.fixture(params=["memory", "timescaledb"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "memory":
        store = MemoryCommandStore(STREAM)
        harness = Harness(STREAM, store, row_keys=RowKeys(OLD_ONLY, MemoryDataKeys))
        await harness.claim()
        yield Side(
            store,
            MemorySecretKeys(store),
            harness,
            lambda state, columns: MemoryAccounts(store, state, columns),
        )
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        for statement in tables(members.state, badges.state):
            await connection.execute(statement)
        await create_lanes(connection, STREAM)
    database = CommandDatabase(pool)
    harness = Harness(STREAM, database, row_keys=RowKeys(OLD_ONLY, DataKeyTransaction))
    await harness.claim()
    yield Side(
        database,
        SecretKeyDatabase(pool),
        harness,
        lambda state, columns: AccountDatabase(pool, state, columns),
    )
    await close_pool(pool)


async def test_an_account_is_found_by_its_name_however_it_is_written(side: Side) -> None:
    await side.send(
        member("Create", "m1", login="Åsa", pass_hash=OF_PEARS),
        member("Create", "m2", login="ben", pass_hash=OF_PEARS),
    )
    assert [await side.key(name) for name in ("Åsa", "åSA", "A\u030asa", "BEN")] == ["m1", "m1", "m1", "m2"]


@pytest.mark.parametrize("name", ["", "an", "anna", "ann ", "%", "ann\0", "\udcff", "x" * 100_000, "m1"])
async def test_any_other_name_finds_none(side: Side, name: str) -> None:
    await side.send(member("Create", "m1", login="ann", pass_hash=OF_PEARS))
    assert await side.account(name) is None


async def test_an_account_comes_with_its_encrypted_hash_and_says_whether_it_is_active(side: Side) -> None:
    await side.send(
        member("Create", "m1", login="ann", pass_hash=OF_PEARS),
        member("Create", "m2", login="ben", pass_hash=OF_PEARS, may_enter=False),
    )
    ann, ben = await side.account("ann"), await side.account("ben")
    assert ann is not None
    assert ben is not None
    assert SealedText.of(ann.password_hash) is not None
    assert (ann.is_active, ben.is_active) == (True, False)


async def test_a_deleted_account_is_none_and_its_name_is_its_next_holders(side: Side) -> None:
    await side.send(member("Create", "m1", login="ann", pass_hash=OF_PEARS))
    await side.send(member("Delete", "m1"))
    assert await side.key("ann") is None
    await side.send(member("Create", "m2", login="Ann", pass_hash=OF_PEARS))
    assert await side.key("ann") == "m2"


async def test_an_entity_of_a_family_without_a_mark_is_active_while_it_is_in_force(side: Side) -> None:
    await side.send(member("Create", "m1", login="ann", pass_hash=OF_PEARS))
    await side.send(badge("Create", "b1", member_id="m1", order="Gold", pass_hash=OF_PEARS))
    account = await side.account("gold", badges)
    assert account is not None
    assert (account.key, account.is_active) == ("b1", True)
    assert await side.account("gold") is None, "the collections are apart"


async def test_a_sign_in_follows_every_change_of_the_row(side: Side) -> None:
    verifier = PasswordVerifier(
        catalog=StreamCatalog({"members": ContextStream(CLUB, STREAM)}),
        open_rows=side.open_rows,
        keys=side.keys,
        masters=OLD_ONLY,
        clock=SystemClock(),
    )

    async def attempt(password: str, name: str = "ann") -> tuple[SignInOutcome, str | None]:
        answer = await verifier.verify("members", name, password)
        return answer.outcome, answer.key

    accepted, refused = (SignInOutcome.ACCEPTED, "m1"), (SignInOutcome.REFUSED, None)
    await side.send(member("Create", "m1", login="ann", pass_hash=OF_PEARS))
    assert [await attempt("pears"), await attempt("apples"), await attempt("pears", "bob")] == [
        accepted,
        refused,
        refused,
    ]
    await side.send(member("Update", "m1", pass_hash=hash_password("plums")))
    assert [await attempt("pears"), await attempt("plums")] == [refused, accepted]
    await side.send(member("Update", "m1", may_enter=False))
    assert await attempt("plums") == refused
    await side.send(member("Update", "m1", may_enter=True, login="anna"))
    assert [await attempt("plums"), await attempt("plums", "ANNA")] == [refused, accepted]
    await side.keys.erase("members", "m1")
    assert await attempt("plums", "anna") == refused
