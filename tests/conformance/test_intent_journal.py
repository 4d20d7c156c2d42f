"""What every `IntentJournal` and every `IntentReader` promises, asked of the fake and of the database alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.fakes.submissions import MemoryIntents
from tidemill.domain.errors import RequestRefused, TransientError
from tidemill.security.journal import WriterIdentity
from tidemill.security.journal_writer import Journal
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.security.journal import JournalDatabase
from tidemill.storage.submissions.intents import IntentDatabase
from tidemill.submissions.journal import JournalledIntents
from tidemill.submissions.ports import Intent, IntentJournal, IntentReader

NOW = datetime(2026, 11, 30, tzinfo=UTC)
Side = tuple[IntentJournal, IntentReader]


@pytest.fixture(params=["memory", "timescaledb"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "memory":
        memory = MemoryIntents()
        yield memory, memory
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=2)
    process = WriterIdentity("http", "here", 1, "0", NOW)
    async with Journal(JournalDatabase(pool), process) as journal:
        yield JournalledIntents(journal), IntentDatabase(pool)
    await close_pool(pool)


def intent(**fields: Any) -> Intent:
    identity = str(uuid4())
    plain: dict[str, Any] = {
        "principal": "shop",
        "principal_kind": "service",
        "verb": "create",
        "command": "tidemill.users.CreateUser",
        "command_id": identity,
        "identity": identity,
        "aggregate": "users",
        "partition": 3,
        "collection": "users",
        "key": "a key that is a value",
        "address": "127.0.0.1",
        "fields": ("email", "username"),
        "payload": b"a value",
    }
    return Intent(**(plain | fields))


async def test_what_is_intended_is_known_to_its_principal(side: Side) -> None:
    journal, reader = side
    one, other = intent(), intent(collection=None, key=None, address=None)
    assert not await reader.is_intended(one.identity, "shop")
    references = await journal.intents([one, other])
    assert len(set(references)) == 2
    for each in (one, other):
        assert await reader.is_intended(each.identity, "shop")
        assert await reader.is_intended(each.identity, None)
        assert not await reader.is_intended(each.identity, "bank")


async def test_an_outcome_closes_its_intent_and_leaves_it_intended(side: Side) -> None:
    journal, reader = side
    one = intent()
    (reference,) = await journal.intents([one])
    await journal.outcome(reference, "rejected", code="INVALID")
    assert await reader.is_intended(one.identity, "shop")


async def test_without_a_database_nothing_is_intended() -> None:
    memory = MemoryIntents()
    memory.away = True
    with pytest.raises((TransientError, RequestRefused)):
        await memory.intents([intent()])


async def test_no_value_is_kept(database: str) -> None:
    pool = await create_pool(database, application_name="tidemill-tests", size=2)
    async with Journal(JournalDatabase(pool), WriterIdentity("http", "here", 1, "0", NOW)) as journal:
        intents = JournalledIntents(journal)
        (reference,) = await intents.intents([intent()])
        await intents.outcome(reference, "applied")
    await close_pool(pool)
    connection = await asyncpg.connect(database)
    rows = await connection.fetch(
        "select kind, action, collection, detail::text as detail from tm.journal order by number"
    )
    await connection.close()
    assert [row["kind"] for row in rows] == ["anchor", "intent", "outcome"]
    assert (rows[1]["action"], rows[1]["collection"]) == ("CreateUser", "users")
    assert "email" in rows[1]["detail"]
    assert "value" not in rows[1]["detail"]
