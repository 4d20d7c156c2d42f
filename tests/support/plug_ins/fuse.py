"""A plug-in whose rule takes its process down with it, as a fault in a library of C would: installed from a folder."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from fastavro import parse_schema, schemaless_writer

from tests.support.clients.clients import Outgoing
from tests.support.engine.codecs import NOON
from tidemill.catalog.schemas import Schema
from tidemill.transport.avro.wire import prefix_of_fingerprint

AGGREGATE = "fuse"
TABLE = "create table public.fuses (fuse text not null, spark text not null, command_id uuid)"
DEADLY = "boom"

_MODULE = '''
"""Fuses that are lit; the wrong spark ends the process."""

import os
import signal
from pathlib import Path

from sqlalchemy import Column, MetaData, Table, Text, Uuid

from tidemill.api import CommandBase, Context, EventBase, Label, append


class LightFuse(CommandBase):
    """Light a fuse with a spark."""

    fuse: Label
    spark: Label


class FuseLit(EventBase):
    """A fuse was lit."""

    fuse: str
    spark: str


def check(command, at):
    if command.spark == "boom":
        os.kill(os.getpid(), signal.SIGKILL)
    return None


fuses = Table(
    "fuses",
    MetaData(schema="public"),
    Column("fuse", Text, nullable=False),
    Column("spark", Text, nullable=False),
    Column("command_id", Uuid),
)

context = Context(
    aggregate="fuse",
    key=lambda command: command.fuse,
    commands=(append(LightFuse, into=fuses, event=FuseLit, check=check),),
    schemas=Path(__file__).parent / "fuse_schemas",
)
'''


def _schema(name: str, doc: str) -> dict[str, Any]:
    texts = ("command_id", "service_name")
    fields: list[dict[str, Any]] = [{"name": text, "type": "string", "doc": "Base field."} for text in texts]
    moment = {"type": "long", "logicalType": "timestamp-micros"}
    fields += [
        {"name": "timestamp", "type": moment, "doc": "Base field."},
        {"name": "correlation_id", "type": ["null", "string"], "default": None, "doc": "Base field."},
        {"name": "fuse", "type": "string", "doc": "Which."},
        {"name": "spark", "type": "string", "doc": "With what."},
    ]
    return {"type": "record", "name": name, "namespace": "tidemill.fuse", "doc": doc, "fields": fields}


_COMMAND = _schema("LightFuse", "Light a fuse with a spark.")


def install(folder: Path) -> None:
    """Put the plug-in into a folder of Python's path: a module, its schemas, and the entry point that names it."""
    (folder / "fuse_context.py").write_text(_MODULE, encoding="utf-8")
    for kind, schema in (("commands", _COMMAND), ("events", _schema("FuseLit", "A fuse was lit."))):
        place = folder / "fuse_schemas" / AGGREGATE / kind
        place.mkdir(parents=True)
        (place / f"{schema['name']}.avsc").write_text(json.dumps(schema, indent=2), encoding="utf-8")
    info = folder / "fuse_context-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fuse-context\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[tidemill.contexts]\nfuse = fuse_context:context\n", encoding="utf-8"
    )


def light(fuse: str, spark: str, command_id: str) -> Outgoing:
    """Return the record of a command `LightFuse`."""
    fields = {"command_id": command_id, "service_name": "journeys", "timestamp": NOON, "correlation_id": None}
    buffer = BytesIO()
    buffer.write(prefix_of_fingerprint(Schema.of(json.dumps(_COMMAND)).fingerprint))
    schemaless_writer(buffer, parse_schema(_COMMAND), fields | {"fuse": fuse, "spark": spark})
    return Outgoing(fuse.encode(), buffer.getvalue())
