"""A lake of Iceberg tables: the same files as without a catalog, and a table of those of each hypertable.

The copies of an event are committed once, in one transaction: files added, those of superseded copies removed, and a
property of the table that names the event's slices. The property is looked up before each try, since a commit whose
answer was lost may have succeeded, and snapshots, which record it too, expire. After an unknown result nothing is
deleted. Properties are part of all metadata, so those of old ranges are removed, as long as the table's files show the
same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from pathlib import PurePosixPath
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
)
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction
from sqlalchemy.exc import SQLAlchemyError

from tidemill.domain.archive.slices import LakeColumn, LakeFile, LakePlace, Measured, SliceId
from tidemill.domain.errors import CopyStands, Unavailable, UsageError
from tidemill.lakehouse.arrow import schema_of
from tidemill.lakehouse.layout import ICEBERG_DATA, Manifest, table_folder
from tidemill.lakehouse.parquet import LakeWriter

COMMITTED: Final = "tidemill.archived."
"""With an event's id appended: the property that lists the slices committed for the event."""

SUMMARY: Final = "tidemill.archival.event-id"
"""The same in the summary of the snapshot, for people."""

PRUNED: Final = "tidemill.archived-pruned"
"""Set once such properties were removed: from then on, files identify events without one."""

KEPT: Final = 200
"""The minimum number of events that keep their property: those of the latest ranges."""

_TRIES: Final = 5
_NAMED: Final = re.compile(r"(?P<slice>\w+Z-g\d+)-(?P<event>.+)")
_TABLE: Final = {
    "format-version": "2",
    "commit.retry.num-retries": "0",  # this module looks between two tries
    "write.metadata.previous-versions-max": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    # Spark's vectorised reader does not support BYTE_STREAM_SPLIT, and before Iceberg 1.10 no DELTA_BINARY_PACKED
    # either; row by row it reads both
    "read.parquet.vectorization.enabled": "false",
}


class Copied(Protocol):
    """A complete copy of a slice."""

    @property
    def columns(self) -> tuple[LakeColumn, ...]:
        """Its columns."""
        ...

    @property
    def files(self) -> tuple[LakeFile, ...]:
        """Its files."""
        ...


def open_catalog(url: str, root: str, *, schema: str, options: Mapping[str, Any] | None = None) -> Catalog:
    """Return the catalog at `url`: `postgresql://...` keeps its tables in `schema`, `http(s)://...` is a REST catalog.

    Raises:
        UsageError: the URL is neither.
        Unavailable: it does not answer.
    """
    parts = urlsplit(url)
    wanted: dict[str, Any] = {"warehouse": _as_url(root), **(options or {})}
    if parts.scheme in ("postgresql", "postgres"):
        query = {"options": f"-csearch_path={schema}", "connect_timeout": "10"} | dict(parse_qsl(parts.query))
        query["client_encoding"] = "utf8"  # before PGCLIENTENCODING, and what database and login set
        uri = parts._replace(scheme="postgresql+psycopg2", query=urlencode(query, quote_via=quote)).geturl()
        wanted |= {"type": "sql", "uri": uri, "pool_pre_ping": "true"}
    elif parts.scheme in ("http", "https"):
        wanted |= {"type": "rest", "uri": url}
    else:
        raise UsageError(
            "TIDEMILL_LAKE_CATALOG_URL: expected postgresql://..., or https://... of a REST catalog"
        )
    with _answering("opening the catalog"):
        return load_catalog("tidemill", **wanted)


