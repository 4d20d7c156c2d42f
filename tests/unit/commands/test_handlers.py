"""The styles on their own: what is encoded how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.codecs import JsonCodec
from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.commands import Harness, base, codes, outcomes
from tidemill.commands.ports import Decoded
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile
from tidemill.domain.messages import EventBase
from tidemill.domain.stream import Stream

PROFILES = Stream.of(connector_profiles)


def register(number: int, filling: str = "") -> RegisterConnectorProfile:
    data = f'{{"filling": "{filling}"}}'
    return RegisterConnectorProfile(**base(profile_id=f"p{number}", name=f"n{number}", profile_data=data))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[EventBase]:
    """The events that were encoded, one entry for each time."""
    seen: list[EventBase] = []
    encode = JsonCodec.encode_event

    def noting(codec: JsonCodec, event: EventBase, command: Decoded | None = None) -> bytes:
        seen.append(event)
        return encode(codec, event, command)

    monkeypatch.setattr(JsonCodec, "encode_event", noting)
    return seen


def guessing(taken_by: Callable[[Any], Any]) -> Stream:
    """The profiles with another guess of the names that a command takes."""
    (state,) = connector_profiles.states
    (unique,) = state.unique
    guess = replace(state, unique=(replace(unique, taken_by=taken_by),))
    return Stream.of(replace(connector_profiles, state=guess))


async def test_commands_that_say_what_they_take_are_decided_once(encoded: list[EventBase]) -> None:
    profiles = Harness(PROFILES, MemoryCommandStore(PROFILES))
    await profiles.claim()
    await profiles.send(*(register(number) for number in range(5)))
    assert len(encoded) == 5
    stored = [row.payload for row in profiles.store.tables.outbox]  # type: ignore[attr-defined]
    assert sorted(stored) == sorted(JsonCodec(PROFILES).encode_event(event) for event in encoded[:5])


async def test_events_are_encoded_in_the_last_pass_of_their_fold(encoded: list[EventBase]) -> None:
    stream = guessing(lambda command: None)
    profiles = Harness(stream, MemoryCommandStore(stream))
    await profiles.claim()
    await profiles.send(*(register(number) for number in range(5)))
    assert len(encoded) == 6, "the pass that finds the names encodes only until it has its first question"


GUESSES: dict[str, Callable[[Any], Any]] = {
    "none": lambda command: None,
    "another value": lambda command: ("tests", "n-of-nobody"),
    "a value of another row": lambda command: ("tests", "n0"),
}


@pytest.mark.parametrize("guess", GUESSES.values(), ids=GUESSES)
async def test_a_wrong_guess_changes_nothing(guess: Callable[[Any], Any]) -> None:
    results = []
    for stream in (PROFILES, guessing(guess)):
        profiles = Harness(stream, MemoryCommandStore(stream))
        await profiles.claim()
        done = await profiles.send(register(0), register(1), register(2))
        taken = [register(number).model_copy(update={"name": f"n{number % 4}"}) for number in range(2, 7)]
        again = await profiles.send(
            *(second.model_copy(update={"command_id": second.name}) for second in taken)
        )
        results.append([codes(done), codes(again), outcomes(again)])
    assert results[0] == results[1]
    assert "NAME_TAKEN" in results[0][1]


async def test_a_command_whose_event_is_too_large_is_refused_and_the_others_are_not() -> None:
    profiles = Harness(PROFILES, MemoryCommandStore(PROFILES), max_event_bytes=400)
    await profiles.claim()
    done = await profiles.send(register(1), register(2, "x" * 500), register(3))
    assert outcomes(done) == {"applied": 2, "rejected": 1}
    assert sorted(codes(done), key=str) == [None, None, "TOO_LARGE"]
