"""The folders of revisions, and the names of the revisions in them, read without running any.

Every folder is a branch: `core`, one per context, one per plug-in. A revision is named after its branch,
`market_data_0002`, and its file after its number, `0002_add_spread.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.domain.errors import ContractError
from tidemill.runtime.resources import migrations_dir

CORE: Final = "core"

Contexts = Mapping[str, Path | None] | None
"""What a deployment needs beside `core`: folder by context, None for the built-in folder of that name, if there is one.

None as a whole: every built-in context.
"""


@dataclass(frozen=True, slots=True)
class Folders:
    """`all`: folder by branch, those of the deployment and all other built-in ones; `needed`: the deployment's.

    The others are there because a database may hold revisions of a context that was chosen before.
    """

    all: Mapping[str, Path]
    needed: Mapping[str, Path]


def folders_of(contexts: Contexts = None) -> Folders:
    """Return the folders of revisions. No file is read.

    Raises:
        ContractError: a folder of `contexts` does not exist.
    """
    ours = {folder.name: folder for folder in _own_folders(migrations_dir())}
    brought = {name: path.resolve() for name, path in (contexts or {}).items() if path is not None}
    for folder in brought.values():
        if not folder.is_dir():
            raise ContractError(
                f"no folder of migrations at {folder}: create one with `tidemill migrate --new`, or correct the context"
            )
    folders = ours | brought
    needed = folders.keys() if contexts is None else {CORE, *contexts}
    return Folders(folders, {name: folder for name, folder in folders.items() if name in needed})


def needed_revisions(contexts: Contexts = None) -> list[str]:
    """Return the names of all revisions that the deployment needs: core's first, then by branch, then by number.

    They are read and not run: a process asks at every start, and Alembic takes longer to load than all else of it.

    Raises:
        ContractError: a folder of `contexts` does not exist; a file in one does not name its revision.
    """
    needed = sorted(folders_of(contexts).needed.items(), key=lambda item: (item[0] != CORE, item[0]))
    return [_name_in(file) for _branch, folder in needed for file in sorted(folder.glob("[!_.]*.py"))]


def _name_in(file: Path) -> str:
    body = ast.parse(file.read_bytes()).body
    names = [
        value.value
        for target, value in _assigned(body)
        if isinstance(target, ast.Name) and target.id == "revision" and isinstance(value, ast.Constant)
    ]
    if not names or not isinstance(names[0], str):
        raise ContractError(f'{file} does not name its revision: expected a line like revision = "core_0001"')
    return names[0]


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield what is assigned at the top of a module, those of `a, b = 1, 2` one by one."""
    for line in body:
        if isinstance(line, ast.AnnAssign) and line.value:
            yield line.target, line.value
        elif isinstance(line, ast.Assign):
            target, value = line.targets[0], line.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                yield from zip(target.elts, value.elts, strict=False)
            else:
                yield target, value


def _own_folders(root: Path) -> list[Path]:
    return sorted(
        folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(("_", "."))
    )
