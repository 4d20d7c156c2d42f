"""The declaration of a bounded context: its commands, the two ways to decide them, its state and its read models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from tidemill.domain.archive.policy import Retention
from tidemill.domain.decision import Decision, Rejected
from tidemill.domain.errors import ContractError
from tidemill.domain.lane import DEFAULT_PARTITIONS
from tidemill.domain.messages import CommandBase, EventBase, Message
from tidemill.domain.projection import Projection, Recorded
from tidemill.domain.table_shape import TableShape

C = TypeVar("C", bound=CommandBase)

_AGGREGATE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class CommandSpec:
    """A command that a stream accepts. `model` is its class; the subclasses say how it is decided.

    A context's commands are of `CommandBase`; a stream of another part may take messages that have its properties.
    """

    model: type[Message]


@dataclass(frozen=True)
class AppendSpec(CommandSpec):
    """A fact for a table: one row and one event per command; columns by name.

    The event's fields are the command's fields. A table column `command_id` (uuid), if there is one, gets the
    command's identity. `check(command, now)` may refuse a command by the time.
    """

    table: TableShape
    event: type[EventBase]
    check: Callable[[Any, datetime], Rejected | None] | None = None


@dataclass(frozen=True)
class DecideSpec(CommandSpec):
    """A command for an aggregate: `rule(state | None, command) -> Decision`, pure."""

    rule: Callable[[Any, Any], Decision]


def append(
    model: type[C],
    *,
    into: TableShape,  # a SQLAlchemy Core table, which the domain must not import
    event: type[EventBase],
    check: Callable[[C, datetime], Rejected | None] | None = None,
) -> AppendSpec:
    """Declare that `model` appends one row to the table `into` and publishes one `event`."""
    return AppendSpec(model=model, table=into, event=event, check=check)


def decide(model: type[C], rule: Callable[[Any, C], Decision]) -> DecideSpec:
    """Declare that `model` is decided by `rule(state, command)`."""
    return DecideSpec(model=model, rule=rule)


@dataclass(frozen=True)
class Unique:
    """A value that at most one aggregate may hold.

    `of(state)` gives the value as a tuple in the order of `columns`, or None while the aggregate holds none.
    `where`: a SQLAlchemy condition that is true of rows that hold their value. `constraint` is the database's guard
    across lanes. A command that would take a held value is rejected with `code`.
    """

    columns: tuple[str, ...]
    of: Callable[[Any], tuple[Any, ...] | None]
    code: str
    constraint: str
    where: object = None


@dataclass(frozen=True)
class State:
    """The aggregate behind `decide` commands: one row per key.

    `model`: a frozen dataclass whose fields are the table's columns. `key`: the name of the key column (text).
    `evolve(state | None, event) -> state` is pure. The engine fills the fields `version` (counts events from 1),
    `created_at` and `updated_at` (time of the first and of the last event) after every `evolve`.
    """

    model: type[Any]
    table: TableShape
    key: str
    evolve: Callable[[Any, Any], Any]
    events: tuple[type[EventBase], ...]
    unique: tuple[Unique, ...] = ()

    def after(self, before: Any, event: EventBase, at: datetime) -> Any:
        """Return the state after an event of the time `at`, with what the engine fills."""
        version = 0 if before is None else before.version
        created_at = at if before is None else before.created_at
        return replace(self.evolve(before, event), version=version + 1, created_at=created_at, updated_at=at)

    def as_projection(self, name: str) -> Projection:
        """Return the state as a read model of its own events, which its rows must equal."""

        def fold(row: Any, recorded: Recorded[EventBase]) -> Any:
            return self.after(row, recorded.event, recorded.at)

        folds = dict.fromkeys(self.events, fold)
        return Projection(name, row=self.model, table=self.table, key=None, folds=folds, stamped=False)


@dataclass(frozen=True)
class Context:
    """A bounded context at a glance. `aggregate` names its topics (`market-data`).

    `key(command)` is the key its records must carry. `keyed=False` (append only) accepts any key and partition.
    `schemas` and `migrations` are folders of a plug-in; those of a built-in context are in the top-level folders of
    that name.
    `codes`: the context's own rejection codes, each with what the client should do. `retention`: which of its appended
    rows leave for the archive, and when.
    """

    aggregate: str
    key: Callable[[Any], str]
    commands: tuple[CommandSpec, ...]
    state: State | None = None
    projections: tuple[Projection, ...] = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = True
    partitions: int = DEFAULT_PARTITIONS
    namespace: str = ""
    schemas: Path | None = None
    migrations: Path | None = None
    retention: Retention | None = None

    def __post_init__(self) -> None:
        """Refuse what would only fail later, on the first record."""
        if not _AGGREGATE.fullmatch(self.aggregate):
            raise ContractError(
                f"aggregate {self.aggregate!r}: it must be lower-case words joined by hyphens"
            )
        decided = any(isinstance(spec, DecideSpec) for spec in self.commands)
        if decided and self.state is None:
            raise ContractError(f"context {self.aggregate} has decide commands but no state")
        if decided and not self.keyed:
            raise ContractError(f"context {self.aggregate}: only append contexts may accept any key")
        if self.retention is not None and self.retention.table not in self._appended_tables:
            raise ContractError(
                f"context {self.aggregate}: retention of {self.retention.table_name}, but no command appends to it"
            )

    @property
    def _appended_tables(self) -> list[TableShape]:
        return [spec.table for spec in self.commands if isinstance(spec, AppendSpec)]

    @property
    def name(self) -> str:
        """Return the name as an identifier: folder, migration branch and schema folder (`market_data`)."""
        return self.aggregate.replace("-", "_")

    @property
    def avro_namespace(self) -> str:
        """Return the namespace of the context's schemas (`tidemill.market_data`)."""
        return self.namespace or f"tidemill.{self.name}"

    @property
    def events(self) -> tuple[type[EventBase], ...]:
        """Return every event class that the context publishes."""
        appended = tuple(spec.event for spec in self.commands if isinstance(spec, AppendSpec))
        return tuple(dict.fromkeys(appended + (self.state.events if self.state else ())))

    def full_name(self, message: type[Message]) -> str:
        """Return a message's Avro full name (`tidemill.market_data.RecordMarketData`)."""
        return f"{self.avro_namespace}.{message.__name__}"
