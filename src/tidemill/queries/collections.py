"""The collections of a deployment as a principal sees them: a hidden column does not exist, for any purpose.

One resolver of names: fields, filters, sorts and keys all ask a `VisibleCollection`, which does not hold what is
hidden. So a request cannot find out more about a hidden column than about one that never existed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import unquote_to_bytes

from tidemill.domain.collection import Collection, CollectionKind
from tidemill.domain.errors import ContractError, RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.table_shape import ColumnShape
from tidemill.queries.value_types import Bound, FieldType, ValueFault, value_type

RESERVED: Final = frozenset(
    {"transaction", "query", "commands", "search", "schema", "migrations", "stats", "health", "performance"}
    | {"connections", "events", "models", "hypertables", "operations", "documents", "statements"}
    | {"principals", "openapi", "docs", "count"}
)
"""Names that URLs have for other things than collections."""

VERSION: Final = "version"
"""The column of a row's version, from which its ETag is made."""

COMMAND_ID: Final = "command_id"
"""The column by which a fact names its command."""

MAX_VIEWS: Final = 256

ColumnTypeName = Callable[[ColumnShape], str]
"""Returns the type of a declared column as SQL writes it."""


@dataclass(frozen=True, slots=True)
class VisibleColumn:
    """A column that a principal sees. `counter`: a bigint that is a JSON number all the same."""

    name: str
    type: FieldType
    nullable: bool
    counter: bool = False


@dataclass(frozen=True, eq=False)
class VisibleCollection:
    """A collection without the columns that are hidden from a principal. One object for each set of hidden columns.

    `columns`: by name, in order. `key`: empty if a document has no address, also because a column of the key is hidden.
    `time_column`: of facts, None if it is hidden.
    """

    collection: Collection
    columns: Mapping[str, VisibleColumn]
    hidden: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Return the name in URLs."""
        return self.collection.name

    @cached_property
    def key(self) -> tuple[str, ...]:
        """Return the names of the key's columns, in order."""
        whole = all(name in self.columns for name in self.collection.key)
        return self.collection.key if whole else ()

    @cached_property
    def time_column(self) -> str | None:
        """Return the column by which facts are divided and bounded."""
        name = self.collection.time_column
        is_facts = self.collection.kind is CollectionKind.FACTS
        return name if is_facts and name in self.columns else None

    @cached_property
    def has_version(self) -> bool:
        """Return whether a document has a version that its reader may see."""
        return bool(self.key) and VERSION in self.columns

    @cached_property
    def row_rule(self) -> str:
        """Return a text for what is visible: a cursor of one principal fits no other that sees something else."""
        return ",".join([self.name, *self.columns])

    def column(self, name: str) -> VisibleColumn | None:
        """Return a column, None if there is none of this name, or none for this principal."""
        return self.columns.get(name)


