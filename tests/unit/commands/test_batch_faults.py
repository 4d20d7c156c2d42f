"""What a batch makes of each fault: redo, bisect and blame one record, park it, or leave it to the caller."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.fakes.commands import MemoryCommandStore, MemoryWork
from tests.support.engine.commands import Harness, base, codes, outcomes, uuid7
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.context import AppendSpec
from tidemill.domain.decision import Rejected, accepted
from tidemill.domain.errors import ContractError, DataError, GenerationClosed, TableMisfit
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock

TICKS = Stream.of(replace(market_data, partitions=1))
PROFILES = Stream.of(replace(connector_profiles, partitions=1))
REFUSED = DataError("22P05", "no such character")


def tick(symbol: str = "AAPL", **fields: Any) -> RecordMarketData:
    at = datetime(2013, 3, 1, tzinfo=UTC)
    return RecordMarketData(**base(symbol=symbol, time=at, price=1.0, source="test", **fields))


async def harness(stream: Stream, **options: Any) -> Harness:
    made = Harness(stream, MemoryCommandStore(stream), **options)
    await made.claim()
    return made


def refuse(monkeypatch: pytest.MonkeyPatch, method: str, poison: str) -> None:
    """Let the database refuse what holds a value that reads like `poison`."""
    original = getattr(MemoryWork, method)

    async def picky(work: MemoryWork, *args: Any) -> Any:
        if poison in str(args[-1]):
            raise REFUSED
        return await original(work, *args)

    monkeypatch.setattr(MemoryWork, method, picky)


async def test_what_only_the_clock_knows_is_told_together_with_invalid_fields() -> None:
    ticks = await harness(TICKS)
    both = RecordMarketData.model_construct(
        **dict(tick()) | {"source": "", "time": datetime(1999, 1, 1, tzinfo=UTC), "high": 1.0, "low": 2.0}
    )
    done = await ticks.send(tick(), both, both)
    assert codes(done) == [None, "INVALID", "INVALID"]
    detail = done.outcomes[1][1].detail or ""
    assert detail == (
        "source: String should have at least 1 character; high 1.0 is below low 2.0; time 1999-01-01T00:00:00+00:00 "
        "lies before 2000-01-01T00:00:00+00:00, the earliest time that is accepted"
    )
    assert done.outcomes[2][1].detail == detail, "a repeat has the same answer"


async def test_a_value_that_the_database_refuses_costs_its_own_record_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, "append", "POISON")
    ticks = await harness(TICKS)
    done = await ticks.send(tick(), tick("POISON"), tick(), tick("POISON"), tick())
    assert codes(done) == [None, "INVALID", None, "INVALID", None]
    assert "the database refused a value (22P05)" in (done.outcomes[1][1].detail or "")


async def test_no_record_is_blamed_for_a_table_that_is_not_as_declared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes before it in the batch is whole; it itself waits, and is applied once the table is mended."""
    refuse(monkeypatch, "append", "POISON")
    misfits = ["public.market_data: column more is NOT NULL without a default, and nothing fills it"]

    async def demand_tables() -> None:
        if misfits:
            raise TableMisfit(misfits[0])

    ticks = await harness(TICKS, demand_tables=demand_tables)
    records = [ticks.topic.record(each) for each in (tick(), tick("POISON"), tick())]
    with pytest.raises(TableMisfit, match="column more is NOT NULL"):
        await ticks.apply(*records)
    monkeypatch.undo()
    done = await ticks.apply(*records)
    assert outcomes(done) == {"applied": 2}, "the first one was applied before"
    misfits.clear()
    refuse(monkeypatch, "append", "POISON")
    assert codes(await ticks.send(tick("POISON"))) == ["INVALID"], "now it is the record's own fault"


async def test_a_refusal_that_cannot_be_written_either_parks_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, "append", "POISON")
    refuse(monkeypatch, "log", "INVALID")
    ticks = await harness(TICKS)
    done = await ticks.send(tick(), tick("POISON"))
    assert codes(done) == [None, "MALFORMED"]
    assert outcomes(done) == {"applied": 1, "parked": 1}


async def test_a_record_that_cannot_even_be_parked_halts_its_lane_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, "append", "POISON")
    refuse(monkeypatch, "log", "refused a value")
    ticks = await harness(Stream.of(replace(market_data, partitions=4)))
    sent = [tick("AAPL"), tick("POISON"), tick("MSFT"), tick("IBM")]
    records = [ticks.topic.record(each) for each in sent]
    records.append(ticks.topic.raw(records[1].partition, b"k", b"garbage"))
    done = await ticks.apply(*records)
    stuck = records[1]
    ((lane, (code, evidence)),) = done.halted.items()
    assert (lane, code) == (ticks.lane_of(stuck.partition), "PARKING_REFUSED")
    assert (
        f"partition {stuck.partition}, offset {stuck.offset}: the database refused a value (22P05)"
        in evidence
    )
    behind = [each for each in records if each.partition == stuck.partition and each.offset >= stuck.offset]
    assert sum(done.counts.values()) == len(records) - len(behind)


