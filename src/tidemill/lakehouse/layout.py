"""Where the files of a copy are, and the manifest beside the tables.

    <root>/<schema>.<table>/<range start>-g<generation>-<event id>-<n>.parquet
    <root>/_tidemill/<schema>.<table>/<range start>-g<generation>-<event id>.manifest.json
    <root>/_tidemill/<schema>.<table>/unfinished/    files that are being written

A table's folder holds its rows and nothing else, in no folder `name=value`: readers take such names for columns,
and read whatever has a visible name, some of them what has a hidden one too. Below an Iceberg table's folder, rows
are in `data`, as is usual there. Until version 0.4, files and manifests were in `<schema>.<table>/year=2026/month=03/`,
by the start of the range: such copies are found, and removed when they are superseded, but not made.

Names depend on nothing but slice, event and number: a second attempt finds the files of the first. A copy without
a manifest does not count: the manifest is written last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import count, takewhile
from typing import Any, Final
from urllib.parse import quote

from tidemill.domain.archive.slices import LakeColumn, LakeFile, LakeType, Measured, SliceId
from tidemill.domain.errors import CopyError
from tidemill.lakehouse.locations import LakeLocation
from tidemill.lakehouse.uncommitted_files import ON_ANOTHER_DISK

VERSION: Final = 2
_IN_ONE_FOLDER: Final = 1
"""The version of manifests whose files are beside them."""

ICEBERG_DATA: Final = "data"
"""The folder of an Iceberg table's rows, beside its metadata."""

_OWN: Final = "_tidemill"
"""The folder of everything that is not rows, below the root; a table's has a dot in its name."""

