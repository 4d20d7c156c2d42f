"""What a `JournalStore` and a `JournalReader` promise, asked of the fakes and of the real ones alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from tests.fakes.journal import MemoryJournal, MemoryJournalHistory
from tidemill.security.journal import (
    Chain,
    ChainEnd,
    EntryKind,
    EntryRef,
    JournalEntry,
    JournalRow,
    WriterIdentity,
    payload_detail,
)
from tidemill.security.journal_check import faults
from tidemill.security.ports import JournalReader, JournalStore, OpenIntent
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.security.journal import (
    JOURNAL_TIMEOUTS,
    WALK_TIMEOUTS,
    JournalDatabase,
    JournalHistoryDatabase,
)

AT = datetime(2026, 12, 1, 10, 0, 0, 123456, tzinfo=UTC)
PROCESS = WriterIdentity("http", "host-1", 17, "0.6.0", AT)
LOGGED = """
insert into tm.log (lane, gen, position, command_id, digest, outcome, events, sequence, at, code)
values (1, 1, 1, $1, 0, $2, 0, 0, $3, $4)
"""


@dataclass
class Side:
    """One side: the fakes, or the database."""

    store: JournalStore
    reader: JournalReader
    pool: Pool | None = None

    async def log(self, command_id: UUID, outcome: bytes, code: str | None) -> None:
        """Let the log hold the outcome of a command."""
        if self.pool is not None:
            await self.pool.execute(LOGGED, command_id, outcome, AT, code)
            return
        assert isinstance(self.reader, MemoryJournalHistory)
        self.reader.log[command_id] = (outcome, code, AT)

    async def rows(self) -> list[JournalRow]:
        return [row async for chunk in self.reader.rows() for row in chunk]

    async def open_intents(self) -> list[OpenIntent]:
        return [intent async for chunk in self.reader.open_intents() for intent in chunk]


@pytest.fixture(params=["memory", "timescaledb"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "memory":
        store = MemoryJournal()
        yield Side(store, MemoryJournalHistory(store))
        return
    url = request.getfixturevalue("database")
    pool = await create_pool(url, application_name="tidemill-tests", size=2, timeouts=JOURNAL_TIMEOUTS)
    walking = await create_pool(url, application_name="tidemill-tests", size=1, timeouts=WALK_TIMEOUTS)
    yield Side(JournalDatabase(pool), JournalHistoryDatabase(walking), pool)
    await close_pool(walking)
    await close_pool(pool)


def chain(
    *entries: JournalEntry, writer: UUID | None = None, after: ChainEnd | None = None
) -> list[JournalRow]:
    anchor = JournalEntry(kind=EntryKind.ANCHOR, action="start", detail=PROCESS.detail(after))
    return Chain(writer or uuid4()).rows([anchor, *entries], AT)


def intent(command_id: UUID | None = None) -> JournalEntry:
    return JournalEntry(
        kind=EntryKind.INTENT,
        action="create",
        principal="pricing",
        collection="market-data",
        command_id=command_id,
        detail=payload_detail(["symbol", "price", "naïve \N{SNOWMAN}"], b"{}"),
    )


def outcome(ref: EntryRef) -> JournalEntry:
    return JournalEntry(kind=EntryKind.OUTCOME, action="applied", of=ref)


def every_kind() -> list[JournalEntry]:
    return [
        intent(uuid4()),
        outcome(EntryRef(uuid4(), 2)),
        JournalEntry(kind=EntryKind.REFUSAL, action="delete", detail={"code": "FORBIDDEN", "status": 403}),
        JournalEntry(
            kind=EntryKind.CHANGE, action="grant", principal="root@host-1", detail={"verbs": ["read"]}
        ),
    ]


async def test_entries_of_every_kind_come_back_as_they_were_hashed(side: Side) -> None:
    rows = chain(*every_kind())
    assert await side.store.append(rows[:2])
    assert await side.store.append(rows[2:])
    stored = await side.rows()
    assert [row._replace(detail="") for row in stored] == [row._replace(detail="") for row in rows]
    assert faults(stored) == []
    assert await side.reader.size() == len(rows)


async def test_rows_come_by_chain_and_number(side: Side) -> None:
    first, second = chain(intent(), writer=UUID(int=2)), chain(intent(), intent(), writer=UUID(int=1))
    for rows in (first[:1], second[:2], first[1:], second[2:]):
        await side.store.append(rows)
    assert [row.ref for row in await side.rows()] == [row.ref for row in [*second, *first]]


async def test_of_rows_whose_places_are_taken_none_is_stored(side: Side) -> None:
    rows = chain(*every_kind())
    assert await side.store.append(rows[:3])
    assert not await side.store.append(rows[2:])
    assert not await side.store.append(rows)
    assert len(await side.rows()) == 3


async def test_the_hash_of_a_place_is_told(side: Side) -> None:
    rows = chain(intent())
    await side.store.append(rows)
    for asked in (side.store, side.reader):
        assert await asked.hash_of(rows[1].ref) == rows[1].hash
        assert await asked.hash_of(EntryRef(rows[0].writer, 3)) is None
        assert await asked.hash_of(EntryRef(uuid4(), 1)) is None


async def test_the_server_has_a_time(side: Side) -> None:
    at = await side.store.now()
    assert at.utcoffset() == timedelta(0)


async def test_an_intent_is_open_until_it_has_an_outcome_in_any_chain(side: Side) -> None:
    rows = chain(intent(uuid4()), intent(uuid4()), intent())
    await side.store.append(rows)
    assert [item.row.ref for item in await side.open_intents()] == [row.ref for row in rows[1:]]
    await side.store.append(chain(outcome(rows[2].ref)))
    left = await side.open_intents()
    assert [item.row.ref for item in left] == [rows[1].ref, rows[3].ref]
    assert [item.row.principal for item in left] == ["pricing", "pricing"]


@pytest.mark.parametrize(("letter", "code"), [(b"a", None), (b"r", "NOT_BELOW"), (b"p", "MALFORMED")])
async def test_an_open_intent_comes_with_what_the_log_says_of_its_command(
    side: Side, letter: bytes, code: str | None
) -> None:
    command_id = uuid4()
    await side.store.append(chain(intent(command_id), intent(uuid4()), intent()))
    await side.log(command_id, letter, code)
    logged, unknown, of_no_command = await side.open_intents()
    assert (logged.outcome, logged.code, logged.logged_at) == (letter, code, AT)
    assert (unknown.outcome, unknown.code, unknown.logged_at) == (None, None, None)
    assert of_no_command.outcome is None
    assert logged.log_begins is not None


async def test_more_rows_than_a_chunk_come_one_after_the_other(side: Side) -> None:
    rows = chain(*[intent() for _ in range(1_200)])
    await side.store.append(rows)
    stored = await side.rows()
    assert [row.number for row in stored] == list(range(1, 1_202))
    assert faults(stored) == []
    assert len(await side.open_intents()) == 1_200
