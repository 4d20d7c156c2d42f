"""The lag metrics: the same of every process, and never an old value for a present one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import isnan
from typing import cast

import pytest

from tests.support.engine.codecs import HandClock
from tests.unit.admin.test_status import AT, CATALOG, Away, Database, Topics, lanes
from tidemill.admin.lag import LagWatch
from tidemill.admin.ports import LaneReader, ReadModelStates, TopicInspector
from tidemill.admin.rows import LaneState
from tidemill.contexts.market_data import context
from tidemill.domain.errors import Unavailable
from tidemill.runtime.telemetry.metrics import REGISTRY

NOW = AT + timedelta(seconds=90)


class Later(HandClock):
    """Some time after the oldest record."""

    def now(self) -> datetime:
        return NOW


def watch(database: Database, topics: Topics) -> LagWatch:
    return LagWatch(
        CATALOG,
        lanes=cast("LaneReader", database),
        read_models=cast("ReadModelStates", database),
        topics=cast("TopicInspector", topics),
        clock=Later(),
    )


def value(name: str, /, **labels: str) -> float:
    sample = REGISTRY.get_sample_value(f"tidemill_{name}", labels or {"aggregate": context.aggregate})
    assert sample is not None
    return sample


def halted(*codes: str | None) -> Sequence[LaneState]:
    return [lane._replace(halt_code=code) for lane, code in zip(lanes(), codes, strict=True)]


async def test_halted_lanes_are_those_of_the_database_and_a_lifted_halt_is_none() -> None:
    database = Database(halted("OFFSET_LOST", "OFFSET_LOST"))
    watching = watch(database, Topics((0, 10), (0, 300)))
    await watching.look()
    lost = {"aggregate": context.aggregate, "code": "OFFSET_LOST"}
    assert (value("halted_lanes", **lost), value("unowned_lanes")) == (2, 2)
    database._lanes = [lane._replace(owner="me", served=True) for lane in halted("FOREIGN_TAIL", None)]
    await watching.look()
    assert (value("halted_lanes", **lost), value("unowned_lanes")) == (0, 0)
    assert value("halted_lanes", **lost | {"code": "FOREIGN_TAIL"}) == 1


async def test_each_hop_has_the_age_of_its_oldest_record() -> None:
    topics = Topics((0, 10), (0, 300))
    topics.hidden = 3
    await watch(Database(lanes()), topics).look()
    assert (value("command_lag_records"), value("hidden_records")) == (6, 6)
    hops = [("intake", context.aggregate), ("relay", context.aggregate), ("projection", "daily-bars")]
    for hop, name in hops:
        assert value("lag_seconds", hop=hop, name=name) == 90
        assert value("lag_asked_timestamp_seconds", hop=hop, name=name) == NOW.timestamp()


async def test_an_age_ends_with_what_waited_and_a_clock_behind_makes_none_negative() -> None:
    watching = watch(
        Database([lane._replace(published_position=300) for lane in lanes()]), Topics((0, 10), (0, 300))
    )
    await watching.look()
    assert value("lag_seconds", hop="relay", name=context.aggregate) == 0
    watching._show_age("relay", context.aggregate, NOW + timedelta(seconds=5))
    assert value("lag_seconds", hop="relay", name=context.aggregate) == 0


async def test_while_kafka_is_unavailable_its_lag_is_no_number_and_the_database_is_still_shown() -> None:
    await watch(Database(lanes()), Topics((0, 10), (0, 300))).look()
    with pytest.raises(Unavailable):
        await watch(Database(halted("OFFSET_LOST", None)), Away()).look()
    assert isnan(value("command_lag_records"))
    assert isnan(value("hidden_records"))
    assert isnan(value("lag_seconds", hop="intake", name=context.aggregate))
    assert value("lag_seconds", hop="relay", name=context.aggregate) == 90
    assert value("halted_lanes", aggregate=context.aggregate, code="OFFSET_LOST") == 1


@pytest.mark.parametrize(
    "name", ["halted_lanes", "unowned_lanes", "command_lag_records", "hidden_records", "lag_seconds"]
)
def test_what_is_the_same_in_each_process_says_max(name: str) -> None:
    (family,) = [family for family in REGISTRY.collect() if family.name == f"tidemill_{name}"]
    assert "the same in each process: max" in family.documentation
    assert "not sum" in family.documentation
