"""Entities, families and references: the result may not depend on where a batch was cut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.any_commands import KEYS, commands_of, cut
from tests.support.engine.commands import FakeRecord, Harness, Topic
from tests.support.engine.entity_contexts import (
    ACCOUNTS,
    FOLDERS,
    JOBS,
    Commands,
    accounts,
    files,
    folders,
    jobs,
    linked,
)
from tidemill.domain.stream import Stream

account, job, folder, file = Commands(accounts), Commands(jobs), Commands(folders), Commands(files)

ACCOUNTS_STREAM, JOBS_STREAM, FOLDERS_STREAM = (
    replace(stream, partitions=1) for stream in linked(ACCOUNTS, JOBS, FOLDERS)
)
STREAMS = {
    each.aggregate: (each, context)
    for each, context in zip(
        (ACCOUNTS_STREAM, JOBS_STREAM, FOLDERS_STREAM), (ACCOUNTS, JOBS, FOLDERS), strict=True
    )
}
SIZES = st.lists(st.integers(1, 7), max_size=6)


def facts(store: MemoryCommandStore) -> Any:
    """Return the rows without their times, the events and the log."""
    rows = {
        (name, key): tuple(
            value
            for field in type(row).__dataclass_fields__
            if "_at" not in field
            for value in [getattr(row, field)]
        )
        for name, held in store.tables.states.items()
        for key, row in held.items()
    }
    events = [(row.sequence, row.event_type, row.payload) for row in store.tables.outbox if row.event_type]
    log = [(row.position, row.outcome, row.code) for row in store.tables.log[1]]
    return rows, events, log


async def store_with(stream: Stream) -> tuple[MemoryCommandStore, Harness]:
    """Return a store in which, for the sake of references, two of three accounts are in force."""
    store = (
        MemoryCommandStore(stream, ACCOUNTS_STREAM)
        if stream is not ACCOUNTS_STREAM
        else MemoryCommandStore(stream)
    )
    if stream is JOBS_STREAM:
        parents = Harness(ACCOUNTS_STREAM, store)
        await parents.claim()
        await parents.send(*(account("Create", key, username=key) for key in KEYS[:2]))
        store.tables.outbox.clear()
        store.tables.log[1].clear()
    harness = Harness(stream, store)
    await harness.claim()
    return store, harness


def run(stream: Stream, batches: Sequence[Sequence[FakeRecord]]) -> Any:
    async def playing() -> Any:
        store, harness = await store_with(stream)
        for batch in batches:
            await harness.apply(*batch)
        return facts(store)

    return asyncio.run(playing())


@pytest.mark.parametrize("aggregate", STREAMS)
@settings(max_examples=150)
@given(st.data(), SIZES)
def test_cutting_a_batch_changes_nothing(aggregate: str, data: st.DataObject, sizes: list[int]) -> None:
    stream, context = STREAMS[aggregate]
    commands = data.draw(st.lists(commands_of(context), min_size=1, max_size=20))
    topic = Topic(stream)
    records = [topic.record(command) for command in commands]
    assert run(stream, cut(records, sizes)) == run(stream, [[record] for record in records])
