"""The columns of the tables that get a row for each command, with their types in the database."""

from __future__ import annotations

from typing import Final

from tidemill.storage.commands.binary_copy import Copied

LOG_COLUMNS: Final = (
    Copied("lane", "int2", varies=True),
    Copied("gen", "int4", varies=True),
    Copied("position", "int8", varies=True),
    Copied("command_id", "uuid", varies=True),
    Copied("digest", "int8", varies=True),
    Copied("outcome", "char"),
    Copied("events", "int2"),
    Copied("sequence", "int8", varies=True),
    Copied("at", "timestamptz"),
    Copied("type", "text"),
    Copied("service", "text"),
    Copied("code", "text"),
    Copied("detail", "text"),
    Copied("repeats", "uuid"),
    Copied("rows", "int4"),
)
"""Of `tm.log`: the fields of `LogRow`. Numbers that repeat are called varying where their neighbours vary."""

OUTBOX_COLUMNS: Final = (
    Copied("lane", "int2", varies=True),
    Copied("gen", "int4", varies=True),
    Copied("position", "int8", varies=True),
    Copied("item", "int2", varies=True),
    Copied("outcome", "char"),
    Copied("original", "char"),
    Copied("code", "text"),
    Copied("detail", "text"),
    Copied("command_id", "uuid", varies=True),
    Copied("service", "text"),
    Copied("correlation", "text", varies=True),
    Copied("sequence", "int8", varies=True),
    Copied("at", "timestamptz"),
    Copied("seconds", "float4"),
    Copied("record_offset", "int8", varies=True),
    Copied("key", "bytea", varies=True),
    Copied("event_type", "text"),
    Copied("payload", "bytea", varies=True),
    Copied("chain", "int8", varies=True),
    Copied("trace", "text", varies=True),
    Copied("client_id", "text", varies=True),
    Copied("rows", "int4"),
)
"""Of `tm.outbox`: the fields of `OutboxRow`."""
