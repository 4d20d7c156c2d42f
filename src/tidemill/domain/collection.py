"""What HTTP reads and writes by name: facts, states and read models, with the commands that change them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from tidemill.domain.messages import CommandBase
from tidemill.domain.table_shape import TableShape


class CollectionKind(StrEnum):
    """What a collection is."""

    FACTS = "facts"
    STATE = "state"
    READ_MODEL = "read_model"


@dataclass(frozen=True, kw_only=True)
class Crud:
    """Which command creates, changes and deletes a document. None: that verb does not exist.

    `key`: the field of the commands that has the document's key. `match`: their field for the expected version.
    `clear`: the field of `update` that names the fields to empty; None: nothing can be emptied. `reused`: whether a key
    may be created again after its deletion, so that its first version is not 1.
    """

    create: type[CommandBase] | None = None
    update: type[CommandBase] | None = None
    delete: type[CommandBase] | None = None
    key: str | None = None
    match: str | None = "expected_version"
    clear: str | None = None
    reused: bool = False

    @property
    def commands(self) -> tuple[type[CommandBase], ...]:
        """Return the commands that it names."""
        return tuple(model for model in (self.create, self.update, self.delete) if model is not None)

    @property
    def named_fields(self) -> tuple[tuple[type[CommandBase], str], ...]:
        """Return (command, field) for each field that a command must have."""
        keyed = [(model, self.key) for model in self.commands]
        matched = [(model, self.match) for model in (self.update, self.delete) if model is not None]
        cleared = [(self.update, self.clear)] if self.update is not None else []
        return tuple((model, name) for model, name in [*keyed, *matched, *cleared] if name is not None)


@dataclass(frozen=True)
class RevisionColumns:
    """Columns of facts that are shown in revisions: all rows of one value of `owner` have one value of `revision`."""

    owner: str
    revision: str


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A collection of a deployment.

    `name`: as in URLs (`market-data`). `aggregate`: whose lanes its tokens name. `table`: the table or view that is
    read; it has no column that no reader is shown. `key`: the columns of its key, in order; empty: a document has no
    address. `time_column`: of facts. `retention`: the table (`schema.table`) whose old rows leave for the lake.
    `projection`: the read model's name, by which its checkpoints are found; None: rows are written in the command's
    own transaction. `counters`: bigint columns that are JSON numbers.
    `stored`: the table behind `table` if that is a view, or lacks columns, such as secrets, which commands have.
    `revisions`: of facts of which only current ones are shown.
    """

    name: str
    kind: CollectionKind
    aggregate: str
    table: TableShape
    key: tuple[str, ...] = ()
    time_column: str | None = None
    retention: str | None = None
    projection: str | None = None
    crud: Crud = field(default_factory=Crud)
    stored: TableShape | None = None
    revisions: RevisionColumns | None = None
    counters: frozenset[str] = frozenset({"version", "sequence", "lane", "ticks"})

    @property
    def written(self) -> TableShape:
        """Return the table that commands change, with every column."""
        return self.table if self.stored is None else self.stored

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns, in order."""
        return tuple(column.name for column in self.table.columns)
