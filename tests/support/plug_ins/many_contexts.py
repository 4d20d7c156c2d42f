"""A plug-in of many small contexts, made by a loop: what a process holds must not grow with them."""

from __future__ import annotations

import json
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from fastavro import parse_schema, schemaless_writer

from tests.support.clients.clients import Outgoing
from tests.support.engine.codecs import NOON
from tests.support.plug_ins.installed import install_module
from tidemill.catalog.schemas import Schema
from tidemill.transport.avro.wire import prefix_of_fingerprint

_MODULE = '''
"""Notes, kept in as many contexts as there are names."""

from pathlib import Path

from sqlalchemy import Column, MetaData, Table, Text, Uuid

from tidemill.api import CommandBase, Context, EventBase, Label, append


class KeepNote(CommandBase):
    """Keep a note."""

    note: Label


class NoteKept(EventBase):
    """A note was kept."""

    note: str


def of(aggregate):
    columns = Column("note", Text, nullable=False), Column("command_id", Uuid)
    table = Table(aggregate.replace("-", "_"), MetaData(schema="public"), *columns)
    return Context(
        aggregate=aggregate,
        key=lambda command: command.note,
        commands=(append(KeepNote, into=table, event=NoteKept),),
        schemas=Path(__file__).with_name("note_schemas"),
    )
'''


def aggregates(count: int) -> list[str]:
    """Return what the contexts of a plug-in of so many are called."""
    return [f"notes-{number:02}" for number in range(count)]


def table_of(aggregate: str) -> str:
    """Return the statement that makes a context's table."""
    return f"create table public.{aggregate.replace('-', '_')} (note text not null, command_id uuid)"


def install(folder: Path, count: int) -> list[str]:
    """Put the plug-in into a folder of Python's path; return the aggregates of its contexts."""
    names = {aggregate.replace("-", "_"): aggregate for aggregate in aggregates(count)}
    made = "".join(f"{name} = of({aggregate!r})\n" for name, aggregate in names.items())
    install_module(folder, "many_contexts", _MODULE + "\n\n" + made, {name: name for name in names})
    for name, aggregate in names.items():
        for kind in ("commands", "events"):
            place = folder / "note_schemas" / name / kind
            place.mkdir(parents=True)
            schema = _schema(aggregate, kind)
            (place / f"{schema['name']}.avsc").write_text(json.dumps(schema, indent=2), encoding="utf-8")
    return aggregates(count)


def keep(aggregate: str, note: str, command_id: str) -> Outgoing:
    """Return the record of a command `KeepNote`."""
    prefix, schema = _written(aggregate)
    fields = {"command_id": command_id, "service_name": "tests", "timestamp": NOON, "correlation_id": None}
    buffer = BytesIO()
    buffer.write(prefix)
    schemaless_writer(buffer, schema, fields | {"note": note})
    return Outgoing(note.encode(), buffer.getvalue())


@cache
def _written(aggregate: str) -> tuple[bytes, Any]:
    schema = _schema(aggregate, "commands")
    return prefix_of_fingerprint(Schema.of(json.dumps(schema)).fingerprint), parse_schema(schema)


def _schema(aggregate: str, kind: str) -> dict[str, Any]:
    name, doc = {"commands": ("KeepNote", "Keep a note."), "events": ("NoteKept", "A note was kept.")}[kind]
    texts = ("command_id", "service_name")
    fields: list[dict[str, Any]] = [{"name": text, "type": "string", "doc": "Base field."} for text in texts]
    fields += [
        {
            "name": "timestamp",
            "type": {"type": "long", "logicalType": "timestamp-micros"},
            "doc": "Base field.",
        },
        {"name": "correlation_id", "type": ["null", "string"], "default": None, "doc": "Base field."},
        {"name": "note", "type": "string", "doc": "What it says."},
    ]
    namespace = f"tidemill.{aggregate.replace('-', '_')}"
    return {"type": "record", "name": name, "namespace": namespace, "doc": doc, "fields": fields}
