"""The declaration of a bounded context: its commands, the two ways to decide them, its state and its read models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from tidemill.domain.archive.policy import Retention
from tidemill.domain.checks import OfRecords, TimedCheck
from tidemill.domain.collection import Crud
from tidemill.domain.community import CommunityFeature, check_features
from tidemill.domain.decision import Decision, Rejected
from tidemill.domain.errors import ContractError
from tidemill.domain.identity import fact_id
from tidemill.domain.lane import BATCH_BYTES, DEFAULT_PARTITIONS
from tidemill.domain.messages import BASE_FIELDS, CommandBase, EventBase, Message
from tidemill.domain.projection import Projection
from tidemill.domain.query import Query
from tidemill.domain.read_view import CurrentFacts, check_current
from tidemill.domain.records import record_fields
from tidemill.domain.rejections import RejectionCode
from tidemill.domain.secrets import Secret, secret_fields, secrets_of
from tidemill.domain.state import Reference, State, Unique

__all__ = [
    "AppendSpec",
    "CommandSpec",
    "Context",
    "DecideSpec",
    "Reference",
    "State",
    "Unique",
    "append",
    "decide",
]
from tidemill.domain.table_shape import TableShape

C = TypeVar("C", bound=CommandBase)

Rows = Sequence[tuple[Any, ...]]
"""Rows of a table, each with its values in the order of the columns."""

MANY_ROWS_BATCH_BYTES: Final = 1 << 20
"""The most bytes of records of a transaction where one command may append many rows: each is a tuple in memory."""

_AGGREGATE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class CommandSpec:
    """A command that a stream accepts. `model` is its class; the subclasses say how it is decided.

    A context's commands are of `CommandBase`; a stream of another part may take messages that have its properties.
    """

    model: type[Message]

    @cached_property
    def timed_checks(self) -> tuple[TimedCheck, ...]:
        """Return the declared checks that need the time, those of the records in a command among them."""
        of_records = (
            OfRecords(field, check)
            for field, record in record_fields(self.model).items()
            for check in _timed(record)
        )
        return (*_timed(self.model), *of_records)

    @property
    def appends_to(self) -> TableShape | None:
        """Return the table to which the command appends rows, if there is one."""
        return None

    @property
    def has_own_id(self) -> bool:
        """Return whether the command's fields say its id, where its sender gives none."""
        return False

    def own_id(self, name: str, command: Any) -> str | None:
        """Return the id that a command of the full name `name` has by its fields; None: they do not say it."""
        del name, command
        return None

    @property
    def counts_rows(self) -> bool:
        """Return whether the command may append another number of rows than one."""
        return False

    def refusal(self, command: Any, at: datetime) -> Rejected | None:
        """Return why a command is refused by what only the clock knows, None if it is not."""
        faults = [fault for check in self.timed_checks if (fault := check.fault_at(command, at))]
        return Rejected(RejectionCode.INVALID, "; ".join(faults)) if faults else None


@dataclass(frozen=True)
class AppendSpec(CommandSpec):
    """A fact for a table: one row and one event per command; columns by name.

    The event's fields are the command's fields. A table column `command_id` (uuid), if there is one, gets the
    command's identity. `check(command, now)` may refuse a command by the time.
    `rows`: makes many rows of a command, or none, each with its values in the order of `columns` (by default all but
    `command_id`); or the name of the field that holds a record for each row.
    `command_id_from`: the texts that say which fact it is, from which its id is made where its sender gives none.
    """

    table: TableShape
    event: type[EventBase]
    check: Callable[[Any, datetime], Rejected | None] | None = None
    rows: Callable[[Any], Rows] | str | None = None
    columns: tuple[str, ...] = ()
    command_id_from: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would only fail later, on the first record."""
        where = f"append {self.model.__name__}"
        if isinstance(self.rows, str) and self.rows not in record_fields(self.model):
            raise ContractError(f"{where}: {self.rows!r} is not a field with a list of records")
        if self.columns and not callable(self.rows):
            raise ContractError(f"{where}: columns are those of rows=...; without it they go by name")
        if unknown := [name for name in self.columns if name not in self.table.columns]:
            raise ContractError(f"{where}: table {self.table.name} has no {', '.join(unknown)}")
        for name in self.command_id_from:
            info = self.model.model_fields.get(name)
            if name in BASE_FIELDS or info is None or info.annotation is not str or not info.is_required():
                raise ContractError(f"{where}: an id is made from required texts, which {name!r} is not")

    @property
    def appends_to(self) -> TableShape:
        """Return the table."""
        return self.table

    @property
    def has_own_id(self) -> bool:
        """Return whether the command's fields say its id, where its sender gives none."""
        return bool(self.command_id_from)

    def own_id(self, name: str, command: Any) -> str | None:
        """Return the id that a command of the full name `name` has by its fields; None: they do not say it."""
        values = [getattr(command, field) for field in self.command_id_from]
        return fact_id(name, values) if values else None

    @property
    def counts_rows(self) -> bool:
        """Return whether the command may append another number of rows than one."""
        return self.rows is not None

    def refusal(self, command: Any, at: datetime) -> Rejected | None:
        """Return why a command is refused by what only the clock knows, None if it is not."""
        refusal = super().refusal(command, at)
        return self.check(command, at) if refusal is None and self.check is not None else refusal


