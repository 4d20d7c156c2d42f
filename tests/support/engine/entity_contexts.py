"""Contexts declared as entities, which no deployment has: accounts, jobs, folders with files, items with indexes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from tests.support.engine.commands import base
from tidemill.api import CommandBase, Context, Json, Label, Message
from tidemill.api.entities.declaration import Entity, entity, family
from tidemill.api.entities.options import Life, refers, step, unique
from tidemill.api.indexes import gin, member
from tidemill.catalog.references import with_references
from tidemill.domain.state import State
from tidemill.domain.stream import Stream
from tidemill.storage.database.table_sql import condition

PARTITIONS = 4


class Account(Message):
    """A person or service that may sign in."""

    username: Label = Field(description="What the account signs in with.")
    full_name: Label | None = Field(default=None, description="How its owner is addressed.")


class Job(Message):
    """Work that an account asked for."""

    account_id: Label = Field(description="Whose work it is.")
    name: Label = Field(description="What it is called.")
    status: str = Field(default="", description="How far it is.")
    result: Label | None = Field(default=None, description="What came out.")
    started_at: datetime | None = Field(default=None, description="When it was started.")


class Folder(Message):
    """A folder of files."""

    title: Label = Field(description="What stands on it.")


class FolderFile(Message):
    """A file in a folder."""

    filename: Label = Field(description="Its name in the folder.")


class Item(Message):
    """A thing with everything that a table may have."""

    name: Label = Field(description="What it is called, in any case.")
    pin: Label = Field(description="What opens it, and no reader sees.")
    data: Json = Field(description="What else is known.")
    order: int | None = Field(default=None, description="Its place; a word that SQL quotes.")


class Note(Message):
    """A note that is gone when it is deleted."""

    title: Label = Field(description="Its title.")
    text: Label | None = Field(default=None, description="What it says.")
    data: Json = Field(default="{}", description="What else is known of it.")
    rank: int = Field(default=1, description="Its place.")


class Ticket(Message):
    """A ticket that may end."""

    name: Label = Field(description="What it is for.")
    ends_at: datetime | None = Field(default=None, description="From when on it is void; null: never.")


accounts = entity(Account, unique=(unique("username", ignore_case=True),))
jobs = entity(
    Job,
    refers=(refers("account_id", to="accounts", code="NO_ACCOUNT", restrict=True),),
    index=(("account_id", "status"),),
    life=Life(
        "queued",
        (
            step("Start", "Started", before=("queued",), to="running", at="started_at"),
            step("Finish", "Finished", before=("running",), to="finished", sets=("result",)),
        ),
    ),
)
folders = entity(Folder)
files = entity(FolderFile, within=folders, unique=(unique("folder_id", "filename", code="FILENAME_TAKEN"),))

items = entity(
    Item,
    unique=(unique("name", ignore_case=True), unique("service_name", "pin")),
    index=(gin("data"), member("data", "type"), ("order", "name")),
    hidden=("pin",),
)

notes = entity(Note, unique=(unique("title"),), delete="hard")
tickets = entity(Ticket, delete="hard", expires="ends_at")

ACCOUNTS = accounts.context(partitions=PARTITIONS)
JOBS = jobs.context(partitions=PARTITIONS)
NOTES = notes.context(partitions=PARTITIONS)
FOLDERS = family("folders", folders, files, partitions=PARTITIONS)
ITEMS = items.context(partitions=PARTITIONS)
TICKETS = tickets.context(partitions=PARTITIONS)


def linked(*contexts: Context) -> tuple[Stream, ...]:
    """Return the streams of the contexts, which know each other's states as those of a deployment do."""
    streams = {context.aggregate: Stream.of(context) for context in contexts}
    return tuple(with_references(streams).values())


def tables(*states: State) -> list[str]:
    """Return the statements that make the tables of states as a migration does."""
    dialect: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
    made = []
    for state in states:
        table: Any = state.table
        made.append(str(CreateTable(table).compile(dialect=dialect)))
        made += [str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes]
        made += [
            f"create unique index {each.constraint} on public.{state.name} ({', '.join(each.columns)}) "
            f"where {condition(each.where)}"
            for each in state.unique
        ]
        made.append(f"grant select, insert, update, delete on public.{state.name} to tidemill_service")
    return made


@dataclass(frozen=True)
class Commands:
    """Commands of one entity: `Commands(users)("Create", "u1", username="ann")`."""

    entity: Entity

    def __call__(self, verb: str, key: str, **values: Any) -> CommandBase:
        model = next(
            spec.model
            for spec in self.entity.commands
            if spec.model.__name__ == f"{verb}{self.entity.naming.name}"
        )
        made = model.model_validate(base(**{self.entity.naming.key: key}, **values))
        assert isinstance(made, CommandBase)
        return made
