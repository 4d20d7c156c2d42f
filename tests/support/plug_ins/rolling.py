"""A plug-in in two versions, each in a folder as `pip install --target` leaves it, and the commands of its clients.

`meters` takes readings (`append`) and what is known of a meter (`decide`). Its second version has a field more in
either command, `note` and `site`, and a column for each.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastavro import parse_schema, schemaless_writer

from tests.support.clients.clients import Outgoing
from tests.support.engine.codecs import NOON
from tests.support.plug_ins.installed import write_plugin
from tidemill.catalog.lint import BASE
from tidemill.catalog.registration import subject_of
from tidemill.catalog.schemas import Schema
from tidemill.transport.avro.wire import prefix_of_fingerprint, prefix_of_id
from tidemill.transport.registry import ConfluentRegistry

AGGREGATE = "meters"
NAMESPACE = "tidemill.meters"

_SOURCE = '''\
"""Meters: their readings, and what is known of each."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, Field

from tidemill.api import CommandBase, Context, EventBase, Label, State
from tidemill.api import accepted, append, decide, fact_table, row_table

NEVER = datetime.min.replace(tzinfo=UTC)


class Reading(BaseModel):
    meter: Label = Field(description="The meter.")
    value: float = Field(description="What it read.")
{note}

class RecordReading(Reading, CommandBase):
    """Record a reading."""


class ReadingRecorded(Reading, EventBase):
    """A reading was recorded."""


class About(BaseModel):
    meter: Label = Field(description="The meter.")
    label: Label = Field(description="What people call it.")
{site}

class DescribeMeter(About, CommandBase):
    """Say what is known of a meter."""


class MeterDescribed(About, EventBase):
    """What is known of a meter was said."""


@dataclass(frozen=True, kw_only=True)
class Meter:
    meter: str
    label: str
{column}
    version: int = 0
    created_at: datetime = NEVER
    updated_at: datetime = NEVER


def evolve(meter, event):
    known = meter or Meter(meter=event.meter, label=event.label)
    return replace(known, label=event.label{evolved})


context = Context(
    aggregate="meters",
    key=lambda command: command.meter,
    commands=(
        append(RecordReading, into=fact_table("meter_reading", RecordReading), event=ReadingRecorded),
        decide(DescribeMeter, lambda meter, command: accepted(MeterDescribed.of(command))),
    ),
    state=State(
        model=Meter, table=row_table("meter", Meter, key="meter"), key="meter", evolve=evolve, events=(MeterDescribed,)
    ),
    schemas=Path(__file__).with_name("schemas"),
    migrations=Path(__file__).with_name("migrations"),
)
'''
_ADDED = {
    "note": '    note: Label | None = Field(default=None, description="A note.")\n',
    "site": '    site: Label | None = Field(default=None, description="Where it stands.")\n',
    "column": "    site: str | None = None",
    "evolved": ", site=event.site or known.site",
}

_MIGRATION = '''\
"""{about}"""

from tidemill.migration import run_script

revision, down_revision = "meters_{number:04d}", {before!r}
branch_labels = {labels!r}
depends_on = {depends!r}


def upgrade() -> None:
    run_script("""{script}""")


def downgrade() -> None:
    pass
