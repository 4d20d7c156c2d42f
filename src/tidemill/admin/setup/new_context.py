"""A new context: its package is written, and its schemas and its first revision are drafted from it."""

from __future__ import annotations

import importlib
import keyword
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tidemill.admin.setup.context_files import ContextNames, entity_files, fact_files
from tidemill.admin.setup.schema_drafts import draft_missing_schemas
from tidemill.admin.setup.tables import TableSetup
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.context import Context
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.stream import Stream

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*")
_PLURALS: Final = (("ies", "y"), ("sses", "ss"), ("ss", "ss"), ("s", ""))


@dataclass(frozen=True)
class NewContext:
    """A context that was written. `folder`: of its project. `files`: all of them. `command`: its first command."""

    aggregate: str
    folder: Path
    files: Sequence[Path]
    command: str
    read_model: str


async def write_context(name: str, directory: Path, tables: TableSetup, *, facts: bool) -> NewContext:
    """Write the package of a new context into a folder of its name below `directory`; no server is needed.

    Raises:
        UsageError: the name is not valid or taken, or the folder exists.
    """
    names = _names(name, tables.catalog)
    folder = directory / names.aggregate
    if folder.exists():
        raise UsageError(f"{folder} exists", code=ErrorCode.NAME_IN_USE)
    files = fact_files(names) if facts else entity_files(names)
    for path, text in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    with _imported(folder, names.package) as context:
        part = ContextStream(context, Stream.of(context))
        schemas = draft_missing_schemas(part)
        setup = replace(tables, catalog=StreamCatalog({context.aggregate: part}))
        revision = await setup.draft(context.aggregate, from_nothing=True)
    if revision is None:
        raise ContractError(f"{name} declares no table")
    revision.write()
    return NewContext(
        aggregate=names.aggregate,
        folder=folder,
        files=[*(folder / path for path in files), *schemas.written, revision.path],
        command=context.commands[0].model.__name__,
        read_model=next(iter(setup.catalog.readable())),
    )


def _names(name: str, catalog: StreamCatalog) -> ContextNames:
    aggregate = name.replace("_", "-")
    package = aggregate.replace("-", "_")
    if not _NAME.fullmatch(aggregate) or keyword.iskeyword(package):
        raise UsageError(f"{name!r}: expected lower-case words joined by hyphens, such as tide-gauges")
    if aggregate in catalog.streams:
        raise UsageError(f"there is a context {aggregate}", code=ErrorCode.NAME_IN_USE)
    if find_spec(package) is not None:
        raise UsageError(f"this environment has a package {package}", code=ErrorCode.NAME_IN_USE)
    words = [word.capitalize() for word in aggregate.split("-")]
    words[-1] = _singular(words[-1])
    return ContextNames(aggregate, "".join(words))


def _singular(word: str) -> str:
    for plural, singular in _PLURALS:
        if word.endswith(plural) and len(word) > len(plural):
            return word.removesuffix(plural) + singular
    return word


@contextmanager
def _imported(folder: Path, package: str) -> Iterator[Context]:
    """Import a package that is not installed yet; afterwards this process knows nothing of it."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(package).context
    finally:
        sys.path.remove(str(folder))
        for module in [loaded for loaded in sys.modules if loaded.split(".")[0] == package]:
            del sys.modules[module]
