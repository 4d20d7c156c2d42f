"""A read model of events that hold many records each: kept up to date, rebuilt and verified on the real parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from tests.support.engine.market import LANES, NOON, Market, open_market
from tests.support.servers.databases import execute
from tidemill.api import Projection, ReadModelBase, Recorded, row_table
from tidemill.contexts.telemetry_events import TelemetryEventsRecorded
from tidemill.contexts.telemetry_events import context as telemetry_events
from tidemill.projections.rebuild import rebuild
from tidemill.projections.verify import verify
from tidemill_devkit.stack import Stack
from tidemill_devkit.testing import rows_of, sample

DDL = """
create table measured (
  name text primary key, events bigint not null, first_at timestamptz not null, peak double precision,
  id bigint not null, uuid uuid not null, created_at timestamptz not null, updated_at timestamptz not null,
  version bigint not null)
"""


@dataclass(kw_only=True)
class Measured(ReadModelBase):
    name: str
    events: int
    first_at: datetime
    peak: float | None


def measure(row: Measured | None, recorded: Recorded[Any]) -> Measured:
    """Counts and extremes, which do not depend on how lanes interleave."""
    event = recorded.event
    if row is None:
        return Measured(name=event.name, events=1, first_at=event.time, peak=event.value)
    row.events += 1
    row.first_at = min(row.first_at, event.time)
    row.peak = max((value for value in (row.peak, event.value) if value is not None), default=None)
    return row


measured = Projection(
    name="measured",
    row=Measured,
    table=row_table("measured", Measured, key="name"),
    parts=lambda event: event.events,
    key=lambda event: (event.name,),
    folds={TelemetryEventsRecorded: measure},
)
CONTEXT = replace(telemetry_events, projections=(measured,))


@pytest.fixture
async def telemetry(database: str, stack: Stack, unique_name: Callable[[str], str]) -> AsyncIterator[Market]:
    execute(database, DDL)
    async with open_market(database, stack.kafka_bootstrap, unique_name("telemetry"), CONTEXT) as market:
        yield market


def random_event(random: Random) -> Any:
    """Up to fifty events of a few names, some without a value."""
    events = [
        {
            "time": NOON + timedelta(seconds=random.randrange(10_000)),
            "name": random.choice(["load", "heat", "fan"]),
            "value": random.choice([None, random.random()]),
            "attributes": "{}",
        }
        for _ in range(random.randrange(51))
    ]
    return sample(TelemetryEventsRecorded, source="node", events=events)


async def test_a_read_model_of_parts_equals_its_rebuild(telemetry: Market) -> None:
    random = Random(7)
    for lane in range(LANES):
        await telemetry.tell(lane, *(random_event(random) for _ in range(40)))
    async with telemetry.running((measured,), max_events=25) as running:
        await running.reaches(telemetry.ends(), "measured")
    published = [event for events in telemetry.told.values() for event in events]
    expected = {
        key: (row.events, row.first_at, row.peak, row.version)
        for key, row in rows_of(measured, published).items()
    }
    rows = await telemetry.rows("measured")
    assert {
        (row["name"],): (row["events"], row["first_at"], row["peak"], row["version"]) for row in rows
    } == expected
    assert sum(row["events"] for row in rows) == sum(len(event.event.events) for event in published)
    rebuilt = await rebuild(telemetry.stream, measured, telemetry.parts(), lambda *_: None)
    assert rebuilt == (LANES * 40, None)
    assert sorted(map(str, await telemetry.rows("measured"))) == sorted(map(str, rows))
    assert (await verify(telemetry.stream, measured, telemetry.parts(), lambda *_: None)).differing == 0
    await telemetry.pool.execute("update measured set events = events + 1 where name = 'fan'")
    assert (await verify(telemetry.stream, measured, telemetry.parts(), lambda *_: None)).differing == 1