async def test_a_log_that_rolls_under_a_batch_has_it_redone(monkeypatch: pytest.MonkeyPatch) -> None:
    original, rolls = MemoryWork.append_ledger, [GenerationClosed("rolled"), GenerationClosed("again")]

    async def rolling(work: MemoryWork, rows: Any) -> None:
        if rolls:
            raise rolls.pop()
        await original(work, rows)

    monkeypatch.setattr(MemoryWork, "append_ledger", rolling)
    ticks = await harness(TICKS)
    assert outcomes(await ticks.send(tick(), tick())) == {"applied": 2}
    assert ticks.store.transactions == 3  # type: ignore[attr-defined]


async def test_an_id_that_was_born_before_the_horizon_is_stale() -> None:
    ticks, now = await harness(TICKS), SystemClock().now()
    old, new = uuid7(now - timedelta(days=9)), uuid7(now - timedelta(days=7))
    done = await ticks.send(tick(command_id=old), tick(command_id=new))
    assert codes(done) == ["STALE", None]


async def test_a_check_that_raises_parks_its_record_and_one_that_refuses_is_heard() -> None:
    def check(command: Any, _at: datetime) -> Rejected | None:
        if command.symbol == "RAISES":
            raise ZeroDivisionError("by design")
        return Rejected("INVALID", "not today") if command.symbol == "REFUSED" else None

    commands = {name: replace(_append(spec), check=check) for name, spec in TICKS.commands.items()}
    ticks = await harness(replace(TICKS, commands=commands))
    done = await ticks.send(tick("RAISES"), tick("REFUSED"), tick())
    assert codes(done) == ["CRASHED", "INVALID", None]
    assert "ZeroDivisionError: by design" in (done.outcomes[0][1].detail or "")


def _append(spec: Any) -> AppendSpec:
    assert isinstance(spec, AppendSpec)
    return spec


async def test_an_appended_event_that_is_too_large_is_refused() -> None:
    ticks = await harness(TICKS, max_event_bytes=50)
    assert codes(await ticks.send(tick())) == ["TOO_LARGE"]


def test_a_table_that_its_command_cannot_fill_is_found_at_start() -> None:
    (spec,) = TICKS.commands.values()
    profiles = connector_profiles.state
    assert profiles is not None
    wrong = {name: replace(_append(spec), table=profiles.table) for name in TICKS.commands}
    with pytest.raises(ContractError, match=r"needs .*add the fields, or allow null"):
        Harness(replace(TICKS, commands=wrong), MemoryCommandStore(TICKS))


async def test_rules_that_raise_or_answer_nonsense_park_their_records() -> None:
    answers: dict[str, Any] = {"p1": ZeroDivisionError("by design"), "p2": "yes"}

    def rule(state: Any, command: Any) -> Any:
        answer = answers.get(command.profile_id)
        if isinstance(answer, Exception):
            raise answer
        return answer or original(state, command)

    (name,) = [name for name, spec in PROFILES.commands.items() if spec.model is RegisterConnectorProfile]
    spec: Any = PROFILES.commands[name]
    original = spec.rule
    profiles = await harness(
        replace(PROFILES, commands={**PROFILES.commands, name: replace(spec, rule=rule)})
    )
    sent = [
        RegisterConnectorProfile(**base(profile_id=key, name=key, profile_data="{}"))
        for key in ("p1", "p2", "p3")
    ]
    done = await profiles.send(*sent)
    assert codes(done) == ["CRASHED", "CRASHED", None]
    assert "a rule answers accepted(...) or rejected(...), not 'yes'" in (done.outcomes[1][1].detail or "")


async def test_a_validator_that_raises_parks_its_records_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Moody:
        def __init__(self, kind: Any) -> None:
            self._adapter = TypeAdapter[Any](kind)

        def validate_python(self, commands: Any, *args: Any, **options: Any) -> Any:
            if any(command["symbol"] == "RAISES" for command in commands):
                raise ZeroDivisionError("by design")
            return self._adapter.validate_python(commands, *args, **options)

    monkeypatch.setattr("tidemill.commands.validation.TypeAdapter", Moody)
    ticks = await harness(TICKS)
    assert codes(await ticks.send(tick(), tick("RAISES"), tick())) == [None, "CRASHED", None]


async def test_a_command_that_changes_nothing_is_applied_and_leaves_no_event_and_no_state() -> None:
    (name,) = [name for name, spec in PROFILES.commands.items() if spec.model is RegisterConnectorProfile]
    spec: Any = PROFILES.commands[name]
    idle = replace(spec, rule=lambda _state, _command: accepted())
    profiles = await harness(replace(PROFILES, commands={**PROFILES.commands, name: idle}))
    command = RegisterConnectorProfile(**base(profile_id="p1", name="a", profile_data="{}"))
    done = await profiles.send(command, command)
    assert (outcomes(done), done.events) == ({"applied": 1, "duplicate": 1}, 0)
    assert profiles.store.tables.states == {}  # type: ignore[attr-defined]
