"""Entities whose rows end by themselves: what rules and readers take for a row, and what cannot be declared so."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import Field

from tests.support.engine.entity_contexts import ACCOUNTS, TICKETS, Commands, linked, tickets
from tidemill.api import (
    Accepted,
    ContractError,
    Json,
    Label,
    Life,
    Message,
    Rejected,
    entity,
    refers,
    unique,
)
from tidemill.contexts.cache_entries import cache_entries, context
from tidemill.domain.state import Expiry, State
from tidemill_devkit.testing import NOW, ContextInMemory, sample

MINUTE = timedelta(minutes=1)

entry = Commands(cache_entries)


ticket = Commands(tickets)


def create(key: str, ends: datetime, value: str = "{}") -> Any:
    return entry("Create", key, value=value, expires_at=ends)


def code(decision: Any) -> str | None:
    return decision.code if isinstance(decision, Rejected) else None


def swept(state: State, row: Any, key: str, at: datetime) -> Any:
    """Return the row after the service looked at it at a time."""
    assert state.expiry is not None
    base = {"command_id": "s", "service_name": "sweeper", "timestamp": at}
    decision = state.expiry.rule(row, state.expiry.make(key, base), at)
    return state.after(row, decision.events[0], at) if isinstance(decision, Accepted) else row


def test_from_its_time_on_a_row_is_gone_for_every_command() -> None:
    memory = ContextInMemory(context)
    assert isinstance(memory.send(create("e1", NOW + MINUTE)), Accepted)
    memory.now += MINUTE - timedelta(microseconds=1)
    assert code(memory.send(create("e1", NOW + 2 * MINUTE))) == "ALREADY_EXISTS"
    assert isinstance(memory.send(entry("Update", "e1", value='{"a": 1}')), Accepted)
    memory.now = NOW + MINUTE
    late = memory.send(entry("Update", "e1", value="{}"))
    assert isinstance(late, Rejected)
    assert (late.code, "expired at" in late.message) == ("NOT_FOUND", True)
    assert code(memory.send(entry("Delete", "e1"))) == "NOT_FOUND"


def test_a_creation_after_its_time_is_one_whether_the_row_was_removed_or_not() -> None:
    memory = ContextInMemory(context)
    memory.send(create("e1", NOW + MINUTE, '{"a": 1}'))
    memory.now += 2 * MINUTE
    (event,) = accepted(memory.send(create("e1", memory.now + MINUTE)))
    assert type(event).__name__ == "CacheEntryCreated"
    row = memory.state("e1")
    assert (row.value, row.version, row.created_at) == ("{}", 2, memory.now)
    stale = entry("Update", "e1", value="{}", expected_version=1)
    assert code(memory.send(stale)) == "VERSION_CONFLICT", "it was meant for the former row"


def accepted(decision: Any) -> Any:
    assert isinstance(decision, Accepted), decision
    return decision.events


def test_a_time_that_is_over_already_is_refused() -> None:
    memory = ContextInMemory(context)
    assert code(memory.send(create("e1", NOW))) == "EXPIRED"
    memory.send(create("e1", NOW + MINUTE))
    assert code(memory.send(entry("Update", "e1", expires_at=NOW))) == "EXPIRED"
    assert isinstance(memory.send(entry("Update", "e1", expires_at=NOW + 2 * MINUTE)), Accepted)
    assert "EXPIRED" in context.codes


def test_a_row_without_a_time_never_ends() -> None:
    memory = ContextInMemory(TICKETS)
    memory.send(ticket("Create", "t1", name="a"))
    memory.send(ticket("Create", "t2", name="b", ends_at=NOW + MINUTE))
    memory.send(ticket("Update", "t2", clear=["ends_at"]))
    memory.now += 1000 * MINUTE
    for key in ("t1", "t2"):
        assert isinstance(memory.send(ticket("Update", key, name="c")), Accepted)


def test_what_is_removed_is_decided_by_the_time_of_the_look() -> None:
    """A row that a sweep saw may be renewed, replaced or deleted until its lane is locked."""
    memory = ContextInMemory(context)
    state = cache_entries.state
    memory.send(create("e1", NOW + MINUTE, '{"a": 1}'))
    row = memory.state("e1")
    assert swept(state, row, "e1", NOW) is row
    assert swept(state, None, "e1", NOW) is None
    gone = swept(state, row, "e1", NOW + MINUTE)
    assert (gone.deleted, gone.value, gone.version, gone.updated_at) == (True, "{}", 2, NOW + MINUTE)
    assert swept(state, gone, "e1", NOW + MINUTE) is gone


def test_sweeps_change_nothing_that_a_reader_or_a_sender_sees(seed: int) -> None:
    """The same commands at the same times, with sweeps between them at random and without any."""
    source = random.Random(seed)
    for _ in range(200):
        steps = [
            (source.choice(("Create", "Update", "Delete")), source.choice("ab"), source.randint(0, 3))
            for _ in range(12)
        ]
        looks = [source.random() < 0.5 for _ in steps]
        assert lived(steps, looks) == lived(steps, [False] * len(steps)), (steps, looks)


def lived(steps: list[tuple[str, str, int]], looks: list[bool]) -> list[Any]:
    """Return, for each step, what its sender is told and what a reader sees then; a step takes a minute."""
    rows: dict[str, Any] = {}
    state, shown = cache_entries.state, []
    rules = {spec.model: spec for spec in context.commands}
    for number, ((verb, key, minutes), look) in enumerate(zip(steps, looks, strict=True)):
        at = NOW + number * MINUTE
        if look:
            rows = {each: swept(state, row, each, at) for each, row in rows.items()}
        values = (
            {} if verb == "Delete" else {"value": f'{{"n": {number}}}', "expires_at": at + minutes * MINUTE}
        )
        command = entry(verb, key, **values)
        decision = rules[type(command)].rule(rows.get(key), command, at)  # type: ignore[attr-defined]
        for event in decision.events if isinstance(decision, Accepted) else ():
            rows[key] = state.after(rows.get(key), event, at)
        seen = {
            each: (row.value, row.expires_at, row.created_at)
            for each, row in rows.items()
            if state.in_force(row, at)
        }
        shown.append((code(decision), seen))
    return shown


def test_the_commands_of_the_service_are_none_that_a_client_may_send() -> None:
    assert isinstance(cache_entries.state.expiry, Expiry)
    assert cache_entries.state.expiry.command not in {spec.model for spec in context.commands}
    with pytest.raises(ContractError, match="declares no ExpireCacheEntry"):
        ContextInMemory(context).send(sample(cache_entries.state.expiry.command, cache_entry_id="e1"))


class Pass(Message):
    """A pass that ends."""

    name: Label = Field(description="Whose it is.")
    data: Json = Field(default="{}", description="What else is known.")
    status: str = Field(default="new", description="How far it is.")
    ends_at: datetime = Field(description="When it ends.")


parents = entity(Pass, plural="passes")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delete": "soft"}, 'needs delete="hard"'),
        ({"unique": (unique("name"),)}, "takes no unique"),
        ({"refers": (refers("name", to="accounts", code="NO_ACCOUNT"),)}, "takes no refers"),
        ({"life": Life("new", ())}, "takes no life"),
        ({"within": parents}, "takes no within"),
        ({"hidden": ("ends_at",)}, "cannot be hidden"),
        ({"expires": "name"}, "is a time"),
        ({"expires": "until"}, "has no field until"),
    ],
)
def test_what_would_outlive_a_row_cannot_be_declared_of_it(options: dict[str, Any], said: str) -> None:
    declared: dict[str, Any] = {"delete": "hard", "expires": "ends_at"} | options
    with pytest.raises(ContractError, match=said):
        entity(Pass, plural="passes", **declared)


def test_nothing_refers_to_rows_that_end_by_themselves() -> None:
    class Use(Message):
        """The use of a ticket."""

        ticket_id: Label = Field(description="Which ticket was used.")

    uses = entity(Use, refers=(refers("ticket_id", to="tickets", code="NO_TICKET"),))
    with pytest.raises(ContractError, match="uses of uses refers to tickets, whose rows end by themselves"):
        linked(ACCOUNTS, TICKETS, uses.context())