_MANIFEST: Final = ".manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a copy. `files` have paths that can be opened directly (URLs, or paths of this machine)."""

    slice: SliceId
    event_id: str
    time_column: str
    columns: tuple[LakeColumn, ...]
    measured: Measured
    files: tuple[LakeFile, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one copy's files: rows in `folder`, its manifest in `records`."""

    folder: LakeLocation
    records: LakeLocation
    unfinished: LakeLocation
    stem: str

    @classmethod
    def of(cls, root: LakeLocation, slice_: SliceId, event_id: str, rows_in: str = "") -> Names:
        """Return the names of a new copy of a slice for an event. `rows_in`: a folder of the table's for rows."""
        folder = root.below(table_folder(slice_.table), *([rows_in] if rows_in else []))
        records = root.below(_OWN, table_folder(slice_.table))
        return cls(folder, records, records.below("unfinished"), _stem(slice_, event_id))

    @classmethod
    def all_of(cls, root: LakeLocation, slice_: SliceId, event_id: str) -> list[Names]:
        """Return all names that a copy may have: of either format, and of versions before 0.5."""
        start = slice_.start.astimezone(UTC)
        month = root.below(_former_folder(slice_.table), f"year={start.year:04d}", f"month={start.month:02d}")
        return [
            cls.of(root, slice_, event_id),
            cls.of(root, slice_, event_id, ICEBERG_DATA),
            cls(month, month, month, _stem(slice_, event_id)),
        ]

    def file(self, number: int) -> LakeLocation:
        """Return where the file of this number goes."""
        return self.folder.below(f"{self.stem}-{number}.parquet")

    @property
    def manifest(self) -> LakeLocation:
        """Where the manifest goes."""
        return self.records.below(self.stem + _MANIFEST)

    def existing(self) -> list[LakeLocation]:
        """Return all files of the copy, complete or not, in the order in which they are to be removed.

        The manifest is first, the file 0 of the rows last: while rows are left, they are found from 0 on. The folder
        of all rows of the table is not listed: it may hold any number of files.
        """
        ours = re.compile(rf"\.?{re.escape(self.stem)}(-\d+\.parquet|{re.escape(_MANIFEST)})(\.\w+\.tmp)?")
        places = (self.unfinished, self.folder.below(ON_ANOTHER_DISK))
        listed = [place.below(name) for place in places for name in place.names() if ours.fullmatch(name)]
        rows = list(takewhile(LakeLocation.exists, map(self.file, count())))
        known = [self.manifest, *listed] if self.manifest.exists() else listed
        return list({place.path: place for place in [*known, *reversed(rows)]}.values())


def table_folder(table: str) -> str:
    """Return the folder's name for `schema.table`: it is not a hidden one, or Spark would skip what is in it."""
    return re.sub(r"^[._]", lambda hiding: f"%{ord(hiding[0]):02X}", quote(table, safe="._-"))


def _former_folder(table: str) -> str:
    """Return the name that the folder had in versions before 0.5."""
    return quote(table, safe="._-").lstrip(".") or "%2E"


def _stem(slice_: SliceId, event_id: str) -> str:
    return f"{_compact(slice_.start.astimezone(UTC))}-g{slice_.generation}-{_plain(event_id)}"


def to_json(manifest: Manifest, names: Names) -> bytes:
    """Return a manifest as it is stored: `folder` below the root, and the files' names in it."""
    body = asdict(manifest)
    body["measured"] = manifest.measured._asdict()
    body["files"] = [file._asdict() | {"path": file.path.rpartition("/")[2]} for file in manifest.files]
    above = _root_of(names.manifest.path)
    stored = {"version": VERSION, "folder": names.folder.path.removeprefix(above + "/")} | body
    return json.dumps(stored, indent=1, default=_told, ensure_ascii=False).encode() + b"\n"


def from_json(text: bytes, place: LakeLocation) -> Manifest:
    """Return the manifest stored at `place`.

    Raises:
        CopyError: it is not one, or of a later version.
    """
    try:
        body = json.loads(text)
        if body["version"] == _IN_ONE_FOLDER:
            return _manifest(body, place.url.rpartition("/")[0])
        if body["version"] != VERSION:
            raise CopyError(place.url, f"its manifest is of version {body['version']}, not {VERSION}")
        return _manifest(body, f"{_root_of(place.url)}/{_plain_folder(body['folder'])}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CopyError(place.url, f"this is not a manifest: {error!r}") from error


def stored_manifests(root: LakeLocation, table: str) -> Iterator[LakeLocation]:
    """Yield where the manifests of a table's copies are."""
    for folder in (root.below(_OWN, table_folder(table)), root.below(_former_folder(table))):
        yield from (place for place in folder.files() if place.path.endswith(_MANIFEST))


def _manifest(body: dict[str, Any], folder: str) -> Manifest:
    measured = Measured(**body["measured"])
    slice_ = SliceId(**body["slice"])
    return Manifest(
        slice=replace(slice_, start=_instant(body["slice"]["start"]), end=_instant(body["slice"]["end"])),
        event_id=body["event_id"],
        time_column=body["time_column"],
        columns=tuple(
            LakeColumn(**column | {"type": LakeType(column["type"])}) for column in body["columns"]
        ),
        measured=measured._replace(
            min_time=_instant(body["measured"]["min_time"]), max_time=_instant(body["measured"]["max_time"])
        ),
        files=tuple(
            LakeFile(**file)._replace(path=f"{folder}/{_name_only(file['path'])}") for file in body["files"]
        ),
    )


def _root_of(manifest: str) -> str:
    """Return the root of the lake that a manifest of this version is in."""
    return manifest.rsplit("/", 3)[0]


def _plain_folder(folder: str) -> str:
    if any(part in ("", ".", "..") for part in folder.replace("\\", "/").split("/")):
        raise ValueError(f"{folder!r} is not a folder below the root")
    return folder


def _name_only(name: str) -> str:
    if "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is not in the manifest's own folder")
    return name


def _instant(text: str | None) -> Any:
    return None if text is None else datetime.fromisoformat(text)


def _told(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} does not go into a manifest")


def _compact(instant: datetime) -> str:
    """Return an instant for a file name, to the second if it has no fraction."""
    fraction = f"{instant.microsecond:06d}" if instant.microsecond else ""
    date = f"{instant.year:04d}{instant.month:02d}{instant.day:02d}"
    return f"{date}T{instant.hour:02d}{instant.minute:02d}{instant.second:02d}{fraction}Z"


def _plain(text: str) -> str:
    """Return a text as one part of a path, readable where possible."""
    return quote(text, safe="._-").lstrip(".") or "%2E"
