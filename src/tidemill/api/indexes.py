"""Indexes of a table, declared with it by the names of its fields; the migrations create them in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Index, Table, func, literal, text

from tidemill.domain.errors import ContractError

_LONGEST_NAME: Final = 63
"""Bytes of a name that PostgreSQL keeps."""

_DESCENDING: Final = " desc"


@dataclass(frozen=True)
class FieldIndex:
    """An index of the table. `method`: PostgreSQL's. `path`: the member of a JSON field that is indexed as text.

    `fields`: one that ends with ` desc` is kept in descending order. `words`: the words of texts are indexed, not the
    texts. `name`: in the database; empty: made of table and fields.
    """

    fields: tuple[str, ...]
    method: str = "btree"
    path: str = ""
    words: bool = False
    name: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the fields alone."""
        return tuple(field.removesuffix(_DESCENDING) for field in self.fields)


DeclaredIndex = tuple[str, ...] | FieldIndex
"""An index as a context declares it: the fields of a tuple are those of an ordinary one."""


def named(name: str, *fields: str) -> FieldIndex:
    """Declare an index over fields under a name that is given, such as one that others rely on."""
    return FieldIndex(fields, name=name)


def gin(field: str, *, name: str = "") -> FieldIndex:
    """Declare an index over all members of a JSON field."""
    return FieldIndex((field,), "gin", name=name)


def member(field: str, path: str, *, name: str = "") -> FieldIndex:
    """Declare an index over the text of one member of a JSON field."""
    return FieldIndex((field,), path=path, name=name)


def words(*fields: str, name: str = "") -> FieldIndex:
    """Declare an index over the words of a text, as `to_tsvector('simple', field)` finds them.

    Several fields are one text with spaces between them; none of them may be null.
    """
    return FieldIndex(fields, "gin", words=True, name=name)


def add_indexes(table: Table, indexes: Sequence[DeclaredIndex]) -> None:
    """Declare indexes of a table. Raises `ContractError` for a field that there is not, or that does not suit."""
    for each in indexes:
        index = each if isinstance(each, FieldIndex) else FieldIndex(each)
        if missing := [name for name in index.columns if name not in table.columns]:
            raise ContractError(f"index of {table.name}: there is no field {', '.join(missing)}")
        Index(_name(table, index), *_indexed(table, index), postgresql_using=index.method)


def sql_name(*words: str) -> str:
    """Return a name of several words. Raises `ContractError` if PostgreSQL would cut it."""
    name = "_".join(words)
    if len(name.encode()) > _LONGEST_NAME:
        raise ContractError(f"{name}: longer than the {_LONGEST_NAME} bytes that PostgreSQL keeps of a name")
    return name


def _name(table: Table, index: FieldIndex) -> str:
    if index.name:
        return sql_name(index.name)
    return sql_name(table.name, *index.columns, *filter(None, [index.path, "words" if index.words else ""]))


def _indexed(table: Table, index: FieldIndex) -> list[Any]:
    columns = [table.columns[name] for name in index.columns]
    if index.path:
        return [columns[0][index.path].astext]
    if index.words:
        return [func.to_tsvector(text("'simple'"), _joined(table, columns))]
    return [
        column.desc() if field.endswith(_DESCENDING) else column
        for field, column in zip(index.fields, columns, strict=True)
    ]


def _joined(table: Table, columns: Sequence[Column[Any]]) -> Any:
    """Return several texts as one. With null beside it, no word of a text would be found."""
    if len(columns) > 1 and (unfit := [column.name for column in columns if column.nullable]):
        raise ContractError(f"index of {table.name}: {', '.join(unfit)} may be null, index its words alone")
    joined: Any = columns[0]
    for column in columns[1:]:
        joined = joined.concat(literal(" ")).concat(column)
    return joined