@dataclass(frozen=True)
class DecideSpec(CommandSpec):
    """A command for an aggregate: `rule(state | None, command) -> Decision`, pure.

    `clocked`: the rule also gets the time of the batch, `rule(state | None, command, at)`. `state`: which of a family's
    states it decides about; None: the context has one. `key(command)`: the key of its row; None: the context's key.
    `into`: the table for the rows of `accepted(event, rows=...)`.
    """

    rule: Callable[..., Decision]
    clocked: bool = False
    state: State | None = None
    key: Callable[[Any], str] | None = None
    into: TableShape | None = None

    @property
    def appends_to(self) -> TableShape | None:
        """Return the table for the rows of its decisions, if there is one."""
        return self.into

    @property
    def counts_rows(self) -> bool:
        """Return whether its decisions may append rows."""
        return self.into is not None


def append(
    model: type[C],
    *,
    into: TableShape,  # a SQLAlchemy Core table, which the domain must not import
    event: type[EventBase],
    check: Callable[[C, datetime], Rejected | None] | None = None,
    rows: Callable[[C], Rows] | str | None = None,
    columns: tuple[str, ...] = (),
    command_id_from: tuple[str, ...] = (),
) -> AppendSpec:
    """Declare that `model` appends one row, or `rows`, to the table `into` and publishes one `event`.

    `rows(command)` returns any number of rows, each a tuple in the order of the table's columns without `command_id`,
    or of `columns`. A field's name instead: the command has there a record for each row, whose fields, and the other
    fields of the command, become the columns of the same names. `command_id_from`: fields that say which fact it is; a
    command that is sent without an id, by HTTP or `tidemill publish`, gets one that is made from them (`fact_id`).

    Raises:
        ContractError: there is no such field or column, or no id can be made from a field.
    """
    return AppendSpec(model, into, event, check, rows, columns, command_id_from)


def decide(
    model: type[C],
    rule: Callable[..., Decision],
    *,
    clocked: bool = False,
    state: State | None = None,
    key: Callable[[C], str] | None = None,
    into: TableShape | None = None,
) -> DecideSpec:
    """Declare that `model` is decided by `rule(state, command)`, or, `clocked`, by `rule(state, command, at)`.

    `at` is the time that the command's events get. `into`: where the rows of `accepted(event, rows=...)` are appended.
    `state`, `key`: see `DecideSpec`.
    """
    return DecideSpec(model=model, rule=rule, clocked=clocked, state=state, key=key, into=into)


def _timed(model: type[BaseModel]) -> tuple[TimedCheck, ...]:
    checks = model.checks if issubclass(model, Message) else ()
    return tuple(check for check in checks if isinstance(check, TimedCheck))


def secrets_declared(
    commands: Iterable[CommandSpec], states: Sequence[State]
) -> dict[str, dict[str, Secret]]:
    """Return name of a state -> its secret fields, as the commands that decide about it declare them.

    Raises:
        ContractError: a field cannot be secret; the message says why.
    """
    for spec in commands:
        if spec.appends_to is not None and (secrets := secrets_of(spec.model)):
            raise ContractError(
                f"{spec.model.__name__}.{next(iter(secrets))} is secret, but appended facts have no row whose key "
                "could be erased"
            )
    decided = [spec for spec in commands if isinstance(spec, DecideSpec) and states]
    return secret_fields((spec.model, spec.state or states[0]) for spec in decided)


