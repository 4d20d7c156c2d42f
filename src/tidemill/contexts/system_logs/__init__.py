"""System logs: the lines that services write, many to a command, appended to a hypertable and found by their words."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from tidemill.api import (
    CommandBase,
    Context,
    Crud,
    Json,
    Label,
    Message,
    Query,
    Retention,
    append,
    checks,
    fact_event,
    fact_table,
    words,
)

Text = Annotated[str, StringConstraints(min_length=1, max_length=16_384, pattern=r"^[^\x00]+$")]
"""What a line says. It may have several lines, as a traceback has; PostgreSQL cannot store NUL."""


Level = Annotated[str, StringConstraints(pattern="^(debug|info|warning|error|critical)$")]
"""How severe a line is."""


class LogLine(Message):
    """One line that a service wrote."""

    checks = (checks.Within("time", since=datetime(2000, 1, 1, tzinfo=UTC), ahead=timedelta(minutes=5)),)

    time: datetime = Field(description="When it was written.")
    level: Level = Field(description="How severe it is: debug, info, warning, error or critical.")
    message: Text = Field(description="What it says.")
    details: Json = Field(default="{}", description="Its other fields: a JSON object.")


class RecordSystemLogs(CommandBase):
    """Record lines that one service wrote. Two equal lines are two lines."""

    service: Label = Field(description="The service that wrote them; its lines keep their order.")
    lines: list[LogLine] = Field(
        min_length=1, max_length=10_000, description="The lines, at least one, at most 10,000."
    )


SystemLogsRecorded = fact_event(
    "SystemLogsRecorded", RecordSystemLogs, "Lines that one service wrote were recorded."
)

system_logs = fact_table(
    "system_logs",
    RecordSystemLogs,
    first="time",
    index=(("service", "level", "time desc"), words("message", name="system_logs_message")),
)

log_lines = Query(
    "log-lines",
    "select time, message, details from system_logs where service = :service and level = :level "
    "and time >= :since and time < :until order by time desc",
    parameters={"service": str, "level": str, "since": datetime, "until": datetime},
    returns={"time": datetime, "message": str, "details": dict},
    reads=("system-logs",),
)

context = Context(
    aggregate="system-logs",
    key=lambda command: command.service,
    commands=(append(RecordSystemLogs, into=system_logs, event=SystemLogsRecorded, rows="lines"),),
    partitions=16,
    http=Crud(create=RecordSystemLogs),
    retention=Retention(table=system_logs, after=timedelta(days=90)),
    queries=(log_lines,),
)
