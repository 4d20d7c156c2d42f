"""Which contexts this deployment has: the built-in ones by folder, the others by entry point.

A plug-in is a distribution whose entry point in the group `tidemill.contexts` names its `Context`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

import tidemill.contexts
from tidemill.domain.context import Context
from tidemill.domain.errors import ContractError

GROUP: Final = "tidemill.contexts"


def load_contexts() -> tuple[Context, ...]:
    """Return all contexts, the built-in ones first.

    Raises:
        ContractError: one cannot be loaded, is no `Context`, or has the aggregate of another.
    """
    return _distinct([*_built_in(), *_plugged_in()])


def migration_locations(contexts: Iterable[Context]) -> tuple[Path, ...]:
    """Return the folders of migrations that plug-ins bring; the built-in ones are found by the runner itself."""
    return tuple(context.migrations for context in contexts if context.migrations is not None)


def _built_in() -> Iterator[tuple[str, Context]]:
    for module in iter_modules(tidemill.contexts.__path__, f"{tidemill.contexts.__name__}."):
        if module.ispkg:
            yield module.name, _context(module.name, getattr(import_module(module.name), "context", None))


def _plugged_in() -> Iterator[tuple[str, Context]]:
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        yield _origin(entry), _context(_origin(entry), _loaded(entry))


def _loaded(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ContractError(f"{_origin(entry)} cannot be loaded: {error}; mend or uninstall it") from error


def _origin(entry: EntryPoint) -> str:
    return f"entry point {entry.name} of {entry.dist.name if entry.dist else 'an unnamed distribution'}"


def _context(origin: str, found: object) -> Context:
    if not isinstance(found, Context):
        raise ContractError(f"{origin} gives {found!r}, not a Context: see docs/tutorial.md")
    return found


def _distinct(found: Iterable[tuple[str, Context]]) -> tuple[Context, ...]:
    """Refuse two contexts with one aggregate, which would share topics, or one name, which would share migrations."""
    seen: dict[str, tuple[str, Context]] = {}
    for origin, context in found:
        if context.name in seen:
            raise ContractError(
                f"{seen[context.name][0]} and {origin} both declare {context.aggregate}: rename one of them"
            )
        seen[context.name] = (origin, context)
    return tuple(context for _, context in seen.values())
