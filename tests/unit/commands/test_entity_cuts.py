"""Any context, with families and references: the result may not depend on where a batch was cut."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st

from tests.fakes.commands import MemoryCommandStore
from tests.fakes.secrets import MemoryDataKeys
from tests.support.engine.any_commands import KEYS, STRICTER_TEXTS, commands_of, cut, random_commands
from tests.support.engine.built_in import BUILT_IN, FULL, KINDS, chosen_contexts
from tests.support.engine.commands import FakeRecord, Harness, Topic
from tests.support.engine.entity_contexts import (
    ACCOUNTS,
    FOLDERS,
    JOBS,
    NOTES,
    Commands,
    accounts,
    linked,
)
from tests.support.engine.secret_contexts import OLD_ONLY
from tests.support.seeds import run_seed
from tidemill.commands.secret_events import RowKeys
from tidemill.contexts.users import users
from tidemill.domain.stream import Stream

account, user = Commands(accounts), Commands(users)

OWN = (ACCOUNTS, JOBS, FOLDERS, NOTES)
CONTEXTS = (*OWN, *BUILT_IN.values())
STREAMS = {
    stream.aggregate: (replace(stream, partitions=1), context)
    for stream, context in zip(linked(*CONTEXTS), CONTEXTS, strict=True)
}
PARENTS = {
    "jobs": ("accounts", account),
    "data-analyses": ("users", user),
    "tool-generations": ("users", user),
}
"""Aggregates that refer to rows of another one, and commands of that one."""

CHOSEN = [context.aggregate for context in (*OWN, *chosen_contexts())]
"""What is cut: one built-in context of each kind, as this run's seed chooses them; in full all of them."""

SEALED = re.compile(rb"tms1:[0-9]+:[A-Za-z0-9_-]+")
ROW_KEYS = RowKeys(OLD_ONLY, MemoryDataKeys)
SIZES = st.lists(st.integers(1, 7), max_size=6)


def readable(value: Any) -> Any:
    """Return a value without its ciphertexts, which differ each time."""
    if isinstance(value, bytes):
        return SEALED.sub(b"sealed", value)
    return "sealed" if isinstance(value, str) and SEALED.match(value.encode()) else value


def facts(store: MemoryCommandStore) -> Any:
    """Return the rows without their times, the facts, the events and the log.

    A table of facts has no order: within a batch what a kind of command appends may come before another's.
    """
    rows = {
        (name, key): tuple(
            readable(value)
            for field in type(row).__dataclass_fields__
            if "_at" not in field
            for value in [getattr(row, field)]
        )
        for name, held in store.tables.states.items()
        for key, row in held.items()
    }
    appended = {name: sorted(held, key=repr) for name, held in store.tables.appended.items()}
    events = [
        (row.sequence, row.event_type, readable(row.payload)) for row in store.tables.outbox if row.event_type
    ]
    log = [(row.position, row.outcome, row.code, row.rows) for row in store.tables.log[1]]
    return rows, appended, events, log


async def store_with(stream: Stream) -> tuple[MemoryCommandStore, Harness]:
    """Return a store in which, for the sake of references, two of three parents are in force."""
    if stream.aggregate not in PARENTS:
        store = MemoryCommandStore(stream)
    else:
        name, commands = PARENTS[stream.aggregate]
        store = MemoryCommandStore(stream, STREAMS[name][0])
        parents = Harness(STREAMS[name][0], store, row_keys=ROW_KEYS)
        await parents.claim()
        await parents.send(*(commands("Create", key, **parent_values(name, key)) for key in KEYS[:2]))
        store.tables.outbox.clear()
        store.tables.log[1].clear()
    harness = Harness(stream, store, row_keys=ROW_KEYS)
    await harness.claim()
    return store, harness


def parent_values(name: str, key: str) -> dict[str, Any]:
    return {"username": key} | (
        {"email": f"{key}@example.org", "hashed_password": STRICTER_TEXTS[-1]} if name == "users" else {}
    )


def run(stream: Stream, batches: Sequence[Sequence[FakeRecord]]) -> Any:
    async def playing() -> Any:
        store, harness = await store_with(stream)
        for batch in batches:
            await harness.apply(*batch)
        return facts(store)

    return asyncio.run(playing())


@pytest.mark.usefixtures("seed")
@pytest.mark.timeout(3600 if FULL else 600)
@pytest.mark.parametrize("aggregate", CHOSEN)
@with_seed(run_seed())
@settings(max_examples=1_500 if FULL else 50)
@given(st.data(), SIZES)
def test_cutting_a_batch_changes_nothing(aggregate: str, data: st.DataObject, sizes: list[int]) -> None:
    stream, context = STREAMS[aggregate]
    commands = data.draw(st.lists(commands_of(context), min_size=1, max_size=20))
    topic = Topic(stream)
    records = [topic.record(command) for command in commands]
    assert run(stream, cut(records, sizes)) == run(stream, [[record] for record in records])


@pytest.mark.parametrize("aggregate", CHOSEN)
def test_no_cut_of_many_commands_changes_anything(aggregate: str, seed: int) -> None:
    """Longer streams than the above, whose rows live through more."""
    stream, context = STREAMS[aggregate]
    source = random.Random(f"{seed} {aggregate}")
    for _ in range(30 if FULL else 3):
        topic = Topic(stream)
        commands = islice(random_commands(context, source, KEYS), 120)
        records = [topic.record(command) for command in commands]
        sizes = [source.randint(1, 40) for _ in range(6)]
        assert run(stream, cut(records, sizes)) == run(stream, [[record] for record in records]), sizes


def test_each_built_in_context_is_of_one_kind() -> None:
    """So that a new one is not forgotten by the seed."""
    assert sorted(name for names in KINDS.values() for name in names) == sorted(BUILT_IN)


@pytest.mark.parametrize("aggregate", STREAMS)
def test_the_random_commands_reach_every_event_and_every_code(aggregate: str) -> None:
    """So that the test above is not one of refusals only."""
    stream, context = STREAMS[aggregate]
    commands = list(islice(random_commands(context, random.Random(1), KEYS), 3_000))

    async def playing() -> tuple[set[str], set[str]]:
        events: set[str] = set()
        codes: set[str] = set()
        for sent in cut(commands, [150] * 20):
            store, harness = await store_with(stream)
            await harness.send(*sent)
            events |= {row.event_type for row in store.tables.outbox if row.event_type}
            codes |= {row.code for row in store.tables.log[1] if row.code}
        return events, codes

    events, codes = asyncio.run(playing())
    assert events == {context.full_name(event) for event in context.events}
    assert codes == set(context.codes)
