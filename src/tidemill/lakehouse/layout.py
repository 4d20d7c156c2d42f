"""Where the files of a copy are, and the manifest beside them.

    <root>/<schema>.<table>/year=2026/month=03/<range start>-g<generation>-<event id>-<n>.parquet
    <root>/<schema>.<table>/year=2026/month=03/<range start>-g<generation>-<event id>.manifest.json

Names depend on nothing but slice, event and number: a second attempt finds the files of the first. A copy without
a manifest does not count: the manifest is written last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from tidemill.domain.archive.slices import LakeColumn, LakeFile, LakeType, Measured, SliceId
from tidemill.domain.errors import CopyError
from tidemill.lakehouse.locations import LakeLocation

VERSION: Final = 1
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
    """The names of one copy's files."""

    folder: LakeLocation
    stem: str

    @classmethod
    def of(cls, root: LakeLocation, slice_: SliceId, event_id: str) -> Names:
        """Return the names of a slice's copy for an event."""
        start = slice_.start.astimezone(UTC)
        folder = root.below(table_folder(slice_.table), f"year={start.year:04d}", f"month={start.month:02d}")
        return cls(folder, f"{_compact(start)}-g{slice_.generation}-{_plain(event_id)}")

    def file(self, number: int) -> LakeLocation:
        """Return where the file of this number goes."""
        return self.folder.below(f"{self.stem}-{number}.parquet")

    @property
    def manifest(self) -> LakeLocation:
        """Where the manifest goes."""
        return self.folder.below(self.stem + _MANIFEST)

    def existing(self) -> list[LakeLocation]:
        """Return all files of the copy, complete or not: the manifest first, so that it is removed first."""
        ours = re.compile(rf"\.?{re.escape(self.stem)}(-\d+\.parquet|{re.escape(_MANIFEST)})(\.\w+\.tmp)?")
        found = [name for name in self.folder.names() if ours.fullmatch(name)]
        return [
            self.folder.below(name) for name in sorted(found, key=lambda name: (_MANIFEST not in name, name))
        ]


def table_folder(table: str) -> str:
    """Return the folder's name for `schema.table`."""
    return _plain(table)


def to_json(manifest: Manifest) -> bytes:
    """Return a manifest as it is stored: paths are the files' names in its own folder."""
    body = asdict(manifest)
    body["measured"] = manifest.measured._asdict()
    body["files"] = [file._asdict() | {"path": file.path.rpartition("/")[2]} for file in manifest.files]
    return (
        json.dumps({"version": VERSION} | body, indent=1, default=_told, ensure_ascii=False).encode() + b"\n"
    )


def from_json(text: bytes, place: LakeLocation) -> Manifest:
    """Return the manifest stored at `place`.

    Raises:
        CopyError: it is not one, or of a later version.
    """
    try:
        body = json.loads(text)
        if body["version"] != VERSION:
            raise CopyError(place.url, f"its manifest is of version {body['version']}, not {VERSION}")
        return _manifest(body, place.url.rpartition("/")[0])
    except (ValueError, KeyError, TypeError) as error:
        raise CopyError(place.url, f"this is not a manifest: {error!r}") from error


def stored_manifests(folder: LakeLocation) -> Iterator[LakeLocation]:
    """Yield where the manifests below a folder are."""
    return (place for place in folder.files() if place.path.endswith(_MANIFEST))


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
