"""The contexts of this deployment: the built-in ones by folder, the others by entry point.

A plug-in is a distribution whose entry point in the group `tidemill.contexts` names its `Context`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

import tidemill.contexts
from tidemill.domain.context import Context
from tidemill.domain.errors import ContractError, UsageError

GROUP: Final = "tidemill.contexts"

ALL: Final = "all"


def load_contexts(chosen: str | None = None) -> tuple[Context, ...]:
    """Return the chosen contexts, the built-in ones first.

    `chosen`: names separated by commas, or `all`; None: the usual built-in ones and every plug-in.

    Raises:
        ContractError: one cannot be loaded, is not a `Context`, or has the aggregate of another.
        UsageError: a name is unknown; the message lists the known ones.
    """
    built_in, plugged_in = _built_in(), list(_plugged_in())
    if chosen is None:
        return _distinct([*_loaded_of(built_in, tidemill.contexts.BY_DEFAULT), *plugged_in])
    names = {_name(written) for written in chosen.split(",")}
    known = built_in.keys() | {context.name for _, context in plugged_in}
    if ALL in names:
        names = known
    if unknown := names - known:
        raise UsageError(
            f"TIDEMILL_CONTEXTS: unknown context {', '.join(sorted(map(repr, unknown)))}; "
            f"expected {ALL}, or some of {', '.join(sorted(known))}"
        )
    installed = [(origin, context) for origin, context in plugged_in if context.name in names]
    return _distinct([*_loaded_of(built_in, names), *installed])


def migration_folders(contexts: Iterable[Context]) -> dict[str, Path | None]:
    """Return where the migrations of each context are, by its name; None: where the built-in ones are, or none."""
    return {context.name: context.migrations for context in contexts}


def _name(written: str) -> str:
    """Return the name of a context, which may be written like its aggregate."""
    return written.strip().replace("-", "_")


def _built_in() -> dict[str, str]:
    """Return the module of each built-in context, by name. None is imported yet."""
    found = iter_modules(tidemill.contexts.__path__, f"{tidemill.contexts.__name__}.")
    return {module.name.rpartition(".")[2]: module.name for module in found if module.ispkg}


def _loaded_of(modules: Mapping[str, str], names: Collection[str]) -> Iterator[tuple[str, Context]]:
    for module in (module for name, module in modules.items() if name in names):
        yield module, _context(module, getattr(import_module(module), "context", None))


def _plugged_in() -> Iterator[tuple[str, Context]]:
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        yield _origin(entry), _context(_origin(entry), _loaded(entry))


def _loaded(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ContractError(f"{_origin(entry)} cannot be loaded: {error}; fix or uninstall it") from error


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
