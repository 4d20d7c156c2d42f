"""What the owner of the database does to the journal is found, each kind of it; and nothing else can do it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.servers.databases import execute, fetch
from tidemill.admin.audit.journal import JournalAudit, JournalAuditor
from tidemill.security.journal import ChainEnd, EntryKind, JournalEntry, WriterIdentity, payload_detail
from tidemill.security.journal_check import JournalFault
from tidemill.security.journal_writer import Journal, JournalLimits
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.security.journal import JournalDatabase, JournalHistoryDatabase

LIMITS = JournalLimits(deadline_s=300.0, lazy_s=0.0)
FIRST, SECOND = UUID(int=1), UUID(int=2)


def process() -> WriterIdentity:
    return WriterIdentity("http", "host-1", 17, "0.6.0", datetime(2026, 12, 1, tzinfo=UTC))


async def write(pool: Pool, writer: UUID) -> ChainEnd:
    """A chain with an entry of each kind: numbers 1 to 6; return its end."""
    journal = Journal(JournalDatabase(pool), process(), limits=LIMITS, new_id=lambda: writer)
    async with journal as ours:
        create = JournalEntry(
            kind=EntryKind.INTENT,
            action="create",
            principal="pricing",
            collection="market-data",
            command_id=uuid4(),
            detail=payload_detail(["symbol"], b"{}"),
        )
        first, _ = await ours.intents([create, create])
        await ours.outcome(first, "applied")
        await ours.refusal(JournalEntry(kind=EntryKind.REFUSAL, action="delete", principal="pricing"))
        await ours.change(JournalEntry(kind=EntryKind.CHANGE, action="grant", principal="root@host-1"))
    return journal.anchor


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    pool = await create_pool(database, application_name="tidemill-tests", size=2)
    yield pool
    await close_pool(pool)


@pytest.fixture
async def ends(pool: Pool) -> list[ChainEnd]:
    """The ends of two chains, as they were kept outside."""
    return [await write(pool, FIRST), await write(pool, SECOND)]


@pytest.fixture
def plant(database: str) -> Callable[[str], None]:
    """Change what is stored as the owner, who takes the guard away for a moment."""

    def planted(change: str) -> None:
        execute(
            database,
            "alter table tm.journal disable trigger append_only",
            change,
            "alter table tm.journal enable trigger append_only",
        )

    return planted


async def audit(pool: Pool, *anchors: ChainEnd) -> JournalAudit:
    return await JournalAuditor(reader=JournalHistoryDatabase(pool)).run(anchors=anchors)


def found(audit: JournalAudit) -> set[tuple[JournalFault, UUID, int]]:
    assert audit.finding_count == len(audit.findings)
    return {(finding.fault, finding.writer, finding.number) for finding in audit.findings}


async def test_a_journal_that_nobody_changed_is_whole(pool: Pool, ends: list[ChainEnd]) -> None:
    checked = await audit(pool, *ends)
    assert found(checked) == set()
    assert (checked.entries, checked.chains, checked.anchors) == (12, 2, 2)
    assert [anchor.number for anchor in ends] == [6, 6]
    assert [(entry.writer, entry.number) for entry in checked.open] == [(FIRST, 3), (SECOND, 3)]


@pytest.mark.parametrize(
    "change",
    [
        "principal = 'somebody'",
        "principal = null",
        "action = 'drop'",
        "collection = 'users'",
        "command_id = gen_random_uuid()",
        "at = at + interval '1 microsecond'",
        "at = 'infinity'",
        "at = '4000-01-01 BC'",
        "kind = 'change'",
        """detail = detail || '{"digest": "00"}'""",
        "detail = '{}'",
        "detail = '{\"digest\": 1e300}'",
        "hash = sha256(hash)",
        "of_writer = writer, of_number = 1, kind = 'outcome'",
    ],
)
async def test_an_edited_entry_is_found(
    change: str, pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]
) -> None:
    plant(f"update tm.journal set {change} where writer = '{FIRST}' and number = 2")
    assert (JournalFault.CHANGED, FIRST, 2) in found(await audit(pool))


async def test_a_removed_entry_is_found(
    pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]
) -> None:
    plant(f"delete from tm.journal where writer = '{FIRST}' and number = 3")
    assert found(await audit(pool)) == {(JournalFault.MISSING, FIRST, 3)}


async def test_a_removed_beginning_is_found(
    pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]
) -> None:
    plant(f"delete from tm.journal where writer = '{SECOND}' and number < 3")
    assert found(await audit(pool)) == {(JournalFault.MISSING, SECOND, 1)}


async def test_a_removed_entry_whose_place_was_closed_up_is_found(
    pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]
) -> None:
    plant(
        f"delete from tm.journal where writer = '{FIRST}' and number = 3;"
        f"update tm.journal set number = number - 1 where writer = '{FIRST}' and number = 4;"
        f"update tm.journal set number = number - 1 where writer = '{FIRST}' and number = 5;"
        f"update tm.journal set number = number - 1 where writer = '{FIRST}' and number = 6"
    )
    assert (JournalFault.CHANGED, FIRST, 3) in found(await audit(pool))


async def test_another_order_is_found(pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]) -> None:
    plant(
        f"update tm.journal set number = 1000 where writer = '{FIRST}' and number = 3;"
        f"update tm.journal set number = 3 where writer = '{FIRST}' and number = 4;"
        f"update tm.journal set number = 4 where writer = '{FIRST}' and number = 1000"
    )
    assert {fault for fault, *_ in found(await audit(pool))} == {JournalFault.CHANGED}


async def test_an_entry_that_was_moved_to_another_chain_is_found(
    pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]
) -> None:
    plant(f"update tm.journal set writer = '{SECOND}', number = 7 where writer = '{FIRST}' and number = 6")
    assert found(await audit(pool)) == {(JournalFault.CHANGED, SECOND, 7)}


async def test_an_end_that_was_cut_off_is_found_with_the_anchor_only(
    pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]
) -> None:
    plant(f"delete from tm.journal where writer = '{FIRST}' and number > 4")
    assert found(await audit(pool)) == set()
    assert found(await audit(pool, *ends)) == {(JournalFault.CUT_OFF, FIRST, 6)}


async def test_a_removed_chain_is_found_with_the_anchor_only(
    pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]
) -> None:
    plant(f"delete from tm.journal where writer = '{SECOND}'")
    assert found(await audit(pool)) == set()
    assert found(await audit(pool, *ends)) == {(JournalFault.CUT_OFF, SECOND, 6)}


async def test_everything_removed_is_found_with_the_anchor_only(
    pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]
) -> None:
    plant("truncate tm.journal")
    assert len(found(await audit(pool, *ends))) == 2


async def test_a_chain_that_was_written_anew_is_found_with_the_anchor_only(
    pool: Pool, ends: list[ChainEnd], plant: Callable[[str], None]
) -> None:
    plant(f"delete from tm.journal where writer = '{FIRST}'")
    await write(pool, FIRST)
    assert found(await audit(pool)) == set()
    assert found(await audit(pool, *ends)) == {(JournalFault.OTHER, FIRST, 6)}


async def test_an_entry_that_another_login_added_to_a_chain_is_found(
    pool: Pool, ends: list[ChainEnd], database: str
) -> None:
    execute(
        database,
        "insert into tm.journal (writer, number, at, kind, action, hash)"
        f" values ('{FIRST}', 7, now(), 'change', 'grant', sha256('x'))",
    )
    assert found(await audit(pool, *ends)) == {(JournalFault.CHANGED, FIRST, 7)}


@pytest.mark.parametrize(
    "change",
    ["update tm.journal set principal = null", "delete from tm.journal", "truncate tm.journal"],
)
async def test_the_owner_does_none_of_it_by_mistake(change: str, database: str, ends: list[ChainEnd]) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        execute(database, change)
    assert fetch(database, "select count(*) as entries from tm.journal")[0]["entries"] == 12
