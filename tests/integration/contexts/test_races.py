"""Every declared unique value and every declared reference of the built-in contexts, contested by lanes on the real
database: of those that want one value one wins, and nothing begins to refer to what is gone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from tests.support.engine.any_commands import random_commands
from tests.support.engine.built_in import BUILT_IN
from tests.support.engine.commands import Harness, codes, create_lanes
from tests.support.engine.entity_contexts import linked
from tests.support.engine.secret_contexts import OLD_ONLY
from tidemill.commands.secret_events import RowKeys
from tidemill.domain.context import Context, DecideSpec
from tidemill.domain.decision import Accepted
from tidemill.domain.errors import TransientError
from tidemill.domain.messages import CommandBase
from tidemill.domain.partitioner import partition_of
from tidemill.domain.state import Reference, State, Unique
from tidemill.domain.stream import Stream
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.database.pool import Pool, close_pool, create_pool
from tidemill.storage.security.data_keys import DataKeyTransaction

CONTENDERS = 16


class Declared(NamedTuple):
    """What one state of a context declares."""

    context: Context
    state: State
    of: Any


def declared(kind: str) -> list[Any]:
    every = [
        Declared(context, state, each)
        for context in BUILT_IN.values()
        for state in context.states
        for each in getattr(state, kind)
    ]
    return [pytest.param(each, id=f"{each.state.name} {each.of.code}") for each in every]


@dataclass
class Site:
    """Streams on a database, each with one harness for each of its lanes: as many processes."""

    pool: Pool
    streams: dict[str, Stream]
    harnesses: dict[tuple[str, int], Harness]

    def harness(self, command: CommandBase) -> Harness:
        context = context_of(command)
        key = self.streams[context.aggregate].key(command).encode()
        return self.harnesses[context.aggregate, partition_of(key, context.partitions)]

    async def send(self, *commands: CommandBase) -> list[str | None]:
        """Send commands of one lane as one batch, as their owner does: again, if it met another one's."""
        harness = self.harness(commands[0])
        records = [harness.topic.record(command) for command in commands]
        while True:
            try:
                return codes(await harness.apply(*records))
            except TransientError:
                continue

    async def contest(self, *commands: CommandBase) -> list[str | None]:
        """Send commands, all lanes at once, and what one lane has as one batch; return the codes lane by lane."""
        by_lane: dict[int, list[CommandBase]] = {}
        for command in commands:
            by_lane.setdefault(id(self.harness(command)), []).append(command)
        answers = await asyncio.gather(*(self.send(*batch) for batch in by_lane.values()))
        return [code for answer in answers for code in answer]


def context_of(command: CommandBase) -> Context:
    return next(
        context for context in BUILT_IN.values() if type(command) in {spec.model for spec in context.commands}
    )


@pytest.fixture
async def site(database: str) -> AsyncIterator[Site]:
    pool = await create_pool(database, application_name="tidemill-tests", size=24)
    streams = {stream.aggregate: stream for stream in linked(*BUILT_IN.values()) if stream.states}
    row_keys = RowKeys(OLD_ONLY, DataKeyTransaction)
    harnesses = {}
    for stream in streams.values():
        async with pool.acquire() as connection:
            await create_lanes(connection, stream)
        for lane in range(stream.partitions):
            harness = Harness(stream, CommandDatabase(pool), row_keys=row_keys)
            await harness.claim([lane])
            harnesses[stream.aggregate, lane] = harness
    yield Site(pool, streams, harnesses)
    await close_pool(pool)


# --- commands from declarations --------------------------------------------------------------------------------------


def creating(context: Context, state: State) -> type[CommandBase]:
    """Return the command that a row of a state begins with: whatever its rule accepts of no row."""
    for command in random_commands(context, Random(1), ["k"]):
        spec = next(spec for spec in context.commands if spec.model is type(command))
        if isinstance(spec, DecideSpec) and (spec.state or context.states[0]) is state:
            try:
                decision = (
                    spec.rule(None, command, command.timestamp) if spec.clocked else spec.rule(None, command)
                )
            except TypeError:
                continue
            if isinstance(decision, Accepted):
                return type(command)
    raise AssertionError(state.name)


def command_of(model: type[CommandBase], key: str, **changes: Any) -> CommandBase:
    """Return a valid command whose fields with keys all hold `key`, but for the changes; else always the same."""
    commands = random_commands(context_of_model(model), Random(1), [key])
    made = next(each for each in commands if type(each) is model)
    return model.model_validate(made.model_dump() | {"command_id": str(uuid4())} | changes)


def context_of_model(model: type[CommandBase]) -> Context:
    return next(each for each in BUILT_IN.values() if model in {spec.model for spec in each.commands})


def texts_of(unique: Unique, model: type[CommandBase]) -> list[str]:
    """Return the fields that decide the value, without whose it is and what it belongs to."""
    names = unique.shown or unique.columns
    return [
        name for name in names if name in model.model_fields and name != "service_name" and name[-3:] != "_id"
    ]