@dataclass(frozen=True)
class Context:
    """A bounded context at a glance. `aggregate` names its topics (`market-data`).

    `key(command)` is the key its records must carry. `keyed=False` (append only) accepts any key and partition.
    `schemas` and `migrations` are folders of a plug-in; those of a built-in context are in the top-level folders of
    that name.
    `family`: several states in place of `state`; they share the context's key and are folded as one. `codes`: the
    context's own rejection codes, each with what the client should do. `retention`: which of its appended rows leave
    for the archive, and when. `batch_bytes`: of records that one transaction takes; by default 8 MiB, 1 MiB where a
    command may append many rows. `http`: the command by which HTTP appends facts; those of states are at each state.
    `queries`: what readers may ask for by name. `community`: what TimescaleDB's Community edition does for its facts.
    `current`: appended tables of which readers see only current revisions.
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
    family: tuple[State, ...] = ()
    batch_bytes: int | None = None
    http: Crud | None = None
    queries: tuple[Query, ...] = ()
    community: tuple[CommunityFeature, ...] = ()
    current: tuple[CurrentFacts, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would only fail later, on the first record."""
        if not _AGGREGATE.fullmatch(self.aggregate):
            raise ContractError(
                f"aggregate {self.aggregate!r}: it must be lower-case words joined by hyphens"
            )
        if self.state is not None and self.family:
            raise ContractError(f"context {self.aggregate}: give `state` or `family`, not both")
        decided = [spec for spec in self.commands if isinstance(spec, DecideSpec)]
        if decided and not self.states:
            raise ContractError(f"context {self.aggregate} has decide commands but no state")
        for spec in decided:
            self._check_state(spec)
        for state in self.states:
            self._check_references(state)
        self._check_names()
        self._check_http()
        secrets_declared(self.commands, self.states)
        check_features(self.aggregate, self.community, self._appended_tables, self.retention)
        for facts in self.current:
            check_current(self.aggregate, facts, self._appended_tables, self.states)
        if decided and not self.keyed:
            raise ContractError(f"context {self.aggregate}: only append contexts may accept any key")
        if self.batch_bytes is not None and self.batch_bytes < 1:
            raise ContractError(f"context {self.aggregate}: batch_bytes must be positive")
        if self.retention is not None and self.retention.table not in self._appended_tables:
            raise ContractError(
                f"context {self.aggregate}: retention of {self.retention.table_name}, but no command appends to it"
            )

    def _check_names(self) -> None:
        """Refuse two read models, or two queries, of one name: readers could ask for only one of them."""
        views = [state.view.name for state in self.states if state.view is not None]
        names = [projection.name for projection in self.projections] + views
        if twice := {name for name in names if names.count(name) > 1}:
            raise ContractError(f"context {self.aggregate} has two read models named {', '.join(twice)}")
        names = [query.name for query in self.queries]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ContractError(f"context {self.aggregate} has two queries named {', '.join(twice)}")

    def _check_http(self) -> None:
        """Refuse what HTTP would send to no avail: a command of another context, or one without a declared field."""
        accepted = {spec.model for spec in self.commands}
        for crud in filter(None, [self.http, *(state.http for state in self.states)]):
            for model in crud.commands:
                if model not in accepted:
                    raise ContractError(
                        f"context {self.aggregate} does not accept {model.__name__}, which http names"
                    )
            for model, name in crud.named_fields:
                if name not in model.model_fields:
                    raise ContractError(f"{model.__name__} has no field {name}, which http names")

    def crud_of(self, table: TableShape) -> Crud:
        """Return the commands of a collection by its table: that of facts, of a state, or what readers see of it."""
        for state in self.states:
            if state.table is table or (state.view is not None and state.view.table is table):
                return state.http or Crud()
        appended = {spec.model for spec in self.commands if spec.appends_to is table}
        return self.http if self.http is not None and self.http.create in appended else Crud()

    def _check_references(self, state: State) -> None:
        """Refuse a reference inside the aggregate whose row may be another lane's: nothing would guard it."""
        inside = {other.name for other in self.states}
        for reference in state.refers:
            if reference.to in inside and not reference.always:
                raise ContractError(
                    f"{state.name}.{reference.column} refers to {reference.to} of the same aggregate, whose rows other "
                    "lanes may change; only what a row belongs to may be referred to there"
                )

    def _check_state(self, spec: DecideSpec) -> None:
        if spec.state is None and len(self.states) > 1:
            raise ContractError(
                f"{spec.model.__name__}: say which state of {self.aggregate} it decides about"
            )
        if spec.state is not None and spec.state not in self.states:
            raise ContractError(
                f"{spec.model.__name__} decides about a state that {self.aggregate} does not have"
            )

    @property
    def _appended_tables(self) -> list[TableShape]:
        return [spec.appends_to for spec in self.commands if spec.appends_to is not None]

    @property
    def max_batch_bytes(self) -> int:
        """Return the most bytes of records that one transaction takes, as `lane.weight` counts them."""
        if self.batch_bytes is not None:
            return self.batch_bytes
        return MANY_ROWS_BATCH_BYTES if any(spec.counts_rows for spec in self.commands) else BATCH_BYTES

    @property
    def states(self) -> tuple[State, ...]:
        """Return what the commands decide about: none, one, or the states of a family."""
        return self.family if self.state is None else (self.state,)

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
        caused = tuple(event for state in self.states for event in state.events)
        return tuple(dict.fromkeys(appended + caused))

    def full_name(self, message: type[Message]) -> str:
        """Return a message's Avro full name (`tidemill.market_data.RecordMarketData`)."""
        return f"{self.avro_namespace}.{message.__name__}"
