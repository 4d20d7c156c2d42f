"""What repeats a record at which context code raises: a parked one answers nothing, an applied one for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.commands import MemoryCommandStore, MemoryWork
from tests.support.engine.commands import FakeRecord, Harness, base, codes
from tests.support.engine.profile_streams import KEYLESS, STREAM
from tidemill.commands.rows import LoggedCommand
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile, UpdateConnectorProfile
from tidemill.domain.lane import lane_name
from tidemill.domain.messages import CommandBase, Outcome

ALWAYS, ON_A_PROFILE, ON_NONE, GOOD = (
    *(f'{{"breaks": "{when}"}}' for when in ("always", "on a profile", "on none")),
    '{"type": "rest"}',
)


def register(data: str = GOOD, **fields: Any) -> RegisterConnectorProfile:
    return RegisterConnectorProfile(
        **base(**{"profile_id": "p0", "name": "a", "profile_data": data} | fields)
    )


def update(data: str) -> UpdateConnectorProfile:
    return UpdateConnectorProfile(**base(profile_id="p0", profile_data=data))


def same_id(command: CommandBase, as_that_of: CommandBase) -> CommandBase:
    return command.model_copy(update={"command_id": as_that_of.command_id})


async def outcomes(*batches: list[FakeRecord], look_ahead: int = 0) -> list[tuple[Outcome, str | None]]:
    """Return what became of each record, in order."""
    harness = Harness(STREAM, MemoryCommandStore(STREAM))
    await harness.claim()
    harness.writer._look_ahead = look_ahead
    answers = [await harness.apply(*batch) for batch in batches]
    return [(Outcome.of_letter(row.outcome or b""), row.code) for done in answers for _, row in done.outcomes]


async def however_cut(records: list[FakeRecord]) -> list[tuple[Outcome, str | None]]:
    """Return what became of each record, the same in one batch and one by one."""
    together, apart = await outcomes(records), await outcomes(*([each] for each in records))
    assert together == apart
    assert await outcomes(records, look_ahead=10) == apart
    return apart


def in_order(*commands: CommandBase) -> list[FakeRecord]:
    topic = Harness(STREAM, MemoryCommandStore(STREAM)).topic
    return [topic.record(each) for each in commands]


async def test_a_good_command_under_the_id_of_one_that_was_parked_is_applied() -> None:
    bad = register(ALWAYS)
    after = UpdateConnectorProfile(**base(profile_id="p0", name="b"))
    assert await however_cut(in_order(bad, same_id(register(), bad), after)) == [
        (Outcome.PARKED, "CRASHED"),
        (Outcome.APPLIED, None),
        (Outcome.APPLIED, None),
    ]


async def test_a_parked_command_that_is_sent_again_is_decided_on_what_happened_meanwhile() -> None:
    early = update(ON_NONE)
    assert await however_cut(in_order(early, register(), early, early)) == [
        (Outcome.PARKED, "CRASHED"),
        (Outcome.APPLIED, None),
        (Outcome.APPLIED, None),
        (Outcome.DUPLICATE, None),
    ]


async def test_one_that_is_parked_each_time_is_parked_each_time_without_many_more_transactions() -> None:
    bad, good = register(ALWAYS), register(profile_id="p4", name="b")
    sent = [command for number in range(20) for command in (bad, same_id(good, bad) if number == 10 else bad)]
    seen = await however_cut(in_order(*sent))
    assert seen.count((Outcome.PARKED, "CRASHED")) == 21
    assert seen[21] == (Outcome.APPLIED, None)
    assert seen[22:] == [(Outcome.REJECTED, "ID_REUSE")] * 18
    harness = Harness(STREAM, MemoryCommandStore(STREAM))
    await harness.claim()
    await harness.apply(*(harness.topic.record(bad) for _ in range(64)))
    assert harness.store.transactions <= 2 * 64 + 4  # type: ignore[attr-defined]


async def test_an_applied_command_that_is_sent_again_is_a_duplicate_though_its_rule_now_raises() -> None:
    once = register(ON_A_PROFILE)
    assert await however_cut(in_order(once, once)) == [(Outcome.APPLIED, None), (Outcome.DUPLICATE, None)]


async def test_the_answer_to_a_reused_id_names_the_lane_where_it_was_used_first() -> None:
    """Under another key that is another lane than the one that answers."""
    harness = Harness(STREAM, MemoryCommandStore(STREAM))
    await harness.claim()
    first = register()
    ((_, logged),) = (await harness.send(first)).outcomes
    keys = (f"p{number}" for number in range(100))
    again = (same_id(register(profile_id=key, name=key), first) for key in keys)
    other = next(each for each in again if harness.topic.record(each).partition != logged.lane - 1)
    ((_, row),) = (await harness.send(other)).outcomes
    name = lane_name(STREAM.aggregate, logged.lane - 1)
    assert (
        row.detail == f"{first.command_id} was first used for another command, see position 1 of lane {name}"
    )
    assert row.lane != logged.lane


async def test_a_duplicate_is_one_though_another_batch_meets_a_repeat_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both share what is known of repeats: the batch that did not look its ids up may not believe that it did."""
    harness, others = Harness(STREAM, MemoryCommandStore(STREAM)), register(profile_id="p6", name="b")
    await harness.claim()
    once = register(ON_A_PROFILE)
    assert codes(await harness.send(once, others)) == [None, None]
    find, asked = MemoryWork.find, iter([True])

    async def disturbed(work: MemoryWork, ids: Sequence[str], *, open_too: bool) -> dict[str, LoggedCommand]:
        found = await find(work, ids, open_too=open_too)
        if next(asked, False):
            await harness.send(others)
        return found

    monkeypatch.setattr(MemoryWork, "find", disturbed)
    done = await harness.send(once)
    assert [(row.outcome, row.code) for _, row in done.outcomes] == [(Outcome.DUPLICATE.letter, None)]


@pytest.mark.parametrize("first", ["good", "keyless"])
async def test_an_id_whose_record_has_no_key_that_can_be_told_is_parked_unless_it_was_answered(
    first: str,
) -> None:
    topic = Harness(STREAM, MemoryCommandStore(STREAM)).topic
    good = register()
    keyless = register(profile_id=KEYLESS, command_id=good.command_id)
    in_place = topic.place(good)
    wanted = [good, keyless] if first == "good" else [keyless, good]
    records = [topic.record(each, **in_place) for each in wanted]
    assert await however_cut(records) == (
        [(Outcome.APPLIED, None), (Outcome.REJECTED, "ID_REUSE")]
        if first == "good"
        else [(Outcome.PARKED, "CRASHED"), (Outcome.APPLIED, None)]
    )


async def test_a_rule_that_takes_another_value_each_time_parks_its_record() -> None:
    """It is not pure, so no number of passes finds out which names have to be looked up."""
    (name,) = [name for name, spec in STREAM.commands.items() if spec.model is RegisterConnectorProfile]
    spec: Any = STREAM.commands[name]
    asked = iter(range(1_000_000))

    def rule(profile: Any, command: Any) -> Any:
        if command.name == "moody":
            command = command.model_copy(update={"name": f"name {next(asked)}"})
        return spec.rule(profile, command)

    moody = replace(STREAM, commands={**STREAM.commands, name: replace(spec, rule=rule)})
    harness = Harness(moody, MemoryCommandStore(moody))
    await harness.claim()
    done = await harness.send(register(), register(name="moody", profile_id="p4"))
    assert codes(done) == [None, "CRASHED"]
