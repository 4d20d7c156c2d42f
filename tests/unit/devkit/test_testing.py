"""What unit tests of contexts are given behaves as the engine does, and tells of mistakes in a declaration."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.engine import many_rows
from tidemill import api
from tidemill.api import Accepted, CommandBase, Context, ContractError, EventBase, Rejected
from tidemill.commands.decide_fold import DecideCommand, EncodedEvent, FoldPlan, HolderOf, fold_all
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import (
    ConnectorProfileRegistered,
    DeactivateConnectorProfile,
    RegisterConnectorProfile,
    UpdateConnectorProfile,
)
from tidemill.contexts.market_data import context as market_data
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.contexts.market_data.read_models import daily_bars
from tidemill_devkit.testing import NOW, ContextInMemory, recorded, rows_of, sample


def register(profile_id: str, name: str) -> RegisterConnectorProfile:
    return sample(RegisterConnectorProfile, profile_id=profile_id, name=name, profile_data="{}")


KEYS = st.sampled_from(["p1", "p2", "p3"])
NAMES = st.sampled_from(["main", "spare"])
COMMANDS = st.lists(
    st.one_of(
        st.builds(register, KEYS, NAMES),
        st.builds(lambda key, name: sample(UpdateConnectorProfile, profile_id=key, name=name), KEYS, NAMES),
        st.builds(lambda key: sample(DeactivateConnectorProfile, profile_id=key), KEYS),
    ),
    max_size=12,
)


def tick(**values: Any) -> RecordMarketData:
    return sample(RecordMarketData, **{"symbol": "IBM", "time": NOW, "price": 1.0, "source": "test"} | values)


def decided_by_the_engine(commands: list[CommandBase]) -> tuple[list[Any], dict[str, Any]]:
    """What the engine's own fold makes of the commands as one batch; events by name."""
    plan = FoldPlan.of(connector_profiles.states)
    specs: dict[Any, Any] = {spec.model: spec for spec in connector_profiles.commands}
    names = {("tests", name): None for name in ("main", "spare")}
    batch: Any = [
        DecideCommand(0, connector_profiles.key(each), specs[type(each)], each, NOW) for each in commands
    ]
    folded = fold_all(plan, {HolderOf(0, 0): names}, of_events, batch)
    return folded.results, {key: row for (_, key), row in folded.states.items()}


def of_events(accepted: Accepted, _: DecideCommand | None = None) -> list[EncodedEvent]:
    return [EncodedEvent(type(event).__name__, b"") for event in accepted.events]


@given(commands=COMMANDS)
def test_a_context_in_memory_decides_as_the_engine_does(commands: list[CommandBase]) -> None:
    memory = ContextInMemory(connector_profiles)
    decisions = [memory.send(command) for command in commands]
    results, states = decided_by_the_engine(commands)
    assert [each if isinstance(each, Rejected) else of_events(each) for each in decisions] == results
    assert {key: memory.state(key) for key in states} == states


def test_an_append_is_checked_by_the_clock_and_repeated_by_its_event() -> None:
    memory = ContextInMemory(market_data)
    assert memory.send(tick()) == Accepted((sample(MarketDataRecorded, **tick().model_dump()),))
    refused = memory.send(tick(time=NOW + timedelta(hours=1)))
    assert isinstance(refused, Rejected)
    assert refused.code == "INVALID"
    memory.now += timedelta(hours=1)
    assert isinstance(memory.send(tick(time=NOW + timedelta(hours=1), price=2.0)), Accepted)
    assert len(memory.events) == 2
    (bar,) = memory.rows("daily-bars").values()
    assert (bar.ticks, bar.high, bar.version) == (2, 2.0, 2)


def test_rows_are_copies() -> None:
    memory = ContextInMemory(market_data)
    memory.send(tick())
    memory.rows("latest-quotes")["IBM",].price = 9.0
    assert memory.rows("latest-quotes")["IBM",].price == 1.0


def test_rows_of_a_read_model_do_not_depend_on_the_lane_that_comes_first() -> None:
    one = recorded(sample(MarketDataRecorded, **tick(price=1.0).model_dump()), lane=1)
    other = recorded(sample(MarketDataRecorded, **tick(price=3.0).model_dump()), lane=2)
    assert rows_of(daily_bars, [*one, *other]) == rows_of(daily_bars, [*other, *one])


def test_a_fold_may_remove_a_row() -> None:
    removing = replace(daily_bars, folds={MarketDataRecorded: lambda row, told: None})
    event = recorded(sample(MarketDataRecorded, **tick().model_dump()))
    assert rows_of(removing, event) == {}


def test_a_sample_keeps_the_rules_of_its_fields() -> None:
    made = sample(RegisterConnectorProfile, profile_id="p", name="n", profile_data="{}", command_id="x")
    assert (made.command_id, made.service_name) == ("x", "tests")
    with pytest.raises(ValidationError, match="profile_id"):
        sample(RegisterConnectorProfile, profile_id="", name="n", profile_data="{}")


def context_with(rule: Any, **changes: Any) -> Context:
    assert connector_profiles.state is not None
    state = replace(connector_profiles.state, http=None, **changes)
    return replace(connector_profiles, commands=(api.decide(RegisterConnectorProfile, rule),), state=state)


def registered(_: Any, command: CommandBase) -> Accepted:
    return Accepted((ConnectorProfileRegistered.of(command),))


@pytest.mark.parametrize(
    ("context", "says"),
    [
        (market_data, "context market-data declares no RegisterConnectorProfile"),
        (context_with(lambda state, command: None), r"a rule answers accepted\(...\) or rejected"),
        (context_with(registered, events=()), "ConnectorProfileRegistered is missing in the events of State"),
    ],
)
def test_a_wrong_declaration_is_told(context: Context, says: str) -> None:
    memory = ContextInMemory(replace(context, key=lambda command: "key"))
    with pytest.raises(ContractError, match=says):
        memory.send(register("p1", "main"))


def test_a_decision_without_events_changes_nothing() -> None:
    memory = ContextInMemory(context_with(lambda state, command: api.accepted()))
    assert memory.send(register("p1", "main")) == Accepted(())
    events: list[EventBase] = memory.events
    assert (memory.state("p1"), events) == (None, [])


@pytest.mark.parametrize(
    ("context", "table", "rows"),
    [
        (many_rows.series(), "series_points", [{"value": 0.0}, {"value": None}]),
        (many_rows.watching(), "sightings", [{"what": "whale"}, {"what": "whale"}]),
        (many_rows.meters(), "meter_readings", [{"meter_id": "m"}, {"meter_id": "m"}]),
    ],
    ids=["arrays", "records", "decisions"],
)
def test_the_rows_of_a_command_are_those_of_the_engine(
    context: Context, table: str, rows: list[dict[str, Any]]
) -> None:
    memory = ContextInMemory(context, now=NOW + timedelta(days=7))
    command = many_rows.command_of(context, [0, 1])
    assert isinstance(memory.send(command), Accepted)
    appended = memory.appended(table)
    assert [row["time"] for row in appended] == [many_rows.BEGAN, many_rows.BEGAN + many_rows.DAY]
    assert [row | expected for row, expected in zip(appended, rows, strict=True)] == appended
    assert {row["command_id"] for row in appended} == {command.command_id}
    assert memory.appended("another") == []


def test_a_refused_command_appends_nothing() -> None:
    memory = ContextInMemory(many_rows.meters())
    assert isinstance(memory.send(many_rows.command_of(many_rows.meters(), [0], amount=6)), Rejected)
    assert memory.appended("meter_readings") == []
