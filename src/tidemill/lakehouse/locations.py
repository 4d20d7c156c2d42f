"""Places in a lake: a folder of this machine, or any URL that fsspec opens; and the check of paths in messages.

A message names files. Only files below a root that the operator allowed are opened for it, after symbolic
links are resolved: a path with `..`, of another kind of storage, or that chains file systems (`::`) is refused.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Final, Self, cast

import fsspec
import pyarrow as pa

from tidemill.domain.errors import CopyError, PathRefused, Unavailable, UsageError

_LOCAL: Final = ("file", "local")


@dataclass(frozen=True, slots=True)
class LakeLocation:
    """A file or folder: its storage, and its path there, without a trailing slash.

    `root`: below which it was allowed. Calls raise `Unavailable` where the storage does not answer, or refuses:
    that is no information about the file.
    """

    storage: Any
    path: str
    root: LakeLocation | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_root(cls, url: str, options: Mapping[str, Any] | None = None) -> LakeLocation:
        """Return a root as the operator configured it; `options` are fsspec's, for a root that is not a local folder.

        Raises:
            UsageError: fsspec does not know the storage, or its package is not installed.
        """
        if _is_local(url):
            return cls(fsspec.filesystem("file"), os.path.realpath(_local_path(url)))
        try:
            storage, path = fsspec.core.url_to_fs(url, **(options or {}))
        except (ImportError, ValueError) as error:
            raise UsageError(f"the lake {url} cannot be opened: {error}") from error
        return cls(storage, path.rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's disks."""
        return "file" in _protocols(self.storage)

    def is_of(self, kinds: Collection[str]) -> bool:
        """Whether fsspec knows the storage by one of these names."""
        return any(protocol in kinds for protocol in _protocols(self.storage))

    @property
    def url(self) -> str:
        """Return the name of the place for a message: a path if it is local, else a URL."""
        return self.path if self.is_local else str(self.storage.unstrip_protocol(self.path))

    def below(self, *parts: str) -> LakeLocation:
        """Return a place further down."""
        return replace(self, path=posixpath.join(self.path, *parts))

    def names(self) -> list[str]:
        """Return the names in a folder, none if it does not exist."""
        try:
            with _asking(self):
                found = self.storage.ls(self.path, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(path.rstrip("/")) for path in found)

    def exists(self) -> bool:
        """Tell whether there is a file or folder; fsspec's own answer is no where its storage does not answer."""
        try:
            with _asking(self):
                self.storage.invalidate_cache()
                self.storage.info(self.path)
        except FileNotFoundError:
            return False
        return True

    def files(self) -> list[LakeLocation]:
        """Return the place itself if it is a file, else all files below it."""
        with _asking(self):
            self.storage.invalidate_cache()
            found = sorted(self.storage.find(self.path))
        return [replace(self, path=path) for path in found]

    def size_bytes(self) -> int:
        """Return the file's size. Raises `CopyError` if it is not a file: a pipe would block without end."""
        if self.is_local:
            found = Path(self.path).stat()
            if not stat.S_ISREG(found.st_mode):
                raise CopyError(self.url, "it is not a regular file")
            return found.st_size
        with _asking(self):
            return int(self.storage.size(self.path) or 0)

    def open(self) -> IO[bytes]:
        """Open the file to read it. Raises `CopyError` if it is not a file."""
        self.size_bytes()
        with _asking(self):
            opened: IO[bytes] = self.storage.open(self.path, "rb")
        return opened if self.is_local else cast("IO[bytes]", _Asked(self, opened))

    def contains(self, other: LakeLocation) -> bool:
        """Tell whether the other place is this one, or below it."""
        return other.path == self.path or other.path.startswith(self.path.rstrip("/") + "/")


def allowed(path: str, roots: Sequence[LakeLocation]) -> LakeLocation:
    """Return the place that a message's `path` names, resolved, if it is below one of the roots.

    Raises:
        PathRefused: it is not, or it is not plain.
    """
    if not path.isprintable() or "::" in path or ".." in path.replace("\\", "/").split("/"):
        raise PathRefused(repr(path), "the path is not plain")
    for root in roots:
        place = _in_storage_of(root, path)
        if place is not None and root.contains(place):
            return replace(place, root=root)
    raise PathRefused(path, "it is not below an allowed root; see TIDEMILL_RETENTION_ROOTS")


_GONE: Final = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_UNANSWERED: Final = (PermissionError, TimeoutError, ConnectionError)
"""Errors that are not faults of a copy, with an error number or, as fsspec raises them, without."""


@contextmanager
def reading(place: LakeLocation) -> Iterator[None]:
    """Distinguish, inside the block, faults of a copy from faults of its storage."""
    try:
        yield
    except _GONE as error:
        raise absent(place, f"there is no such file: {error}") from error
    except pa.ArrowException as error:
        raise CopyError(place.url, str(error)) from error
    except OSError as error:
        if error.errno is not None or isinstance(error, _UNANSWERED):
            raise Unavailable("lake", f"{place.url}: {error!r}") from error
        # Arrow's own: cut off, or a page's checksum is wrong
        raise CopyError(place.url, str(error)) from error


def absent(place: LakeLocation, what: str) -> CopyError | Unavailable:
    """Return the error for a missing file; in an empty root the lake itself is missing."""
    if place.root is not None and not place.root.names():
        return Unavailable(
            "lake", f"{place.root.url} is empty: check that it is mounted, and that it is the right one"
        )
    return CopyError(place.url, what)


@contextmanager
def _asking(place: LakeLocation) -> Iterator[None]:
    """Raise what a storage raises inside the block as `Unavailable`, unless the file does not exist."""
    try:
        yield
    except _GONE:
        raise
    except OSError as error:
        raise Unavailable("lake", f"{place.url}: {error!r}") from error


class _Asked:
    """A file that is open in a storage: Arrow's mistakes and the storage's are both OSErrors without a number."""

    def __init__(self, place: LakeLocation, opened: IO[bytes]) -> None:
        self._place = place
        self._opened = opened

    def read(self, size: int = -1) -> bytes:
        with _asking(self._place):
            return self._opened.read(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._opened.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)


@contextmanager
def writing(place: str) -> Iterator[None]:
    """Raise what storage raises inside the block as `Unavailable`."""
    try:
        yield
    except OSError as error:
        raise Unavailable("lake", f"{place}: {error}") from error


def _in_storage_of(root: LakeLocation, path: str) -> LakeLocation | None:
    """Return a message's path as a place in a root's storage; None if it is of another kind."""
    if root.is_local:
        if not _is_local(path) or not _local_path(path).startswith("/"):
            return None
        return LakeLocation(root.storage, os.path.realpath(_local_path(path)))
    scheme, separator, _ = path.partition("://")
    if not separator or scheme not in _protocols(root.storage):
        return None
    return LakeLocation(root.storage, str(root.storage._strip_protocol(path)).rstrip("/"))  # noqa: SLF001  fsspec offers no other


def _protocols(storage: Any) -> tuple[str, ...]:
    return (storage.protocol,) if isinstance(storage.protocol, str) else tuple(storage.protocol)


def _is_local(url: str) -> bool:
    scheme, separator, _ = url.partition("://")
    return not separator or scheme in _LOCAL


def _local_path(url: str) -> str:
    return url.partition("://")[2] if "://" in url else url
