"""What every `OutcomeLog` and every `DocumentReader` promises, asked of the fakes and of the database alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.fakes.submissions import MemoryDocuments, MemoryOutcomes
from tests.support.engine.commands import Harness, base, create_lanes
from tests.support.engine.submissions import COLLECTIONS, logged
from tidemill.commands.ports import CommandStore
from tidemill.contexts.connector_profiles import context
from tidemill.contexts.connector_profiles.messages import (
    DeactivateConnectorProfile,
    RegisterConnectorProfile,
    UpdateConnectorProfile,
)
from tidemill.domain.messages import CommandBase, Outcome
from tidemill.domain.stream import Stream
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.storage.submissions.documents import DocumentDatabase
from tidemill.storage.submissions.outcomes import OutcomeDatabase
from tidemill.submissions.ports import DocumentReader, LoggedOutcome, OutcomeLog

STREAM = Stream.of(replace(context, partitions=2))
PROFILES = COLLECTIONS["connector-profiles"]


@dataclass
class Subject:
    """A database side: commands are applied, and asked about."""

    harness: Harness
    store: CommandStore
    log: OutcomeLog
    documents: DocumentReader
    mirrored: bool = False
    sent: list[CommandBase] = field(default_factory=list)

    async def send(self, *commands: CommandBase) -> None:
        await self.harness.send(*commands)
        if self.mirrored:
            self._mirror()

    def _mirror(self) -> None:
        """Have the fakes hold what the engine in memory wrote."""
        assert isinstance(self.store, MemoryCommandStore)
        assert isinstance(self.log, MemoryOutcomes)
        assert isinstance(self.documents, MemoryDocuments)
        tables = self.store.tables
        sent = {(row.lane, row.position): row for row in tables.outbox if row.item == 0}
        for row in (row for rows in tables.log.values() for row in rows):
            if row.command_id is not None:
                self.log.logged[row.command_id] = logged(
                    row.digest,
                    outcome=Outcome.of_letter(row.outcome),
                    code=row.code,
                    detail=row.detail,
                    aggregate=STREAM.aggregate,
                    partition=self.store.lanes[row.lane].lane.partition,
                    position=row.position,
                    sequence=row.sequence,
                    rows=1 if row.outcome == b"a" and row.events else 0,
                    at=row.at,
                    type=row.type,
                    service=row.service,
                    record_offset=sent[row.lane, row.position].record_offset,
                    seconds=sent[row.lane, row.position].seconds,
                )
        for key, state in tables.states.get("connector_profiles", {}).items():
            self.documents.rows[PROFILES.name, key] = {"name": state.name, "version": state.version}

    async def outcome(self, command: CommandBase) -> LoggedOutcome | None:
        return (await self.log.outcomes([command.command_id])).get(command.command_id)

    async def halt(self, partition: int) -> None:
        (claim,) = [one for one in self.harness.claims.values() if one.lane.partition == partition]
        await self.store.halt(claim, "UNFETCHABLE", "by design")
        if self.mirrored:
            assert isinstance(self.log, MemoryOutcomes)
            self.log.halts.add((STREAM.aggregate, partition))


@pytest.fixture(params=["memory", "timescaledb"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        store = MemoryCommandStore(STREAM)
        harness = Harness(STREAM, store)
        await harness.claim()
        yield Subject(harness, store, MemoryOutcomes(), MemoryDocuments(), mirrored=True)
        return
    pool = await create_pool(request.getfixturevalue("database"), application_name="tidemill-tests", size=4)
    async with pool.acquire() as connection:
        await create_lanes(connection, STREAM)
    database = CommandDatabase(pool)
    harness = Harness(STREAM, database)
    await harness.claim()
    yield Subject(harness, database, OutcomeDatabase(pool), DocumentDatabase(pool))
    await close_pool(pool)


def register(profile: str, **fields: Any) -> RegisterConnectorProfile:
    data = {"profile_id": profile, "name": profile, "profile_data": "{}"} | fields
    return RegisterConnectorProfile(**base(), **data)


async def test_what_was_consumed_is_told_and_nothing_else(subject: Subject) -> None:
    command = register("p1")
    assert await subject.outcome(command) is None
    await subject.send(command)
    found = await subject.log.outcomes([command.command_id, str(uuid4())])
    assert found.keys() == {command.command_id}
    entry = found[command.command_id]
    assert (entry.outcome, entry.code, entry.rows) == (Outcome.APPLIED, None, 1)
    assert (entry.aggregate, entry.partition) == ("connector-profiles", subject.harness.topic.lane(command))
    assert (entry.position, entry.sequence, entry.record_offset) == (1, 1, 0)
    assert entry.type == "tidemill.connector_profiles.RegisterConnectorProfile"
    assert entry.service == "tests"
    assert await subject.log.outcomes([]) == {}


async def test_a_rejection_has_its_code_and_its_reason(subject: Subject) -> None:
    command = UpdateConnectorProfile(**base(), profile_id="nobody", name="n")
    await subject.send(command)
    entry = await subject.outcome(command)
    assert entry is not None
    assert (entry.outcome, entry.code, entry.rows) == (Outcome.REJECTED, "NOT_FOUND", 0)
    assert entry.detail


async def test_of_repeats_the_first_is_told(subject: Subject) -> None:
    command = register("p1")
    for _ in range(3):
        await subject.send(command)
    entry = await subject.outcome(command)
    assert entry is not None
    assert (entry.outcome, entry.position, entry.record_offset) == (Outcome.APPLIED, 1, 0)


async def test_equal_contents_have_equal_digests(subject: Subject) -> None:
    commands = [register("p1"), register("p1"), register("p1", name="other")]
    for command in commands:
        await subject.send(command)
    entries = [await subject.outcome(command) for command in commands]
    first, second, third = (entry.digest for entry in entries if entry is not None)
    assert first == second != third


async def test_halted_lanes_are_named(subject: Subject) -> None:
    assert await subject.log.halted() == frozenset()
    await subject.halt(1)
    assert await subject.log.halted() == {("connector-profiles", 1)}


async def test_some_columns_of_a_document_are_read(subject: Subject) -> None:
    await subject.send(register("p1", name="first"))
    await subject.send(UpdateConnectorProfile(**base(), profile_id="p1", name="second"))
    assert await subject.documents.values(PROFILES, "p1", ["version", "name"]) == {
        "version": 2,
        "name": "second",
    }
    assert await subject.documents.values(PROFILES, "p1", []) == {}
    assert await subject.documents.values(PROFILES, "p2", ["version"]) is None
    await subject.send(DeactivateConnectorProfile(**base(), profile_id="p1"))
    assert await subject.documents.values(PROFILES, "p1", ["version"]) == {"version": 3}
