"""What a `DataKeyStore` and the `SecretKeys` promise, asked of the fakes and of the real ones alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.fakes.secrets import MemoryDataKeys, MemorySecretKeys
from tests.support.engine.commands import Harness, create_lanes, outcomes
from tests.support.engine.entity_contexts import tables
from tests.support.engine.secret_contexts import (
    BOTH,
    NEW,
    NEW_ONLY,
    OLD,
    OLD_ONLY,
    STREAM,
    door,
    doors,
    settings,
)
from tidemill.admin.secrets import KeyManagement
from tidemill.catalog.streams import StreamCatalog
from tidemill.commands.ports import CommandStore
from tidemill.commands.secret_events import RowKeys
from tidemill.domain.errors import MasterKeyMissing, SecretUnreadable, TransientError
from tidemill.security.data_keys import DataKey, SecretKeyRow
from tidemill.security.master_keys import MasterKey, MasterKeys
from tidemill.security.ports import KeyCount, SecretKeys
from tidemill.security.reader import KeyedSecretReader
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.security.data_keys import DataKeyTransaction
from tidemill.storage.security.secret_keys import SecretKeyDatabase


@dataclass
class Side:
    """One side: the fakes, or the database."""

    store: CommandStore
    keys: SecretKeys
    open_store: Any
    harnesses: dict[int, Harness] = field(default_factory=dict)

    async def send(self, masters: MasterKeys, *commands: Any) -> dict[str, int]:
        """Apply commands as a process with these master keys."""
        if id(masters) not in self.harnesses:
            self.harnesses[id(masters)] = Harness(
                STREAM, self.store, row_keys=RowKeys(masters, self.open_store)
            )
            for harness in self.harnesses.values():
                harness.topic = next(iter(self.harnesses.values())).topic
        harness = self.harnesses[id(masters)]
        await harness.claim()
        return dict(outcomes(await harness.send(*commands)))

    async def row(self, key: str) -> Any:
        async with self.store.unit_of_work() as work:
            return (await work.load(doors.state, [key]))[key]

    async def code(self, key: str, masters: MasterKeys = BOTH) -> str:
        """Return the clear code of a door."""
        held = await self.row(key)
        return await KeyedSecretReader(self.keys, masters).open("doors", key, "code", held.code)

    async def add(self, master: MasterKey, *rows: SecretKeyRow) -> None:
        async with self.store.unit_of_work() as work:
            await work.join(self.open_store).add(master, rows)

    async def load(self, *keys: str) -> list[SecretKeyRow]:
        async with self.store.unit_of_work() as work:
            rows: list[SecretKeyRow] = await work.join(self.open_store).load("doors", keys)
            return rows

    def management(self, masters: MasterKeys | None = BOTH) -> KeyManagement:
        return KeyManagement(catalog=StreamCatalog({}), keys=self.keys, masters=masters)


@pytest.fixture(params=["memory", "timescaledb"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "memory":
        store = MemoryCommandStore(STREAM)
        yield Side(store, MemorySecretKeys(store), MemoryDataKeys)
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        for statement in tables(doors.state):
            await connection.execute(statement)
        await create_lanes(connection, STREAM)
    yield Side(CommandDatabase(pool), SecretKeyDatabase(pool), DataKeyTransaction)
    await close_pool(pool)


def wrapped(key: str, master: MasterKeys = OLD_ONLY, generation: int = 1) -> SecretKeyRow:
    return master.wrap(DataKey.fresh(generation), "doors", key)


async def test_keys_come_back_as_they_were_stored_in_the_order_of_their_generations(side: Side) -> None:
    rows = [wrapped("d1"), wrapped("d1", generation=2), wrapped("d2")]
    await side.add(OLD, rows[1], rows[0], rows[2])
    assert await side.load("d1", "d2", "d3") == rows
    assert await side.keys.stored("doors", "d1") == rows[:2]
    assert await side.keys.stored("gates", "d1") == []


async def test_a_key_is_stored_once(side: Side) -> None:
    await side.add(OLD, wrapped("d1"))
    with pytest.raises(TransientError):
        await side.add(OLD, wrapped("d1"))


async def test_a_master_key_is_registered_with_what_it_wraps_and_guards_its_name(side: Side) -> None:
    await side.add(OLD, wrapped("d1"))
    registered = await side.keys.masters()
    assert list(registered) == ["old"]
    assert OLD.fits(registered["old"])
    impostor = MasterKeys([MasterKey("old", NEW.secret)])
    with pytest.raises(MasterKeyMissing, match="SECRET_KEY_WRONG"):
        await side.add(impostor.first, wrapped("d2", impostor))
    assert await side.load("d2") == []


async def test_keys_are_counted_by_collection_and_master_key(side: Side) -> None:
    await side.add(OLD, wrapped("d1"), wrapped("d2"))
    await side.add(NEW, wrapped("d3", NEW_ONLY))
    assert await side.keys.erase("doors", "d1") == 1
    assert await side.keys.counts() == [KeyCount("doors", "new", 1, 0), KeyCount("doors", "old", 1, 1)]


async def test_an_erased_key_stays_as_a_row_without_a_key(side: Side) -> None:
    await side.add(OLD, wrapped("d1"), wrapped("d1", generation=2), wrapped("d2"))
    assert await side.keys.erase("doors", "d1") == 2
    assert [row.wrapped is None for row in await side.load("d1", "d2")] == [True, True, False]
    assert await side.keys.erase("doors", "d1") == 0


async def test_a_rotation_goes_in_chunks_and_leaves_out_what_cannot_be_unwrapped(side: Side) -> None:
    lost = MasterKeys([MasterKey("lost", bytes(32))])
    await side.add(OLD, *(wrapped(f"d{number}") for number in range(5)))
    await side.add(lost.first, wrapped("d5", lost))
    chunks: list[int] = []
    result = await side.management().rotate(chunks.append, chunk=2)
    assert chunks == [2, 2, 1]
    assert (result.master, result.rewrapped, result.unreadable) == ("new", 5, {"lost": 1})
    assert list(result.removed) == ["old"]
    assert sorted(await side.keys.masters()) == ["lost", "new"]
    assert [row.master for row in await side.load(*(f"d{number}" for number in range(6)))] == [
        *["new"] * 5,
        "lost",
    ]
    assert (await side.management().rotate(chunks.append)).rewrapped == 0


async def test_a_lost_master_key_is_given_up_with_all_that_it_wraps(side: Side) -> None:
    await side.add(OLD, wrapped("d1"), wrapped("d2"))
    await side.add(NEW, wrapped("d3", NEW_ONLY))
    assert await side.keys.give_up("old") == 2
    assert list(await side.keys.masters()) == ["new"]
    assert [row.wrapped is None for row in await side.load("d1", "d2", "d3")] == [True, True, False]


async def test_commands_are_encrypted_rotated_and_erased(side: Side) -> None:
    hidden = settings(password="p", host="h", precise=0.1)
    created = [
        door("Create", f"d{number}", name="n", code=f"c{number}", settings=hidden) for number in range(3)
    ]
    assert await side.send(OLD_ONLY, *created) == {"applied": 3}
    await side.management().rotate(lambda _: None)
    assert await side.send(BOTH, door("Update", "d0", code="new"), door("Delete", "d2")) == {"applied": 2}
    assert [await side.code(key, NEW_ONLY) for key in ("d0", "d1", "d2")] == ["new", "c1", "c2"]
    held = (await side.row("d1")).settings
    reader = KeyedSecretReader(side.keys, NEW_ONLY)
    assert json.loads(await reader.open_members("doors", "d1", "settings", held)) == json.loads(hidden)
    await side.keys.erase("doors", "d1")
    with pytest.raises(SecretUnreadable, match="SECRET_ERASED"):
        await side.code("d1")
    assert await side.send(BOTH, door("Update", "d1", code="again", settings=held)) == {"applied": 1}
    assert await side.code("d1") == "again"


async def test_a_process_without_the_master_key_of_a_row_writes_nothing(side: Side) -> None:
    await side.send(OLD_ONLY, door("Create", "d1", name="n", code="c"))
    with pytest.raises(MasterKeyMissing, match="master key old is not set"):
        await side.send(NEW_ONLY, door("Update", "d1", code="x"))
    assert await side.code("d1") == "c"


@pytest.mark.parametrize(
    ("masters", "place", "code"),
    [
        (NEW_ONLY, ("doors", "d1", "code"), "SECRET_KEYS_MISSING"),
        (MasterKeys([MasterKey("old", NEW.secret)]), ("doors", "d1", "code"), "SECRET_KEY_WRONG"),
        (None, ("doors", "d1", "code"), "SECRET_KEYS_MISSING"),
        (BOTH, ("doors", "d1", "name"), "SECRET_DAMAGED"),
        (BOTH, ("doors", "d9", "code"), "SECRET_KEY_LOST"),
    ],
)
async def test_each_way_to_lose_a_value_has_an_error_of_its_own(
    side: Side, masters: MasterKeys | None, place: tuple[str, str, str], code: str
) -> None:
    await side.send(OLD_ONLY, door("Create", "d1", name="n", code="c"))
    held = await side.row("d1")
    with pytest.raises((MasterKeyMissing, SecretUnreadable)) as refused:
        await KeyedSecretReader(side.keys, masters).open(*place, held.code)
    assert refused.value.code == code


async def test_what_was_written_in_clear_is_read_without_any_key(side: Side) -> None:
    reader = KeyedSecretReader(side.keys, None)
    assert await reader.open("doors", "d1", "code", "4711") == "4711"
    assert await reader.open_members("doors", "d1", "settings", '{"password": "p"}') == '{"password": "p"}'
