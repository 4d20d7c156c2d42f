"""What is shown of read models, and which of them may be built again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn, cast

import pytest

from tests.support.engine.entity_contexts import ACCOUNTS, ITEMS
from tests.unit.admin.audit.test_balance import AT, lane_state
from tidemill.admin.ports import LaneReader
from tidemill.admin.read_models import ReadModelRepair, read_models
from tidemill.admin.rows import ProjectionState
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.errors import ContractError, Unavailable, UsageError
from tidemill.domain.stream import Stream
from tidemill.projections.replay import ReplayParts

CATALOG = StreamCatalog(
    {
        context.aggregate: ContextStream(context, Stream.of(context))
        for context in (market_data, connector_profiles)
    }
)
ENTITIES = StreamCatalog({"items": ContextStream(ITEMS, Stream.of(ITEMS))})
LANES = [
    lane_state(1, position=10, sequence=8),
    lane_state(2, position=5, sequence=2),
    lane_state(3, position=9, sequence=9, aggregate="connector-profiles"),
]


def name_of(table: Any) -> str:
    return f"declared.{table.name}"


def test_a_read_model_is_shown_as_far_as_it_is() -> None:
    started = ProjectionState("latest-quotes", "market-data", 1, "public.live", AT, None, {0: 5, 1: 2}, [])
    found = {shown.name: shown for shown in read_models(CATALOG, LANES, [started], name_of)}
    quotes, bars = found["latest-quotes"], found["daily-bars"]
    assert (quotes.table, quotes.events, quotes.lag, quotes.rebuilt_at) == ("public.live", 7, 3, AT)
    assert (bars.table, bars.events, bars.lag) == ("declared.daily_bars", 0, 10)


def test_a_state_is_never_behind() -> None:
    found = {shown.name: shown for shown in read_models(CATALOG, LANES, [], name_of)}
    state = found["connector-profiles/state"]
    assert (state.events, state.lag, state.aggregate) == (9, 0, "connector-profiles")


def test_what_readers_see_of_a_state_has_its_events_and_never_lags() -> None:
    lanes = [lane_state(1, position=9, sequence=9, aggregate="items")]
    (shown,) = [item for item in read_models(ENTITIES, lanes, [], name_of) if item.name == "items"]
    assert (shown.table, shown.events, shown.lag, shown.halted) == ("declared.items_view", 9, 0, 0)


def test_two_contexts_with_a_read_model_of_one_name_are_refused() -> None:
    view = ITEMS.states[0].view
    assert view is not None
    other = replace(ACCOUNTS, projections=(ACCOUNTS.states[0].as_projection(view.name),))
    parts = {context.aggregate: ContextStream(context, Stream.of(context)) for context in (ITEMS, other)}
    with pytest.raises(ContractError, match="two contexts have a read model named items"):
        StreamCatalog(parts).readable()


async def test_what_readers_see_of_a_state_is_verified_and_rebuilt_as_that_state() -> None:
    opened: list[bool] = []

    async def open_replay(_part: ContextStream, of_state: bool) -> ReplayParts:
        opened.append(of_state)
        raise Unavailable("kafka", "no broker answers")

    class Lanes:
        async def lanes(self) -> list[Any]:
            topics = Stream.of(ITEMS).topics
            return [
                lane_state(
                    1,
                    position=1,
                    sequence=1,
                    aggregate="items",
                    command_topic=topics.commands,
                    event_topic=topics.events,
                    outcome_topic=topics.outcomes,
                    dead_letter_topic=topics.dead_letters,
                )
            ]

    entities = ReadModelRepair(catalog=ENTITIES, lanes=cast("LaneReader", Lanes()), open_replay=open_replay)
    with pytest.raises(Unavailable):
        await entities.verify("items", lambda *_: None)
    with pytest.raises(Unavailable):
        await entities.rebuild("items", lambda *_: None)
    assert opened == [True, True]


def repair() -> ReadModelRepair:
    async def nothing_is_opened(_part: ContextStream, _of_state: bool) -> ReplayParts:
        return unreachable()

    lanes = cast("LaneReader", object())
    return ReadModelRepair(catalog=CATALOG, lanes=lanes, open_replay=nothing_is_opened)


def unreachable() -> NoReturn:
    raise AssertionError


async def test_another_name_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(UsageError, match="there is no read model 'quotes'"):
        await repair().verify("quotes", lambda *_: None)
