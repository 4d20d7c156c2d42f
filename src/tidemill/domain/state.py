"""The rows behind `decide` commands: one per aggregate, made by its events, with what must hold across them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidemill.domain.collection import Crud
from tidemill.domain.decision import Decision
from tidemill.domain.folded_text import folded_column
from tidemill.domain.messages import CommandBase, EventBase
from tidemill.domain.projection import Projection, Recorded
from tidemill.domain.read_view import ReadView
from tidemill.domain.state_rows import changed_row
from tidemill.domain.table_shape import TableShape


@dataclass(frozen=True)
class Unique:
    """A value that at most one aggregate may hold.

    `of(state)` gives the value as a tuple in the order of `columns`, or None while the aggregate holds none.
    `where`: a SQLAlchemy condition that is true of rows that hold their value. `constraint` is the database's guard
    across lanes. A command that would take a held value is rejected with `code`; `shown`: how it is told, if not by
    the names of the columns. `taken_by(command)`: the value that a command would take, as far as it alone says, or
    None; a guess that saves time, by default made of the command's fields of the same names.
    """

    columns: tuple[str, ...]
    of: Callable[[Any], tuple[Any, ...] | None]
    code: str
    constraint: str
    where: object = None
    shown: tuple[str, ...] = ()
    taken_by: Callable[[Any], tuple[Any, ...] | None] | None = None


@dataclass(frozen=True)
class Reference:
    """A row of another collection that must be in force when a command that begins to refer to it commits.

    `column`: of this state; it holds the other row's key, or None. `to`: the name of the other state's table. A command
    that would refer to a row that is not in force is rejected with `code`. `restrict`: while a row in force refers to
    it, the other row cannot be deleted: that command is rejected as `STILL_REFERRED_TO`. `always`: the other row
    must be in force whenever this one changes; it is of the same family, and its key is the family's.
    """

    column: str
    to: str
    code: str
    restrict: bool = False
    always: bool = False


@dataclass(frozen=True)
class SignInColumns:
    """The columns of a state that say who may sign in.

    `name`: what people sign in with, unique without regard to case among the rows in force. `password_hash`: a secret.
    `active`: true of rows that may sign in; None: each row in force may.
    """

    name: str
    password_hash: str
    active: str | None = None

    @property
    def folded_name(self) -> str:
        """Return the column by which a row is looked up."""
        return folded_column(self.name)


@dataclass(frozen=True)
class Expiry:
    """How rows, or something about them, end by themselves once a time is over.

    `column`: that time; null: never. `command`: what the service itself decides
    about such a row, by `rule(state, command, at)`, which accepts it while the row's time is over; `key(command)`: the
    key of the row. `make(key, base)`: the command about a row, with the base fields of a message.
    """

    column: str
    command: type[CommandBase]
    rule: Callable[[Any, Any, datetime], Decision]
    key: Callable[[Any], str]
    make: Callable[[str, Mapping[str, Any]], CommandBase]

    def is_over(self, row: Any, at: datetime) -> bool:
        """Tell whether the time of a row is over at a time."""
        ends: datetime | None = getattr(row, self.column)
        return ends is not None and ends <= at


@dataclass(frozen=True)
class State:
    """The aggregate behind `decide` commands: one row per key.

    `model`: a frozen dataclass whose fields are the table's columns. `key`: the name of the key column (text).
    `evolve(state | None, event) -> state` is pure. The engine fills the fields `version` (counts events from 1),
    `created_at` (when it came into force) and `updated_at` (time of the last event) after every `evolve`.
    `deleted`: the boolean column that is true of rows that are not in force any more; None: all rows are in force.
    `clocked`: `evolve` also gets the time of the event, `evolve(state | None, event, at)`. `key_of(event)`: the key of
    the row that an event changes; None: it is the key of the event's record. `view`: what readers see of the rows.
    `sign_in`: who may sign in, as `entity` checks it; None: rows are no accounts. `http`: the commands that HTTP makes
    of its verbs, each accepted by one event; None: it only reads the rows. `expiry`: how rows end by themselves; None:
    they do not. From the time on such a row is in force no more. `lapse`: how something about a row ends by itself,
    while the row stays in force. `new_rows`: `evolve` always returns a row that nothing else holds, of a plain
    dataclass without slots: the engine fills its fields in place.
    """

    model: type[Any]
    table: TableShape
    key: str
    evolve: Callable[..., Any]
    events: tuple[type[EventBase], ...]
    unique: tuple[Unique, ...] = ()
    refers: tuple[Reference, ...] = ()
    deleted: str | None = None
    clocked: bool = False
    key_of: Callable[[Any], str] | None = None
    view: ReadView | None = None
    sign_in: SignInColumns | None = None
    http: Crud | None = None
    expiry: Expiry | None = None
    lapse: Expiry | None = None
    new_rows: bool = False

    @property
    def name(self) -> str:
        """Return the name of the collection, which is that of its table."""
        return str(self.table.name)

    @property
    def endings(self) -> tuple[Expiry, ...]:
        """Return what ends by itself."""
        return tuple(ending for ending in (self.expiry, self.lapse) if ending is not None)

    def in_force(self, row: Any, at: datetime | None = None) -> bool:
        """Tell whether there is a row, and it is not deleted. `at`: nor is its time over then."""
        if row is None or (self.deleted is not None and getattr(row, self.deleted)):
            return False
        return at is None or self.expiry is None or not self.expiry.is_over(row, at)

    def after(self, before: Any, event: EventBase, at: datetime) -> Any:
        """Return the state after an event of the time `at`, with what the engine fills."""
        version = 0 if before is None else before.version
        evolved = self.evolve(before, event, at) if self.clocked else self.evolve(before, event)
        begins = before is None or (not self.in_force(before, at) and self.in_force(evolved, at))
        created_at = at if begins else before.created_at
        if self.new_rows:
            values = evolved.__dict__
            values["version"], values["created_at"], values["updated_at"] = version + 1, created_at, at
            return evolved
        return changed_row(evolved, {"version": version + 1, "created_at": created_at, "updated_at": at})

    def as_projection(self, name: str) -> Projection:
        """Return the state as a read model of its own events, which its rows must equal."""
        key_of = self.key_of

        def fold(row: Any, recorded: Recorded[EventBase]) -> Any:
            return self.after(row, recorded.event, recorded.at)

        key = None if key_of is None else lambda event: (key_of(event),)
        folds = dict.fromkeys(self.events, fold)
        return Projection(name, row=self.model, table=self.table, key=key, folds=folds, stamped=False)
