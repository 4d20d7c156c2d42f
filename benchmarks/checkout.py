"""A version of Tidemill as somebody else has it: a folder with a git checkout, and a Python environment of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import ROOT


@dataclass(frozen=True)
class Version:
    """One side of a comparison. `commit`: what is checked out, with a mark if files differ from it."""

    root: Path
    commit: str

    @property
    def python(self) -> Path:
        """Return the interpreter of its environment."""
        return self.root / ".venv" / "bin" / "python"

    @classmethod
    def at(cls, root: Path) -> Version:
        """Return the version in a folder, its environment made. Raises `SystemExit` where that cannot be."""
        missing = [name for name in ("Makefile", "pyproject.toml", "schemas") if not (root / name).exists()]
        if missing:
            raise SystemExit(f"{root} is no checkout of Tidemill: it has no {missing[0]}")
        _run(["make", ".venv/.installed"], root, f"the environment of {root} could not be made")
        return cls(root, _git(root, "describe", "--always", "--dirty"))


@contextmanager
def checked_out(named: str) -> Iterator[Path]:
    """Yield the folder that `named` is; for a revision of this repository one that ends with the block."""
    if Path(named).is_dir():
        yield Path(named).resolve()
        return
    try:
        commit = _git(ROOT, "rev-parse", "--verify", "--quiet", f"{named}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{named} is neither a folder nor a revision of this repository") from error
    with tempfile.TemporaryDirectory(prefix="tidemill-against-") as folder:
        root = Path(folder) / commit[:12]
        _git(ROOT, "worktree", "add", "--detach", str(root), commit)
        try:
            yield root
        finally:
            _git(ROOT, "worktree", "remove", "--force", str(root))


def _git(root: Path, *arguments: str) -> str:
    said = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return said.stdout.strip()


def _run(command: list[str], root: Path, fault: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=root, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{fault}:\n{done.stdout}{done.stderr}")