def contender(each: Declared, key: str, number: int, round_: int) -> CommandBase:
    """Return a command that takes the contested value, in some case, and other values of its own."""
    model = creating(each.context, each.state)
    command = command_of(model, key)
    columns = {column.name for column in each.state.table.columns}
    values: dict[str, str] = {}
    for unique in each.state.unique:
        for name in texts_of(unique, model):
            own = f"r{round_}" if unique is each.of else f"r{round_}x{number}"
            local, at, domain = f"{own}{getattr(command, name)}".partition("@")
            in_any_case = f"{name}_folded" in columns and number % 2
            values[name] = (local.upper() if in_any_case else local) + at + domain
    return command_of(model, key, **values)


# --- unique values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", declared("unique"))
async def test_of_lanes_that_want_one_value_exactly_one_wins(site: Site, each: Declared) -> None:
    """Or those who want it are in one lane, whose order decides: what it belongs to is a part of the value."""
    for round_ in range(4):
        keys = [f"r{round_}-{number}" for number in range(CONTENDERS)]
        commands = [contender(each, key, number, round_) for number, key in enumerate(keys)]
        lanes = {id(site.harness(command)) for command in commands}
        if each.of.columns[0].endswith("_id"):
            await belong_together(site, each)
            return
        assert len(lanes) > 3
        answers = await site.contest(*commands)
        assert Counter(answers) == {each.of.code: CONTENDERS - 1, None: 1}
        assert await in_force(site, each.state) == round_ + 1


async def belong_together(site: Site, each: Declared) -> None:
    """Two rows of one parent want one value: they are in one lane, and the first of the batch wins."""
    parent = each.context.states[0]
    user = command_of(creating(BUILT_IN["users"], BUILT_IN["users"].states[0]), "k")
    assert await site.send(user) == [None]
    assert await site.send(command_of(creating(each.context, parent), "k")) == [None]
    model = creating(each.context, each.state)
    key_field = next(name for name in model.model_fields if name.endswith("_id") and name not in each.of.columns
                     and name not in ("command_id", "correlation_id"))  # fmt: skip
    commands = [command_of(model, "k", **{key_field: f"f{number}"}) for number in range(3)]
    assert await site.send(*commands) == [None, each.of.code, each.of.code]
    assert await in_force(site, each.state) == 1


async def in_force(site: Site, state: State) -> int:
    condition = {"deleted": "not deleted", "active": "active"}
    (where,) = [
        text for name, text in condition.items() if name in {column.name for column in state.table.columns}
    ]
    return int(await site.pool.fetchval(f"select count(*) from public.{state.name} where {where}"))


# --- references ------------------------------------------------------------------------------------------------------


def parents_of(reference: Reference) -> tuple[Context, State]:
    return next(
        (context, state)
        for context in BUILT_IN.values()
        for state in context.states
        if state.name == reference.to
    )


def referring(each: Declared, key: str, *, to: str) -> CommandBase:
    """Return the command that creates a row that refers to `to`."""
    return command_of(creating(each.context, each.state), key, **{each.of.column: to})


def deletion(reference: Reference, key: str) -> CommandBase:
    _, state = parents_of(reference)
    assert state.http is not None
    assert state.http.delete is not None
    return command_of(state.http.delete, key, expected_version=None)


async def with_parent(site: Site, each: Declared, key: str) -> None:
    context, state = parents_of(each.of)
    unique = {name: key + value for name, value in (("username", "u"), ("email", "@example.org"))}
    model = creating(context, state)
    changes = {name: value for name, value in unique.items() if name in model.model_fields}
    if "user_id" in model.model_fields and state.name != "users":
        users = BUILT_IN["users"]
        await site.send(command_of(creating(users, users.states[0]), key, **unique))
    assert await site.send(command_of(model, key, **changes)) == [None]


@pytest.mark.parametrize("each", declared("refers"))
async def test_a_reference_and_a_deletion_in_either_order(site: Site, each: Declared) -> None:
    reference = each.of
    await with_parent(site, each, "first")
    assert await site.send(referring(each, "first", to="first")) == [None]
    expected = "STILL_REFERRED_TO" if reference.restrict else None
    assert await site.send(deletion(reference, "first")) == [expected]

    await with_parent(site, each, "second")
    assert await site.send(deletion(reference, "second")) == [None]
    assert await site.send(referring(each, "second", to="second")) == [reference.code]
    assert await site.send(referring(each, "third", to="never")) == [reference.code]


@pytest.mark.parametrize("each", declared("refers"))
async def test_of_a_reference_and_a_deletion_at_once_none_sees_half(site: Site, each: Declared) -> None:
    """A reference without `restrict` may be left behind by a deletion, and never begins after it."""
    reference = each.of
    for round_ in range(6):
        key = f"p{round_}"
        await with_parent(site, each, key)
        created, deleted = await site.contest(referring(each, key, to=key), deletion(reference, key))
        assert (created, deleted) in (
            [(None, "STILL_REFERRED_TO"), (reference.code, None)]
            if reference.restrict
            else [(None, None), (reference.code, None)]
        )
        begun = await site.pool.fetch(
            f"select c.created_at, p.updated_at from public.{each.state.name} c "
            f"join public.{reference.to} p on p.id = c.{reference.column} where p.id = $1 and p.deleted",
            key,
        )
        assert len(begun) == (created is None and deleted is None)


def test_every_context_with_unique_values_or_references_is_here() -> None:
    assert {each.values[0].state.name for each in declared("unique")} >= {"users", "connector_profiles"}
    assert {each.values[0].of.code for each in declared("refers")} >= {"NO_USER", "NO_DATA_ANALYSIS"}