class IcebergLake:
    """A `Lake` of the archiver. One table `schema.table` for each hypertable, at `<root>/<schema.table>`.

    Unpartitioned: files record the span of their times, and a chunk may cross any boundary.
    """

    def __init__(
        self, catalog: Catalog, root: str, options: Mapping[str, Any] | None = None, **writing: Any
    ) -> None:
        """`root` and `options` are those of `LakeWriter`."""
        self._catalog = catalog
        self._root = root
        self._writer = LakeWriter(root, options, rows_in=ICEBERG_DATA, **writing)

    def find(self, slice_: SliceId, event_id: str) -> Manifest | None:
        return self._writer.find(slice_, event_id)

    def write(
        self,
        slice_: SliceId,
        event_id: str,
        columns: Sequence[LakeColumn],
        time_column: str,
        batches: Iterable[pa.RecordBatch],
        demand: Callable[[Measured], None] | None = None,
    ) -> Manifest:
        self._demand_uncommitted(slice_, event_id)
        return self._writer.write(slice_, event_id, columns, time_column, batches, demand)

    def publish(
        self, table: str, event_id: str, copies: Mapping[SliceId, Copied], superseded: Sequence[str]
    ) -> LakePlace:
        columns = next(iter(copies.values())).columns
        unknown: BaseException | None = None
        for _ in range(_TRIES):
            with _answering(f"committing to {table}"):
                loaded = self._table(table, columns)
                missing = {
                    key: copy
                    for key, copy in copies.items()
                    if name_of(key) not in committed(loaded, event_id)
                }
                if not missing:
                    return _place(loaded)
                try:
                    self._commit(loaded, event_id, columns, missing, superseded)
                except CommitFailedException as fault:  # another writer was first
                    unknown = fault
                except (
                    CommitStateUnknownException,
                    SQLAlchemyError,
                ) as fault:  # it may have succeeded: check again
                    unknown = fault
        raise Unavailable(
            "lake", f"committing to {table}: {unknown!r}; nothing was deleted, the next try checks first"
        )

    def _commit(
        self,
        table: Table,
        event_id: str,
        columns: Sequence[LakeColumn],
        copies: Mapping[SliceId, Copied],
        superseded: Sequence[str],
    ) -> None:
        """Commit it all in one transaction: a reader sees either the old rows or the new ones."""
        summary = {SUMMARY: event_id}
        done = sorted(committed(table, event_id) | {name_of(key) for key in copies})
        with table.transaction() as transaction:
            with transaction.update_schema() as evolution:
                evolution.union_by_name(schema_of(columns))
            self._leave_out(table, transaction, copies, superseded, summary)
            paths = [_as_url(file.path) for copy in copies.values() for file in copy.files]
            if paths:
                transaction.add_files(paths, snapshot_properties=summary)
            told = _forgotten(table, superseded) | {COMMITTED + event_id: " ".join(done)}
            if old := _prunable(table, {event_id, *superseded}):
                transaction.remove_properties(*(COMMITTED + each for each in old))
                told[PRUNED] = "true"
            transaction.set_properties(told)

    def _leave_out(
        self,
        table: Table,
        transaction: Transaction,
        copies: Mapping[SliceId, Copied],
        superseded: Sequence[str],
        summary: dict[str, str],
    ) -> None:
        """Remove the files of superseded copies of these slices from the table; older snapshots still have them."""
        stems = {f"{name_of(key)}-{earlier}" for key in copies for earlier in superseded}
        old = [file for file in _data_files(table) if stems and _stem(file.file_path) in stems]
        if old:
            with transaction.update_snapshot(snapshot_properties=summary).overwrite() as overwriting:
                for file in old:
                    overwriting.delete_data_file(file)

    def _table(self, table: str, columns: Sequence[LakeColumn]) -> Table:
        namespace, _, name = table.partition(".")
        try:
            return self._catalog.load_table((namespace, name))
        except NoSuchTableError:
            self._catalog.create_namespace_if_not_exists((namespace,))
        location = f"{_as_url(self._root)}/{table_folder(table)}"
        try:
            return self._catalog.create_table(
                (namespace, name), schema_of(columns), location=location, properties=dict(_TABLE)
            )
        except TableAlreadyExistsError:
            return self._catalog.load_table((namespace, name))

    def _demand_uncommitted(self, slice_: SliceId, event_id: str) -> None:
        """Refuse to replace files that the table refers to."""
        namespace, _, name = slice_.table.partition(".")
        with _answering(f"looking at {slice_.table}"):
            try:
                table = self._catalog.load_table((namespace, name))
            except NoSuchTableError:
                return
        if name_of(slice_) in committed(table, event_id):
            path = _as_path(table.location())
            raise CopyStands(path, slice_, event_id, "it was committed, and its files are damaged")


def unregistered(catalog: Catalog, table: str, paths: Sequence[str]) -> list[str]:
    """Return the files that the table does not have now. Raises `Unavailable`.

    They may be intact, but a clean-up of the lake would delete them as orphans.
    """
    namespace, _, name = table.partition(".")
    with _answering(f"looking at {table}"):
        try:
            loaded = catalog.load_table((namespace, name))
        except NoSuchTableError:
            return list(paths)
        held = {_as_path(file.file_path) for file in _data_files(loaded)}
    return [path for path in paths if _as_path(path) not in held]


def committed(table: Table, event_id: str) -> frozenset[str]:
    """Return the names of the slices that were committed for an event, from its property, or else from the files."""
    told = table.properties.get(COMMITTED + event_id)
    if told is not None or PRUNED not in table.properties:
        return frozenset((told or "").split())
    named = (_NAMED.fullmatch(_stem(file.file_path)) for file in _data_files(table))
    return frozenset(each["slice"] for each in named if each is not None and each["event"] == event_id)


def _forgotten(table: Table, superseded: Sequence[str]) -> dict[str, str]:
    """Return the properties of events whose files will be removed, or else everything that is known of them."""
    names = {COMMITTED + earlier: " ".join(sorted(committed(table, earlier))) for earlier in superseded}
    return {key: told for key, told in names.items() if told and key not in table.properties}


def _prunable(table: Table, in_use: Collection[str]) -> list[str]:
    """Return the events whose properties may be removed: not the latest, and each slice has files in the table.

    Superseded copies and slices without rows have no files in the table: their properties stay.
    """
    known = {
        name.removeprefix(COMMITTED): value.split()
        for name, value in table.properties.items()
        if name.startswith(COMMITTED)
    }
    oldest = sorted(known, key=lambda event: max(known[event], default=""))
    beyond = [event for event in oldest[: max(len(oldest) - KEPT, 0)] if event not in in_use]
    stems = {_stem(file.file_path) for file in _data_files(table)} if beyond else set()
    return [event for event in beyond if stems.issuperset(f"{name}-{event}" for name in known[event])]


def name_of(slice_: SliceId) -> str:
    """Return the prefix of the names of a slice's files."""
    start = slice_.start.astimezone(UTC)
    fraction = f"{start.microsecond:06d}" if start.microsecond else ""
    return f"{start.year:04d}{start:%m%dT%H%M%S}{fraction}Z-g{slice_.generation}"


def _place(table: Table) -> LakePlace:
    snapshot = table.current_snapshot()
    return LakePlace(_as_path(table.location()), "iceberg", snapshot.snapshot_id if snapshot else None)


def _data_files(table: Table) -> Iterator[DataFile]:
    return (task.file for task in table.scan().plan_files())


def _stem(path: str) -> str:
    """Return a data file's name without its number."""
    return PurePosixPath(path).stem.rpartition("-")[0]


def _as_url(path: str) -> str:
    """Return a path as a URL: Spark looks up one without a scheme in its default file system."""
    return f"file://{path}" if path.startswith("/") else path


def _as_path(url: str) -> str:
    return url.removeprefix("file://")


@contextmanager
def _answering(doing: str) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, RESTError, OSError) as error:
        raise Unavailable("lake", f"{doing}: {error}") from error
