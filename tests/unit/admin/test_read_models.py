"""What is shown of read models, and which of them may be built again."""

from __future__ import annotations

from typing import Any, NoReturn, cast

import pytest

from tests.unit.admin.audit.test_balance import AT, lane_state
from tidemill.admin.ports import LaneReader
from tidemill.admin.read_models import ReadModelRepair, read_models
from tidemill.admin.rows import ProjectionState
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.market_data import context as market_data
from tidemill.domain.errors import UsageError
from tidemill.domain.stream import Stream
from tidemill.projections.replay import ReplayParts

CATALOG = StreamCatalog(
    {
        context.aggregate: ContextStream(context, Stream.of(context))
        for context in (market_data, connector_profiles)
    }
)
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


def repair() -> ReadModelRepair:
    async def nothing_is_opened(_part: ContextStream, _of_state: bool) -> ReplayParts:
        return unreachable()

    lanes = cast("LaneReader", object())
    return ReadModelRepair(catalog=CATALOG, lanes=lanes, open_replay=nothing_is_opened)


def unreachable() -> NoReturn:
    raise AssertionError


async def test_what_commands_are_decided_by_is_not_built_again() -> None:
    with pytest.raises(UsageError, match="cannot be rebuilt: `tidemill projections verify connector"):
        await repair().rebuild("connector-profiles/state", lambda *_: None)


async def test_another_name_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(UsageError, match="there is no read model 'quotes'"):
        await repair().verify("quotes", lambda *_: None)
