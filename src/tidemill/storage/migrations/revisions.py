"""The revisions as Alembic reads them: their order, their heads, and the creation of a new one."""

from __future__ import annotations

import io
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import alembic.command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError

from tidemill.admin.setup.revisions import NextRevision
from tidemill.domain.errors import ContractError, UsageError
from tidemill.runtime.resources import migrations_dir
from tidemill.storage.migrations.folders import CORE, Contexts, folders_of

VERSION_TABLE: Final = "tidemill_version"
"""Alembic's own table in schema public: the newest revision of every branch."""

_BRANCH = re.compile(r"[a-z][a-z0-9_]*")

_NEEDED: Final = "needed"


def alembic_config(contexts: Contexts = None) -> Config:
    """Return Alembic's configuration: the folders that are needed, and all other built-in ones. No file is read.

    Raises:
        ContractError: a folder of `contexts` does not exist.
    """
    folders = folders_of(contexts)
    config = Config(stdout=io.StringIO(), cmd_opts=Namespace(quiet=True))
    config.attributes[_NEEDED] = set(folders.needed.values())
    for option, value in {
        "script_location": str(migrations_dir()),
        "path_separator": "newline",  # a character that paths do not have
        "version_locations": "\n".join(map(str, folders.all.values())),
    }.items():
        config.set_main_option(option, value.replace("%", "%%"))
    return config


def is_needed(revision: Script, config: Config) -> bool:
    """Return whether the deployment needs a revision: it is one of the core, or of a context that was chosen."""
    return Path(revision.path).parent in config.attributes[_NEEDED]


def needed_heads(config: Config) -> tuple[str, ...]:
    """Return the newest revisions that the deployment needs. Raises what `script_directory` raises."""
    script = script_directory(config)
    return tuple(head for head in script.get_heads() if is_needed(script.get_revision(head), config))


def script_directory(config: Config) -> ScriptDirectory:
    """Return the revisions of all branches, read and checked.

    Raises:
        ContractError: two revisions share a name, or one names a parent that does not exist.
    """
    script = ScriptDirectory.from_config(config)
    try:
        script.get_heads()
    except (CommandError, KeyError, UserWarning) as error:
        raise ContractError(f"the migrations do not fit together: {error}") from error
    return script


def branch_of(revision: Script) -> str:
    """Return the branch that a revision belongs to: `core`, or the name of a context."""
    return next(iter(sorted(revision.branch_labels)), revision.revision.rpartition("_")[0])


def described(revision: Script) -> str:
    """Return a revision's description, in one line."""
    return (revision.doc or "").strip().rstrip(".")


def own_revisions(script: ScriptDirectory) -> Iterator[Script]:
    """Yield all revisions, parents first, branch by branch."""
    found = reversed(list(script.walk_revisions()))
    yield from sorted(found, key=lambda revision: (branch_of(revision) != CORE, branch_of(revision)))


def draft(branch: str, what: str, *, folder: Path | None = None) -> Path:
    """Create a revision at the end of `branch` and return its file, which states the rules to keep.

    A new branch is created in `folder` or, for a built-in context, in the folder of its name.

    Raises:
        UsageError: `branch` or `what` is not a valid name.
    """
    if not _BRANCH.fullmatch(branch) or not what.strip():
        raise UsageError(
            f"migrations {branch!r}, {what!r}: expected a context's name and a short description"
        )
    place = folder or migrations_dir() / branch
    place.mkdir(parents=True, exist_ok=True)
    config = alembic_config({branch: folder})
    number = 1 + sum(branch_of(revision) == branch for revision in own_revisions(script_directory(config)))
    config.set_main_option("file_template", f"{number:04d}_%%(slug)s")
    made = alembic.command.revision(
        config,
        message=what,
        rev_id=f"{branch}_{number:04d}",
        head=f"{branch}@head" if number > 1 else "base",
        branch_label=branch if number == 1 else None,
        version_path=str(place) if number == 1 else None,
        depends_on=f"{CORE}_0001" if number == 1 else None,
    )
    if not isinstance(made, Script):
        raise ContractError(f"Alembic began no revision of {branch}")
    return Path(made.path)


def next_revision(branch: str, folder: Path | None = None) -> NextRevision:
    """Return where the next revision of `branch` belongs, in `folder` or in the built-in folder of its name.

    Raises:
        ContractError: the revisions do not fit together, or the branch has two ends.
    """
    place = (folder or migrations_dir() / branch).resolve()
    if not place.is_dir():
        return NextRevision(branch, 1, place)
    script = script_directory(alembic_config({branch: folder}))
    own = [
        revision.revision
        for revision in own_revisions(script)
        if Path(revision.path).resolve().parent == place
    ]
    ends = [name for name in own if name in script.get_heads()]
    if len(ends) > 1:
        raise ContractError(
            f"{branch} has two newest revisions, {' and '.join(sorted(ends))}: let one revise the other"
        )
    return NextRevision(branch, len(own) + 1, place, (*(name for name in own if name not in ends), *ends))
