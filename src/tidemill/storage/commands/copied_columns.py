"""The columns of the tables that get a row for each command, with their types in the database."""

from __future__ import annotations

from typing import Final

from tidemill.storage.commands.binary_copy import CopyColumn

LOG_COLUMNS: Final = (
    CopyColumn("lane", "int2", varies=True),
    CopyColumn("gen", "int4", varies=True),
    CopyColumn("position", "int8", varies=True),
    CopyColumn("command_id", "uuid", varies=True),
    CopyColumn("digest", "int8", varies=True),
    CopyColumn("outcome", "char"),
    CopyColumn("events", "int2"),
    CopyColumn("sequence", "int8", varies=True),
    CopyColumn("at", "timestamptz"),
    CopyColumn("type", "text"),
    CopyColumn("service", "text"),
    CopyColumn("code", "text"),
    CopyColumn("detail", "text"),
    CopyColumn("repeats", "uuid"),
    CopyColumn("rows", "int4"),
)
"""Of `tm.log`: the fields of `LogRow`. Numbers that repeat are called varying where their neighbours vary."""

OUTBOX_COLUMNS: Final = (
    CopyColumn("lane", "int2", varies=True),
    CopyColumn("gen", "int4", varies=True),
    CopyColumn("position", "int8", varies=True),
    CopyColumn("item", "int2", varies=True),
    CopyColumn("outcome", "char"),
    CopyColumn("original", "char"),
    CopyColumn("code", "text"),
    CopyColumn("detail", "text"),
    CopyColumn("command_id", "uuid", varies=True),
    CopyColumn("service", "text"),
    CopyColumn("correlation", "text", varies=True),
    CopyColumn("sequence", "int8", varies=True),
    CopyColumn("at", "timestamptz"),
    CopyColumn("seconds", "float4"),
    CopyColumn("record_offset", "int8", varies=True),
    CopyColumn("key", "bytea", varies=True),
    CopyColumn("event_type", "text"),
    CopyColumn("payload", "bytea", varies=True),
    CopyColumn("chain", "int8", varies=True),
    CopyColumn("trace", "text", varies=True),
    CopyColumn("client_id", "text", varies=True),
    CopyColumn("rows", "int4"),
)
"""Of `tm.outbox`: the fields of `OutboxRow`."""