class Collections:
    """The collections of a deployment, by name."""

    def __init__(self, collections: Iterable[Collection], column_type: ColumnTypeName) -> None:
        """`column_type`: `storage.database.table_sql.column_type`.

        Raises:
            ContractError: a name is reserved or used twice, or a column has a name that requests cannot write.
        """
        self._column_type = column_type
        self._whole: dict[str, VisibleCollection] = {}
        self._partial: OrderedDict[tuple[str, frozenset[str]], VisibleCollection] = OrderedDict()
        for collection in collections:
            check_names(collection)
            if collection.name in self._whole:
                raise ContractError(f"two collections are named {collection.name}")
            self._whole[collection.name] = self._seen(collection, frozenset())

    def __iter__(self) -> Iterator[VisibleCollection]:
        """Iterate over them, each with all of its columns."""
        return iter(self._whole.values())

    def visible(self, name: str, hidden: frozenset[str] = frozenset()) -> VisibleCollection:
        """Return a collection without the hidden columns. Raises `RequestRefused` (`NO_COLLECTION`)."""
        whole = self._whole.get(name)
        if whole is None:
            raise RequestRefused(RequestCode.NO_COLLECTION, "there is no such collection")
        hidden = hidden.intersection(whole.columns)
        return self._without(whole, hidden) if hidden else whole

    def _without(self, whole: VisibleCollection, hidden: frozenset[str]) -> VisibleCollection:
        """Statements are cached by it, so that equal ones are one object; the least recently used one is forgotten."""
        key = (whole.name, hidden)
        partial = self._partial.get(key)
        if partial is None:
            partial = self._partial[key] = self._seen(whole.collection, hidden)
            if len(self._partial) > MAX_VIEWS:
                self._partial.popitem(last=False)
        self._partial.move_to_end(key)
        return partial

    def _seen(self, collection: Collection, hidden: frozenset[str]) -> VisibleCollection:
        columns = {
            column.name: self._column(collection, column)
            for column in collection.table.columns
            if column.name not in hidden
        }
        return VisibleCollection(collection, columns, hidden)

    def _column(self, collection: Collection, column: ColumnShape) -> VisibleColumn:
        kind = value_type(self._column_type(column))
        counter = kind.name == "bigint" and column.name in collection.counters
        return VisibleColumn(column.name, kind, column.nullable is not False, counter)


def check_names(collection: Collection) -> None:
    """Refuse names that a request could not write. Raises `ContractError`."""
    if collection.name in RESERVED:
        raise ContractError(f"collection {collection.name}: URLs have this name for something else")
    if unfit := [name for name in collection.columns if name.startswith("_") or "." in name]:
        raise ContractError(
            f"collection {collection.name}: column {', '.join(unfit)}: a name with a dot or with a leading underscore "
            "cannot be filtered by"
        )


# --- keys ------------------------------------------------------------------------------------------------------------

_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


def parse_key(collection: VisibleCollection, raw_segment: bytes) -> list[str]:
    """Return the values of a key, from the segment of a path as it was sent: joined by commas, percent-encoded.

    Raises `RequestRefused`: `BAD_PARAMETER` (not UTF-8, another number of values), `NO_DOCUMENT` (there are no keys).
    """
    if not collection.key:
        name = collection.name
        detail = f"{name} has no keys, so its rows have no address: filter them, {name}?FIELD=VALUE"
        raise RequestRefused(RequestCode.NO_DOCUMENT, detail)
    parts = [_decoded(part) for part in raw_segment.split(b",")]
    if len(parts) != len(collection.key):
        names = ",".join(collection.key)
        raise _bad_id(f"the key has {len(collection.key)} values, {names}; a comma within a value is %2C")
    return parts


def key_values(collection: VisibleCollection, segments: Iterable[str]) -> list[Bound]:
    """Return the values of a key, read as its columns' types. Raises `RequestRefused` (`BAD_VALUE`)."""
    values, faults = [], []
    for name, text in zip(collection.key, segments, strict=True):
        try:
            values.append(collection.columns[name].type.read(text))
        except ValueFault as fault:
            faults.append(RequestFault("parameter", name, f"{name} {fault}", RequestCode.BAD_VALUE))
    if faults:
        raise RequestRefused(RequestCode.BAD_VALUE, faults[0].detail, *faults)
    return values


def no_document() -> RequestRefused:
    """Return the refusal of a key that nothing has."""
    return RequestRefused(RequestCode.NO_DOCUMENT, "nothing has this key")


def _decoded(part: bytes) -> str:
    pieces = part.split(b"%")[1:]
    if any(len(piece) < 2 or not _HEX.issuperset(piece[:2]) for piece in pieces):
        raise _bad_id("a percent sign is followed by two hexadecimal digits")
    try:
        text = unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        raise _bad_id("the key is not UTF-8") from None
    if "\x00" in text:
        raise _bad_id("the key has a NUL")
    return text


def _bad_id(detail: str) -> RequestRefused:
    return RequestRefused(
        RequestCode.BAD_PARAMETER, detail, RequestFault("parameter", "id", detail, RequestCode.BAD_PARAMETER)
    )
