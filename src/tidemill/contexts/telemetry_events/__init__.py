"""Telemetry events: what programs measure, many to a command, appended to a hypertable as they arrive."""

from datetime import UTC, datetime, timedelta

from pydantic import Field

from tidemill.api import (
    CommandBase,
    Context,
    Crud,
    Json,
    Label,
    Message,
    Query,
    Retention,
    Rollup,
    append,
    checks,
    fact_event,
    fact_table,
)


class TelemetryEvent(Message):
    """One value that a program measured, or one thing that it noticed."""

    checks = (checks.Within("time", since=datetime(2000, 1, 1, tzinfo=UTC), ahead=timedelta(minutes=5)),)

    time: datetime = Field(description="When it was measured.")
    name: Label = Field(
        description="What was measured, such as http.server.duration; its unit is part of the name."
    )
    value: float | None = Field(
        default=None, description="The measured number, finite; null where there is none."
    )
    attributes: Json = Field(
        default="{}", description="What distinguishes it from others of its name: a JSON object."
    )


class RecordTelemetryEvents(CommandBase):
    """Record what one source measured. Two equal events are two events."""

    source: Label = Field(description="The program or device that measured; its events keep their order.")
    events: list[TelemetryEvent] = Field(
        min_length=1, max_length=10_000, description="The events, at least one, at most 10,000."
    )


TelemetryEventsRecorded = fact_event(
    "TelemetryEventsRecorded", RecordTelemetryEvents, "What one source measured was recorded."
)

telemetry_events = fact_table(
    "telemetry_events", RecordTelemetryEvents, first="time", index=(("source", "name", "time desc"),)
)

telemetry_by_hour = Query(
    "telemetry-by-hour",
    "select date_bin(interval '1 hour', time, timestamptz '2000-01-01 00:00+00') as bucket, count(*) as events, "
    "count(value) as numbers, sum(value) as total, min(value) as lowest, max(value) as highest from telemetry_events "
    "where source = :source and name = :name and time >= :since and time < :until group by bucket order by bucket",
    parameters={"source": str, "name": str, "since": datetime, "until": datetime},
    returns={
        "bucket": datetime,
        "events": int,
        "numbers": int,
        "total": float,
        "lowest": float,
        "highest": float,
    },
    reads=("telemetry-events",),
)

hourly = Rollup(
    view="telemetry_events_hourly",
    table=telemetry_events,
    by=("source", "name"),
    values={
        "events": "count(*)",
        "numbers": "count(value)",
        "total": "sum(value)",
        "lowest": "min(value)",
        "highest": "max(value)",
    },
    instead="the query telemetry-by-hour computes the same from the rows that have not left for the archive",
)

context = Context(
    aggregate="telemetry-events",
    key=lambda command: command.source,
    commands=(
        append(RecordTelemetryEvents, into=telemetry_events, event=TelemetryEventsRecorded, rows="events"),
    ),
    partitions=16,
    http=Crud(create=RecordTelemetryEvents),
    retention=Retention(table=telemetry_events, after=timedelta(days=90)),
    queries=(telemetry_by_hour,),
    community=(hourly,),
)
