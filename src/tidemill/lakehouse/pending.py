"""Files that nobody sees until they are whole: renamed into place, or put as one object."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from tidemill.lakehouse.places import Place

_UNSYNCED_BYTES: Final = 16 << 20
"""So much goes to disk at a time: a whole file at its end would hold up the commits of a database beside it."""


class PendingFile:
    """A file being written: `close` it, then `commit` or `discard` it. Its sha256 is taken on the way."""

    def __init__(self, place: Place) -> None:
        """Begin it; what was at `place` before stays until `commit`."""
        self.place = place
        self.size_bytes = 0
        self._unsynced_bytes = 0
        self._hash = hashlib.sha256()
        self._temporary = _beside(Path(place.path)) if place.is_local else None
        self._file: Any  # a file, or fsspec's, which can also be committed
        if self._temporary is not None:
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("wb")
        else:
            self._file = place.storage.open(place.path, "wb", autocommit=False)

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
        """Do nothing: only the whole file counts."""

    def close(self) -> None:
        """Let nothing more be written; local bytes are on disk when this returns."""
        if self._file.closed:
            return
        if self._temporary is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()

    def commit(self) -> None:
        """Put it in place of what was there."""
        self.close()
        if self._temporary is None:
            self._file.commit()
            return
        self._temporary.replace(self.place.path)
        folder = os.open(self._temporary.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Forget it."""
        if self._temporary is None:
            self._file.discard()
            return
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Return a name in the same folder, hidden from those who read `*.parquet`."""
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
