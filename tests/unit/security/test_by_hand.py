"""What is done by hand is between two entries of the journal, and is not done without the first."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import pytest

from tests.fakes.journal import BEGIN, MemoryJournal
from tests.support.engine.codecs import HandClock
from tidemill.domain.errors import TidemillError, Unavailable, UsageError
from tidemill.security.by_hand import HandAction, journaled, operator, this_process
from tidemill.security.journal import WriterIdentity
from tidemill.security.journal_check import faults
from tidemill.security.journal_writer import Journal, JournalLimits

LIMITS = JournalLimits(deadline_s=300.0, lazy_s=0.0, fails_at_once=True)
RESUME = HandAction(
    "lanes resume", {"lane": "market-data/3", "skip_to": 1042, "reason": "x" * 500, "park": None}
)


def journal(store: MemoryJournal) -> Journal:
    return Journal(store, WriterIdentity("lanes resume", "host-1", 17, "0.6.0", BEGIN), limits=LIMITS)


async def test_an_action_has_an_intent_and_an_outcome() -> None:
    store = MemoryJournal()

    async def work() -> int:
        assert [row.kind for row in store.table.values()] == ["anchor", "intent"]
        return 7

    async with journal(store) as ours:
        assert await journaled(ours, RESUME, "ann@host-1", work) == 7
    _, intent, outcome = store.table.values()
    assert (intent.action, intent.principal) == ("lanes resume", "ann@host-1")
    assert json.loads(intent.detail) == {"lane": "market-data/3", "skip_to": 1042, "reason": "x" * 200}
    assert (outcome.action, outcome.of_number) == ("done", intent.number)
    assert faults(store.table.values()) == []


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (UsageError("there is no lane 3"), "failed", "USAGE"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError"),
        (asyncio.CancelledError(), "interrupted", "CancelledError"),
    ],
)
async def test_an_action_that_fails_has_an_outcome_that_says_so(
    error: BaseException, said: str, code: str
) -> None:
    store = MemoryJournal()

    async def work() -> None:
        raise error

    async with journal(store) as ours:
        with pytest.raises(type(error)):
            await journaled(ours, RESUME, "ann@host-1", work)
    *_, outcome = store.table.values()
    assert (outcome.kind, outcome.action) == ("outcome", said)
    assert json.loads(outcome.detail) == {"code": code}


@pytest.mark.parametrize("error", [Unavailable("database", "it is down"), UsageError("permission denied")])
async def test_without_an_intent_nothing_is_done(error: TidemillError) -> None:
    class Silent(MemoryJournal):
        async def now(self) -> datetime:
            raise error

    done = []

    async def work() -> None:
        done.append(1)

    async with journal(Silent()) as ours:
        with pytest.raises(type(error), match=str(error)):
            await journaled(ours, RESUME, "ann@host-1", work)
    assert done == []


async def test_an_intent_that_is_not_stored_in_time_stops_the_action() -> None:
    class Hanging(MemoryJournal):
        async def now(self) -> datetime:
            await asyncio.Event().wait()
            raise AssertionError

    limits = JournalLimits(deadline_s=0.01, lazy_s=0.0, drain_s=0.01)
    process = this_process("lanes resume", HandClock())
    async with Journal(Hanging(), process, limits=limits) as ours:
        with pytest.raises(Unavailable, match="nothing was changed"):
            await journaled(ours, RESUME, operator(), asyncio.Event().wait)
