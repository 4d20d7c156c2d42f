"""Which questions about a password are answered, and what stands in the way of the others."""

from __future__ import annotations

import pytest

from tests.fakes.accounts import MemoryAccounts
from tests.fakes.commands import MemoryCommandStore
from tests.fakes.secrets import MemoryDataKeys, MemorySecretKeys
from tests.support.engine.commands import Harness
from tests.support.engine.secret_contexts import DOORS, NEW_ONLY, OLD_ONLY
from tests.support.engine.secret_contexts import STREAM as DOOR_STREAM
from tests.support.engine.sign_in_contexts import CLUB, STREAM, badge, member
from tests.support.security.hashes import OF_PEARS
from tests.unit.runtime.test_rate_limits import Hands
from tidemill.admin.sign_in import PasswordVerifier
from tidemill.api import SignInOutcome
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.commands.secret_events import RowKeys
from tidemill.domain.errors import MasterKeyMissing, SecretUnreadable, Unavailable, UsageError
from tidemill.security.master_keys import MasterKeys

DOORS_ALONE = StreamCatalog({"doors": ContextStream(DOORS, DOOR_STREAM)})
CATALOG = StreamCatalog({**DOORS_ALONE.contexts, "members": ContextStream(CLUB, STREAM)})


@pytest.fixture
async def store() -> MemoryCommandStore:
    """Ann and her badge, both with the password pears."""
    store = MemoryCommandStore(STREAM)
    harness = Harness(STREAM, store, row_keys=RowKeys(OLD_ONLY, MemoryDataKeys))
    await harness.claim()
    await harness.send(
        member("Create", "m1", login="ann", pass_hash=OF_PEARS),
        badge("Create", "b1", member_id="m1", order="ann", pass_hash=OF_PEARS),
    )
    return store


def verifier(
    store: MemoryCommandStore, masters: MasterKeys | None = OLD_ONLY, catalog: StreamCatalog = CATALOG
) -> PasswordVerifier:
    return PasswordVerifier(
        catalog=catalog,
        open_rows=lambda state, columns: MemoryAccounts(store, state, columns),
        keys=MemorySecretKeys(store),
        masters=masters,
        clock=Hands(),
    )


async def test_each_collection_has_its_own_accounts(store: MemoryCommandStore) -> None:
    answers = [await verifier(store).verify(name, "ann", "pears") for name in ("members", "badges")]
    assert [answer.key for answer in answers] == ["m1", "b1"]


async def test_attempts_are_counted_by_collection_and_name(store: MemoryCommandStore) -> None:
    desk = verifier(store)
    names = ("ann", "ANN", "ann ", "\uff41nn", "Ann", "ann")
    wrong = [await desk.verify("members", name, "plums") for name in names]
    assert [answer.outcome for answer in wrong] == [*[SignInOutcome.REFUSED] * 5, SignInOutcome.TOO_OFTEN]
    assert (await desk.verify("badges", "ann", "pears")).key == "b1"


@pytest.mark.parametrize("name", ["users", "doors", ""])
async def test_a_collection_that_nobody_signs_in_with_is_said_with_those_that_there_are(
    store: MemoryCommandStore, name: str
) -> None:
    with pytest.raises(UsageError) as refused:
        await verifier(store).verify(name, "ann", "pears")
    assert str(refused.value) == (
        f"there is no collection {name!r} that anybody signs in with: choose one of badges, members"
    )
    assert refused.value.fields["choices"] == ("badges", "members")


async def test_where_nobody_signs_in_the_setting_is_named(store: MemoryCommandStore) -> None:
    with pytest.raises(UsageError, match="nor any other: TIDEMILL_CONTEXTS chooses the contexts"):
        await verifier(store, catalog=DOORS_ALONE).verify("doors", "ann", "pears")


@pytest.mark.parametrize("name", ["ann", "nobody"])
async def test_without_master_keys_nothing_is_said_of_any_name(store: MemoryCommandStore, name: str) -> None:
    with pytest.raises(MasterKeyMissing, match="TIDEMILL_SECRET_KEYS is not set") as missing:
        await verifier(store, masters=None).verify("members", name, "pears")
    assert "add the master keys to TIDEMILL_SECRET_KEYS" in missing.value.advice


async def test_another_master_key_is_an_error_and_not_a_wrong_password(store: MemoryCommandStore) -> None:
    with pytest.raises(MasterKeyMissing, match="master key old is not set"):
        await verifier(store, NEW_ONLY).verify("members", "ann", "pears")


async def test_an_erased_hash_is_refused_and_a_lost_key_is_an_error(store: MemoryCommandStore) -> None:
    await MemorySecretKeys(store).erase("members", "m1")
    answer = await verifier(store).verify("members", "ann", "pears")
    assert answer.outcome is SignInOutcome.REFUSED
    store.tables.joined["secret_key"].clear()
    with pytest.raises(SecretUnreadable, match="SECRET_KEY_LOST"):
        await verifier(store).verify("members", "ann", "pears")


async def test_a_database_that_does_not_answer_is_no_wrong_password(store: MemoryCommandStore) -> None:
    store.away = True
    with pytest.raises(Unavailable):
        await verifier(store).verify("members", "ann", "pears")
