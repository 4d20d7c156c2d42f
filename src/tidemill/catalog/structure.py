"""Structure: a declared table compared with the one in the database. Pure.

What a declaration promises must exist: the table with its columns, types that take all declared values, the
unique indexes under their names, the rights of the writing login. What exists in addition, or takes
more, is reported and accepted, as long as no write can be refused for it.

Names, types and conditions are compared as text, written identically for both sides: quoted
where SQL needs it, types and conditions as the server prints them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tidemill.catalog.column_types import ColumnType, is_same, is_wider

SERVICE_ROLE: Final = "tidemill_service"
"""The role to which migrations grant the rights of the processes."""


class Kind(StrEnum):
    """The kind of a difference between the database and a declaration."""

    MISSING = "missing"
    DIFFERS = "differs"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as declared. `sql`: a draft of the fix, None where an operator has to decide.

    `harmless`: declared, but no promise depends on it. What is extra never breaks one.
    """

    table: str
    what: str
    kind: Kind
    sql: str | None = None
    harmless: bool = False

    @property
    def breaks(self) -> bool:
        """Return whether it breaks a promise."""
        return self.kind is not Kind.EXTRA and not self.harmless

    def __str__(self) -> str:
        """Return the table and the difference."""
        return f"{self.table}: {self.what}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. Declared: `nullable` if null may be written, `type` None if it is not declared.

    In the database: `made`: filled by a default; `computed`: takes no value; `rights`: of the present
    login, on this column alone.
    """

    name: str
    type: ColumnType | None
    nullable: bool = False
    made: bool = False
    computed: bool = False
    rights: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Index:
    """An index over `columns`, of the rows for which `where` is true. Any `name` will do if it is empty.

    In the database: `valid` and `immediate` unless it does not enforce its values, or only at the commit.
    """

    name: str
    columns: tuple[str, ...]
    unique: bool
    where: str | None = None
    valid: bool = True
    immediate: bool = True

    def guards(self, other: Index) -> bool:
        """Tell whether it enforces exactly what `other` does."""
        return (
            self.unique
            and self.valid
            and self.immediate
            and set(self.columns) == set(other.columns)
            and self.where == other.where
        )


@dataclass(frozen=True, slots=True)
class Declared:
    """A table as a context declares it. `key`: its primary key; its name does not matter.

    `filled`: the columns with a value in every new row. `rights`: the needed ones. `to_be_read`: not only added
    to.
    """

    schema: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    indexes: tuple[Index, ...]
    filled: frozenset[str]
    rights: frozenset[str]

    @property
    def name(self) -> str:
        """Return `schema.table`."""
        return f"{self.schema}.{self.table}"

    @property
    def to_be_read(self) -> bool:
        """Return whether its rows are read back: a table that is only appended to may store other kinds of numbers."""
        return "select" in self.rights


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table in the database. `kind`: `table`, or the kind of what has its name. `rights`: of the present login."""

    columns: tuple[Column, ...] = ()
    indexes: tuple[Index, ...] = ()
    rights: frozenset[str] = frozenset()
    kind: str = "table"


def compare(declared: Declared, found: FoundTable | None) -> list[Difference]:
    """Return how the table differs, missing parts first; `found` is None if the table does not exist."""
    if found is None:
        return [_missing_table(declared)]
    if found.kind != "table":
        what = f"it is a {found.kind}, not a table"
        return [Difference(declared.name, what, Kind.DIFFERS)]
    differences = [
        *_columns(declared, found),
        *_others(declared, found),
        *_indexes(declared, found.indexes),
        *_rights(declared, found),
    ]
    return sorted(differences, key=lambda each: list(Kind).index(each.kind))


# --- the table and its columns ---------------------------------------------------------------------------------------


