"""What an operator sees of the keys of secrets, and which questions are refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.fakes.secrets import MemoryDataKeys, MemorySecretKeys
from tests.support.engine.secret_contexts import BOTH, DOORS, NEW, NEW_ONLY, OLD, OLD_ONLY, STREAM
from tidemill.admin.secrets import KeyManagement, MasterStanding, new_master_key
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.errors import MasterKeyMissing, UsageError
from tidemill.security.data_keys import DataKey
from tidemill.security.master_keys import MasterKey, MasterKeys

CATALOG = StreamCatalog({"doors": ContextStream(DOORS, STREAM)})


@pytest.fixture
def store() -> MemoryCommandStore:
    return MemoryCommandStore(STREAM)


def management(store: MemoryCommandStore, masters: MasterKeys | None = BOTH) -> KeyManagement:
    return KeyManagement(catalog=CATALOG, keys=MemorySecretKeys(store), masters=masters)


async def add(store: MemoryCommandStore, masters: MasterKeys, *keys: str) -> None:
    async with store.unit_of_work() as work:
        rows = [masters.wrap(DataKey.fresh(1), "doors", key) for key in keys]
        await work.join(MemoryDataKeys).add(masters.first, rows)


def standings(status: Any) -> dict[str, tuple[str, int]]:
    return {master.name: (master.standing, master.keys) for master in status.masters}


async def test_a_status_shows_every_master_key_that_is_set_or_in_use(store: MemoryCommandStore) -> None:
    await add(store, OLD_ONLY, "d1", "d2")
    await MemorySecretKeys(store).erase("doors", "d2")
    status = await management(store).status()
    assert standings(status) == {"new": (MasterStanding.FIRST, 0), "old": (MasterStanding.OTHER, 1)}
    assert (status.erased, status.unreadable) == (1, 0)


@pytest.mark.parametrize(
    ("masters", "standing"),
    [
        (None, MasterStanding.MISSING),
        (NEW_ONLY, MasterStanding.MISSING),
        (MasterKeys([MasterKey("old", NEW.secret)]), MasterStanding.WRONG),
    ],
)
async def test_keys_that_cannot_be_unwrapped_are_counted(
    store: MemoryCommandStore, masters: MasterKeys | None, standing: MasterStanding
) -> None:
    await add(store, OLD_ONLY, "d1", "d2")
    status = await management(store, masters).status()
    assert standings(status)["old"] == (standing, 2)
    assert status.unreadable == 2


async def test_a_rotation_needs_a_master_key(store: MemoryCommandStore) -> None:
    with pytest.raises(MasterKeyMissing):
        await management(store, None).rotate(lambda _: None)


async def test_an_erasure_names_a_collection_with_secrets_and_a_row_with_keys(
    store: MemoryCommandStore,
) -> None:
    await add(store, OLD_ONLY, "d1")
    with pytest.raises(UsageError, match="no collection 'gates' with secrets: choose one of doors"):
        await management(store).erase("gates", "d1")
    with pytest.raises(UsageError, match="nothing of it is encrypted"):
        await management(store).erase("doors", "d2")
    assert await management(store).erase("doors", "d1") == 1


async def test_only_a_master_key_that_is_in_use_and_not_set_is_given_up(store: MemoryCommandStore) -> None:
    await add(store, OLD_ONLY, "d1")
    with pytest.raises(UsageError, match="no master key 'other' in use: choose one of old"):
        await management(store).give_up("other")
    with pytest.raises(UsageError, match="is in TIDEMILL_SECRET_KEYS, so it is not lost"):
        await management(store).give_up("old")
    assert await management(store, NEW_ONLY).give_up("old") == 1


def test_a_new_key_is_a_part_of_the_setting() -> None:
    keys = MasterKeys.parse(f"{new_master_key('2026-12')},{OLD.setting}")
    assert keys.names == ("2026-12", "old")
    assert new_master_key("a") != new_master_key("a")
    with pytest.raises(UsageError, match="'A B' cannot name a key"):
        new_master_key("A B")