'''
_TABLES = """
create table public.meter_reading (meter text not null, value double precision not null, command_id uuid not null);
create table public.meter (meter text primary key, label text not null, version bigint not null,
  created_at timestamptz not null, updated_at timestamptz not null);
grant select, insert on public.meter_reading to tidemill_service;
grant select, insert, update, delete on public.meter to tidemill_service;
"""
_COLUMNS = """
alter table public.meter_reading add column note text;
alter table public.meter add column site text;
"""
_STRING, _OPTIONAL = "string", ["null", "string"]
_FIELDS: Mapping[str, Sequence[tuple[str, Any]]] = {
    "RecordReading": [("meter", _STRING), ("value", "double")],
    "ReadingRecorded": [("meter", _STRING), ("value", "double")],
    "DescribeMeter": [("meter", _STRING), ("label", _STRING)],
    "MeterDescribed": [("meter", _STRING), ("label", _STRING)],
}
_MORE = {
    "RecordReading": "note",
    "ReadingRecorded": "note",
    "DescribeMeter": "site",
    "MeterDescribed": "site",
}
_ROLES = {"RecordReading": "commands", "DescribeMeter": "commands"}


def schema_text(message: str, version: int) -> str:
    """The schema of a message in a version of the plug-in."""
    described = {
        "timestamp": {"type": "long", "logicalType": "timestamp-micros"},
        "correlation_id": _OPTIONAL,
    }
    fields: list[dict[str, Any]] = [
        {"name": each.name, "type": described.get(each.name, _STRING), "doc": "."} for each in BASE
    ]
    fields[-1]["default"] = None
    fields += [{"name": name, "type": kind, "doc": "."} for name, kind in _FIELDS[message]]
    if version > 1:
        fields.append({"name": _MORE[message], "type": _OPTIONAL, "default": None, "doc": "."})
    return json.dumps(
        {"type": "record", "name": message, "namespace": NAMESPACE, "doc": ".", "fields": fields}
    )


def write_version(folder: Path, version: int) -> Path:
    """Write a version of the plug-in into a folder of its own; return the folder."""
    added = _ADDED if version > 1 else dict.fromkeys(_ADDED, "")
    files = {}
    for message in _FIELDS:
        role = _ROLES.get(message, "events")
        files[f"schemas/meters/{role}/{message}.avsc"] = schema_text(message, version)
        if version > 1:
            files[f"schemas/released/meters/{message}/v1.avsc"] = schema_text(message, 1)
    for number, script in enumerate((_TABLES, _COLUMNS)[:version], start=1):
        files[f"migrations/{number:04d}_meters.py"] = _MIGRATION.format(
            about=f"Step {number}",
            number=number,
            before=f"meters_{number - 1:04d}" if number > 1 else None,
            labels=(AGGREGATE,) if number == 1 else None,
            depends="core_0001" if number == 1 else None,
            script=script,
        )
    write_plugin(folder, AGGREGATE, _SOURCE.format(**added), files)
    return folder


@dataclass(frozen=True)
class Sent:
    """A command: its record, and what must have become of it."""

    command_id: str
    message: str
    version: int
    fields: Mapping[str, Any]
    record: Outgoing


@dataclass
class Clients:
    """Services of both versions that send commands, framed as the deployment has it. `registry`: its URL, or none."""

    topic: str
    registry: str | None
    sent: list[Sent] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _prefixes: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def reading(self, meter: str, version: int = 1, **more: Any) -> Sent:
        return self._command(
            "RecordReading", version, {"meter": meter, "value": float(next(self._numbers))} | more
        )

    def description(self, meter: str, version: int = 1, **more: Any) -> Sent:
        return self._command(
            "DescribeMeter", version, {"meter": meter, "label": f"l{next(self._numbers)}"} | more
        )

    def _command(self, message: str, version: int, fields: dict[str, Any]) -> Sent:
        command_id = str(uuid4())
        base = {
            "command_id": command_id,
            "service_name": "clients",
            "timestamp": NOON,
            "correlation_id": None,
        }
        buffer = BytesIO()
        text = schema_text(message, version)
        schemaless_writer(buffer, parse_schema(json.loads(text)), base | fields)
        value = self._prefix(message, version) + buffer.getvalue()
        made = Sent(command_id, message, version, fields, Outgoing(fields["meter"].encode(), value))
        self.sent.append(made)
        return made

    def _prefix(self, message: str, version: int) -> bytes:
        key = message, version
        if key not in self._prefixes:
            text = schema_text(message, version)
            if self.registry is None:
                self._prefixes[key] = prefix_of_fingerprint(Schema.of(text).fingerprint)
            else:
                subject = subject_of(self.topic, f"{NAMESPACE}.{message}")
                self._prefixes[key] = prefix_of_id(asyncio.run(_id_of(self.registry, subject, text)))
        return self._prefixes[key]


async def _id_of(url: str, subject: str, text: str) -> int:
    registry = ConfluentRegistry(url)
    try:
        found = await registry.id_of(subject, text)
    finally:
        with suppress(Exception):
            await registry.close()
    assert found is not None, f"{subject} is not registered"
    return found