def _missing_table(declared: Declared) -> Difference:
    lines = [
        f"{each.name} {each.type or 'text'}{'' if each.nullable else ' not null'}"
        for each in declared.columns
    ]
    if declared.key:
        lines.append(f"primary key ({', '.join(declared.key)})")
    drafts = [
        f"create table {declared.name} ({', '.join(lines)})",
        *(_draft(declared, index) for index in declared.indexes),
        _grant(declared, declared.rights - {"usage"}),
    ]
    return Difference(declared.name, "the table is missing", Kind.MISSING, "; ".join(drafts))


def _columns(declared: Declared, found: FoundTable) -> Iterator[Difference]:
    there = {each.name: each for each in found.columns}
    for wanted in declared.columns:
        alter = f"alter table {declared.name} alter column {wanted.name}"
        has = there.get(wanted.name)
        if has is None:
            kind = f" ({wanted.type})" if wanted.type else ""
            # without NOT NULL, which a table with rows refuses; writers do not need it
            sql = f"alter table {declared.name} add column {wanted.name} {wanted.type or 'text'}"
            yield Difference(declared.name, f"column {wanted.name}{kind} is missing", Kind.MISSING, sql)
            continue
        if wanted.type is not None and has.type is not None and not is_same(wanted.type, has.type):
            yield _other_type(declared, wanted.name, wanted.type, has.type)
        if has.computed and wanted.name in declared.filled:
            what = f"column {wanted.name} is computed by the database, and takes no value"
            yield Difference(declared.name, what, Kind.DIFFERS, f"{alter} drop expression")
        elif wanted.name not in declared.filled:
            yield from _unfilled(declared, has)
        elif wanted.nullable and not has.nullable:
            what = f"column {wanted.name} is NOT NULL, but null may be written"
            yield Difference(declared.name, what, Kind.DIFFERS, f"{alter} drop not null")
        elif has.nullable and not wanted.nullable:
            yield Difference(declared.name, f"column {wanted.name} takes null too", Kind.EXTRA)


def _other_type(declared: Declared, column: str, wanted: ColumnType, has: ColumnType) -> Difference:
    if is_wider(has, wanted, to_be_read=declared.to_be_read):
        return Difference(declared.name, f"column {column} is {has}, wider than {wanted}", Kind.EXTRA)
    if is_wider(wanted, has):
        sql = f"alter table {declared.name} alter column {column} type {wanted}"
        what = f"column {column} is {has}, narrower than {wanted}"
        return Difference(declared.name, what, Kind.DIFFERS, sql)
    return Difference(declared.name, f"column {column} is {has}, not {wanted}", Kind.DIFFERS)


def _others(declared: Declared, found: FoundTable) -> Iterator[Difference]:
    known = {each.name for each in declared.columns}
    for has in found.columns:
        if has.name not in known:
            unfit = list(_unfilled(declared, has))
            yield from unfit or [Difference(declared.name, f"column {has.name} is not declared", Kind.EXTRA)]


def _unfilled(declared: Declared, has: Column) -> Iterator[Difference]:
    """A column that is not written must allow that."""
    if not (has.nullable or has.made or has.computed) and "insert" in declared.rights:
        what = f"column {has.name} is NOT NULL without a default, and nothing fills it"
        sql = f"alter table {declared.name} alter column {has.name} drop not null"
        yield Difference(declared.name, what, Kind.DIFFERS, sql)


# --- indexes ---------------------------------------------------------------------------------------------------------


def _indexes(declared: Declared, found: tuple[Index, ...]) -> Iterator[Difference]:
    used: set[str] = set()
    for wanted in declared.indexes:
        has = _meant(wanted, found)
        used |= {has.name} if has else set()
        yield from _index(declared, wanted, has)
    key = Index("", declared.key, unique=True)
    able = [has.name for has in found if has.guards(key)]
    if declared.key and not able:
        what, sql = f"the primary key {_listed(key)} is missing", f"add primary key {_listed(key)}"
        sql = f"alter table {declared.name} {sql}"
        yield Difference(declared.name, what, Kind.MISSING, sql, harmless=not declared.to_be_read)
    for has in found:
        if has.name not in {*used, *able}:
            what = f"{_called(has)} {has.name} on {_listed(has)} is not declared"
            yield Difference(declared.name, what, Kind.EXTRA)


