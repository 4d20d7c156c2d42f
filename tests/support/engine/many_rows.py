"""Contexts whose commands append many rows: made of arrays, of records, and by decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field
from sqlalchemy import Column, DateTime, Double, MetaData, Table, Text, Uuid

from tests.support.engine.commands import base
from tidemill.api import (
    CommandBase,
    Context,
    Decision,
    EventBase,
    Label,
    LateRule,
    Message,
    Retention,
    State,
    accepted,
    append,
    checks,
    decide,
    fact_event,
    fact_table,
    rejected,
    row_table,
)

DAY = timedelta(days=1)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = datetime.min.replace(tzinfo=UTC)
SINCE = checks.Within("time", since=datetime(2000, 1, 1, tzinfo=UTC), ahead=timedelta(minutes=5))

# --- arrays: a function makes the rows --------------------------------------------------------------------------------


class RecordSeries(CommandBase):
    """Record a series."""

    checks = (checks.SameLength("values", "times"),)

    series: Label = Field(description="The series.")
    times: list[datetime] = Field(description="When.")
    values: list[float | None] = Field(description="How much.")


SeriesRecorded = fact_event("SeriesRecorded", RecordSeries, "A series was recorded.")
series_points = Table(
    "series_points",
    MetaData(),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("series", Text, nullable=False),
    Column("value", Double),
    Column("command_id", Uuid, nullable=False),
    schema="public",
)


def points(command: RecordSeries) -> Sequence[tuple[Any, ...]]:
    """A row for each point, in the order of the table's columns."""
    pairs = zip(command.times, command.values, strict=True)
    return [(time, command.series, value) for time, value in pairs]


# --- records: their fields are the columns ----------------------------------------------------------------------------


class Sighting(Message):
    """Something seen."""

    checks = (SINCE,)

    time: datetime = Field(description="When.")
    what: Label = Field(description="What.")
    size: float | None = Field(default=None, description="How large.")


class RecordSightings(CommandBase):
    """Record what one observer saw."""

    observer: Label = Field(description="Who saw it.")
    sightings: list[Sighting] = Field(description="What was seen.")


SightingsRecorded = fact_event("SightingsRecorded", RecordSightings, "Things were seen.")
sightings = fact_table("sightings", RecordSightings, first="time")

# --- decisions --------------------------------------------------------------------------------------------------------


class ReadMeter(CommandBase):
    """Read a meter."""

    meter_id: Label = Field(description="The meter.")
    times: list[datetime] = Field(description="When.")
    amount: int = Field(description="How much more.")


class MeterRead(EventBase):
    """A meter was read."""

    meter_id: str
    amount: int


@dataclass(frozen=True, kw_only=True)
class Meter:
    meter_id: str
    total: int
    version: int = 0
    created_at: datetime = NEVER
    updated_at: datetime = NEVER


meter_readings = Table(
    "meter_readings",
    MetaData(),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("meter_id", Text, nullable=False),
    Column("command_id", Uuid, nullable=False),
    schema="public",
)


def read_meter(meter: Meter | None, command: ReadMeter) -> Decision:
    """A meter takes at most 5 in all, so that the order of commands decides."""
    total = command.amount + (meter.total if meter else 0)
    if total > 5:
        return rejected("FULL", f"{command.meter_id} would be at {total}")
    event = MeterRead.of(command)
    return accepted(event, rows=[(time, command.meter_id) for time in command.times])


def evolve(meter: Meter | None, event: EventBase) -> Meter:
    assert isinstance(event, MeterRead)
    return Meter(meter_id=event.meter_id, total=event.amount + (meter.total if meter else 0))


def series(late: LateRule | None = None, **changes: Any) -> Context:
    """Return the context of arrays; `late`: what happens to late rows, None: none are."""
    spec = append(RecordSeries, into=series_points, event=SeriesRecorded, rows=points)
    return _context("series", "series", replace(spec, **changes), series_points, late)


def watching(late: LateRule | None = None) -> Context:
    """Return the context of records."""
    spec = append(RecordSightings, into=sightings, event=SightingsRecorded, rows="sightings")
    return _context("watching", "observer", spec, sightings, late)


def meters(late: LateRule | None = None) -> Context:
    """Return the context of decisions."""
    state = State(
        model=Meter,
        table=row_table("meters", Meter, key="meter_id"),
        key="meter_id",
        evolve=evolve,
        events=(MeterRead,),
    )
    spec = decide(ReadMeter, read_meter, into=meter_readings)
    context = replace(
        _context("meters", "meter_id", spec, meter_readings, None, state=state), codes={"FULL": "less"}
    )
    return context if late is None else replace(context, retention=retention(meter_readings, late))


def _context(
    aggregate: str, key: str, spec: Any, table: Table, late: LateRule | None, **fields: Any
) -> Context:
    return Context(
        aggregate=aggregate,
        key=lambda command: getattr(command, key),
        commands=(spec,),
        partitions=1,
        retention=None if late is None else retention(table, late),
        **fields,
    )


def retention(table: Table, late: LateRule) -> Retention:
    return Retention(table=table, after=DAY, late=late)


def command_of(context: Context, days: Sequence[float], amount: int = 1, **fields: Any) -> CommandBase:
    """Return a command of one of these contexts with a row on each day after BEGAN."""
    times = [BEGAN + day * DAY for day in days]
    match context.aggregate:
        case "series":
            values = [None if index % 2 else float(index) for index in range(len(times))]
            return RecordSeries(**base(series="s", times=times, values=values, **fields))
        case "watching":
            seen = [Sighting(time=time, what="whale") for time in times]
            return RecordSightings(**base(observer="o", sightings=seen, **fields))
        case _:
            return ReadMeter(**base(meter_id="m", times=times, amount=amount, **fields))


CREATE = {
    "series": "create table public.series_points (time timestamptz not null, series text not null, "
    "value double precision, command_id uuid not null)",
    "watching": "create table public.sightings (time timestamptz not null, observer text not null, "
    "what text not null, size double precision, command_id uuid not null)",
    "meters": "create table public.meter_readings (time timestamptz not null, meter_id text not null, "
    "command_id uuid not null); create table public.meters (meter_id text primary key, total bigint not null, "
    "version bigint not null, created_at timestamptz not null, updated_at timestamptz not null)",
}
"""The statements that make the tables of each context."""
