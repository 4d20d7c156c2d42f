"""Files that are invisible until they are committed: renamed into place, or uploaded and completed as one object.

Until then they are in a folder apart: some readers of folders do not even leave out names that begin with a dot.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final
from uuid import uuid4

from tidemill.lakehouse.locations import LakeLocation

_COMPLETING: Final = frozenset({"s3", "s3a", "gs", "gcs"})
"""Storage whose files are visible when they are committed; other kinds of fsspec may ignore `autocommit=False`."""

ON_ANOTHER_DISK: Final = "_tidemill"
"""The folder for unfinished files below a folder that is not on the disk of the others."""

_LOCK_TRIES: Final = 100
_LOCK_PAUSE_S: Final = 0.1

_UNSYNCED_BYTES: Final = 16 << 20
"""The bytes synced to disk at a time: a whole file at once would delay the commits of a database on the same disk."""


class PendingFile:
    """A file being written: `close` it, then `commit` or `discard` it. Its sha256 is computed while it is written."""

    def __init__(self, place: LakeLocation, unfinished: LakeLocation) -> None:
        """Start it in the folder `unfinished`; the old file at `place` stays until `commit`."""
        self.place = place
        self.size_bytes = 0
        self._unsynced_bytes = 0
        self._hash = hashlib.sha256()
        hidden = _hidden(PurePosixPath(place.path).name)
        self._temporary = _on_one_disk(place, unfinished) / hidden if place.is_local else None
        self._staged: LakeLocation | None = None
        self._file: Any  # a file, or fsspec's, which can also be committed
        if self._temporary is not None:
            self._file = self._temporary.open("wb")
        elif place.is_of(_COMPLETING):
            self._file = place.storage.open(place.path, "wb", autocommit=False)
        else:
            self._staged = unfinished.below(hidden)
            self._file = place.storage.open(self._staged.path, "wb")

    @property
    def sha256(self) -> str:
        """Return the hash of all that was written, hexadecimal."""
        return self._hash.hexdigest()

    @property
    def closed(self) -> bool:
        """Whether it is complete: Arrow asks."""
        return bool(self._file.closed)

    def write(self, data: Any) -> int:
        """Append bytes."""
        view = memoryview(data)
        self._hash.update(view)
        self._file.write(view)
        self.size_bytes += view.nbytes
        self._unsynced_bytes += view.nbytes
        if self._temporary is not None and self._unsynced_bytes >= _UNSYNCED_BYTES:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._unsynced_bytes = 0
        return view.nbytes

    def flush(self) -> None:
        """Do nothing: only the complete file counts."""

    def close(self) -> None:
        """End writing; local bytes are on disk when this returns."""
        if self._file.closed:
            return
        if self._temporary is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()

    def commit(self) -> None:
        """Move it into its place, replacing what was there."""
        self.close()
        if self._staged is not None:
            _make_folder(self.place)
            self._staged.storage.mv(self._staged.path, self.place.path)
            return
        if self._temporary is None:
            self._file.commit()
            return
        self._temporary.replace(self.place.path)
        folder = os.open(Path(self.place.path).parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Forget it."""
        if self._staged is not None:
            self._file.close()
            if self._staged.storage.exists(self._staged.path):
                self._staged.storage.rm_file(self._staged.path)
            return
        if self._temporary is None:
            self._file.discard()
            return
        self._file.close()
        self._temporary.unlink(missing_ok=True)


@contextmanager
def alone(folder: LakeLocation) -> Iterator[None]:
    """Lock out other processes of this machine that put files in place here; other storage has no such lock.

    Raises:
        TimeoutError: another process holds the lock for long.
    """
    if not folder.is_local:
        yield
        return
    Path(folder.path).mkdir(parents=True, exist_ok=True)
    handle = os.open(folder.path, os.O_RDONLY)
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)  # which releases the lock


def _lock(handle: int, folder: LakeLocation) -> None:
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Event().wait(_LOCK_PAUSE_S)
        except (
            OSError
        ):  # a file system without such locks: its writers are not synchronised, as on other storage
            return
        else:
            return
    waited_s = _LOCK_TRIES * _LOCK_PAUSE_S
    raise TimeoutError(f"another process has been putting files into {folder.url} for {waited_s:.0f} s")


def _on_one_disk(place: LakeLocation, unfinished: LakeLocation) -> Path:
    """Make both folders; return the one to write in, from which a rename leads into place.

    A table's folder may be a link to another disk, or a mount point: then it is one in that folder.
    """
    target, apart = Path(place.path).parent, Path(unfinished.path)
    for folder in (target, apart):
        folder.mkdir(parents=True, exist_ok=True)
    if _disk_of(apart) == _disk_of(target):
        return apart
    inside = target / ON_ANOTHER_DISK
    inside.mkdir(exist_ok=True)
    return inside


def _disk_of(folder: Path) -> int:
    return folder.stat().st_dev


def _make_folder(place: LakeLocation) -> None:
    """Make the folder of a place in a storage whose renames need one; where that fails, the rename shows it."""
    folder = LakeLocation(place.storage, str(PurePosixPath(place.path).parent))
    if not folder.exists():
        with suppress(Exception):  # each storage has errors of its own, and some have no folders
            folder.storage.makedirs(folder.path, exist_ok=True)


def _hidden(name: str) -> str:
    """Return a name for the same folder, hidden from readers of `*.parquet`."""
    return f".{name}.{uuid4().hex[:8]}.tmp"