def _meant(wanted: Index, found: tuple[Index, ...]) -> Index | None:
    """Return the index of that name, or else an equal one under another name."""
    same = (
        has for has in found if has.guards(wanted) or (not wanted.unique and has.columns == wanted.columns)
    )
    return next((has for has in found if has.name == wanted.name), next(same, None))


def _index(declared: Declared, wanted: Index, has: Index | None) -> Iterator[Difference]:
    name, harmless = f"{_called(wanted)} {wanted.name}", not wanted.unique
    if has is None:
        what, sql = f"{name} is missing", _draft(declared, wanted)
        yield Difference(declared.name, what, Kind.MISSING, sql, harmless)
        return
    if wrong := _wrong(wanted, has):
        again = None if has.valid else f"reindex index {declared.schema}.{has.name}"
        yield Difference(declared.name, f"{name} {wrong}", Kind.DIFFERS, again, harmless)
    elif has.name != wanted.name and wanted.unique:
        # the name of a violated index tells which value was refused
        sql = f"alter index {declared.schema}.{has.name} rename to {wanted.name}"
        yield Difference(declared.name, f"{name} is named {has.name}", Kind.DIFFERS, sql)


def _wrong(wanted: Index, has: Index) -> str:
    """Return how an index differs from what is wanted, empty if it does not."""
    if not has.valid:
        return "is not valid: its build was interrupted"
    if not wanted.unique:
        return "" if has.columns == wanted.columns else f"is on {_listed(has)}, not on {_listed(wanted)}"
    if not has.unique:
        return "is not unique"
    if set(has.columns) != set(wanted.columns):
        return f"is on {_listed(has)}, not on {_listed(wanted)}"
    if has.where != wanted.where:
        return f"guards {_rows(has)}, not {_rows(wanted)}"
    return "" if has.immediate else "is deferrable: it refuses only at the commit, which is too late"


def _draft(declared: Declared, wanted: Index) -> str:
    where = f" where {wanted.where}" if wanted.where else ""
    kind = "unique index" if wanted.unique else "index"
    return f"create {kind} {wanted.name} on {declared.name} {_listed(wanted)}{where}"


def _called(index: Index) -> str:
    return "unique index" if index.unique else "index"


def _listed(index: Index) -> str:
    return f"({', '.join(index.columns)})"


def _rows(index: Index) -> str:
    return f"rows where {index.where}" if index.where else "all rows"


# --- rights ----------------------------------------------------------------------------------------------------------


def _rights(declared: Declared, found: FoundTable) -> Iterator[Difference]:
    lacking = {right for right in declared.rights if not _may(right, declared, found)}
    if "usage" in lacking:
        sql = f"grant usage on schema {declared.schema} to {SERVICE_ROLE}"
        what = f"this login may not use schema {declared.schema}"
        yield Difference(declared.name, what, Kind.MISSING, sql)
    if rights := lacking - {"usage"}:
        what = f"this login may not {', '.join(sorted(rights))}"
        yield Difference(declared.name, what, Kind.MISSING, _grant(declared, rights))


def _grant(declared: Declared, rights: Collection[str]) -> str:
    return f"grant {', '.join(sorted(rights))} on {declared.name} to {SERVICE_ROLE}"


def _may(right: str, declared: Declared, found: FoundTable) -> bool:
    """Tell whether a right exists: on the table, or on every column that it is needed for."""
    if right in found.rights:
        return True
    needed = declared.filled if right == "insert" else {each.name for each in declared.columns}
    held = {each.name for each in found.columns if right in each.rights}
    return bool(needed) and needed <= held
