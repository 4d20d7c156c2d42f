"""The one folder with everything that the devkit puts on a machine, and the installation of its parts.

- `parts/<name>-<version>-<recipe digest>/`: what was installed, each with a stamp
- `stacks/<name>/`: data, logs and process ids of one stack
- `logs/`: what the installing programs printed
- `locks/`: the locks of running work

A part is built under a temporary name and renamed when it is complete, so that an interrupted
set-up leaves nothing that could be mistaken for a finished one.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tidemill_devkit.stack.processes import kill_marked
from tidemill_devkit.stack.shell import check

STAMP = ".complete"


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """TIDEMILL_CACHE, else `tidemill` in the XDG cache folder (absolute; need not exist yet)."""
    variables = os.environ if environ is None else environ
    chosen = variables.get("TIDEMILL_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    xdg = variables.get("XDG_CACHE_HOME")
    base = Path(xdg) if xdg else Path.home() / ".cache"
    return base.absolute() / "tidemill"


@contextmanager
def locked(name: str, *, cache: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock `name` (freed by the kernel if the process dies); `on_wait` is called if another has it."""
    path = cache / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _locked_file(path, on_wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _locked_file(path: Path, on_wait: Callable[[], None] | None) -> TextIO:
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        # its holder has removed the file: this lock may be of a name that others no longer see
        if _is_at(path, file):
            return file
        file.close()


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return path.stat().st_ino == os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class Part:
    """Something to install; `recipe` is the text that decides the content, so a new one is a new part."""

    name: str
    version: str
    recipe: str

    def folder(self, cache: Path) -> Path:
        digest = hashlib.sha256(self.recipe.encode()).hexdigest()[:8]
        return cache / "parts" / f"{self.name}-{self.version}-{digest}"

    def is_installed(self, cache: Path) -> bool:
        return (self.folder(cache) / STAMP).is_file()


def ensure(
    part: Part,
    build: Callable[[Path], None],
    *,
    cache: Path,
    on_wait: Callable[[], None] | None = None,
) -> Path:
    """The folder of `part`, built by `build(temporary folder)` unless it is there already."""
    folder = part.folder(cache)
    if part.is_installed(cache):
        return folder
    with locked(folder.name, cache=cache, on_wait=on_wait):
        if not part.is_installed(cache):
            _build(part, build, folder)
    return folder


def _build(part: Part, build: Callable[[Path], None], folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    for leftover in (folder, *folder.parent.glob(f"{folder.name}.partial-*")):
        remove_tree(leftover)
    partial.mkdir(parents=True)
    try:
        build(partial)
    except BaseException:
        remove_tree(partial)
        raise
    (partial / STAMP).write_text(f"{part.name} {part.version}\n{part.recipe}\n")
    partial.rename(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that an interrupted installation may have left in it.

    A set-up that was killed can leave programs running inside a half-made Debian root and file
    systems mounted there; deleting through a mount would delete what is mounted.
    """
    if not folder.exists():
        return
    kill_marked(folder)
    unmount_below(folder)
    shutil.rmtree(folder)


def mounts_below(folder: Path) -> list[str]:
    """Mount points inside `folder`, the innermost first."""
    inside = f"{folder.resolve()}/"
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    decoded = [point.encode().decode("unicode_escape") for point in points]
    return sorted((point for point in decoded if point.startswith(inside)), reverse=True)


def unmount_below(folder: Path) -> None:
    """Unmount everything inside `folder`, the innermost first."""
    for point in mounts_below(folder):
        check(["umount", point])
