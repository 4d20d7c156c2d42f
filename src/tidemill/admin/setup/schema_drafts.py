"""The schemas of a context: drafted from its classes, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill.catalog.drafts import draft_schema, out_of_step, schema_text
from tidemill.catalog.schemas import Finding, Schema, check_schemas
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.errors import ContractError, UsageError
from tidemill.domain.messages import Message
from tidemill.runtime.resources import schemas_dir

_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class _Declared:
    """A command or event class of a context, and the place of its schema."""

    part: ContextStream
    model: type[Message]
    role: str

    @property
    def file(self) -> str:
        """The schema's path within the folder of schemas."""
        return f"{self.part.context.name}/{self.role}s/{self.model.__name__}.avsc"

    @property
    def path(self) -> Path:
        return self.part.schemas / self.file

    def text(self) -> str:
        """Return a draft of the schema. Raises `ContractError`."""
        return schema_text(draft_schema(self.model, self.part.context.avro_namespace))


def _declared(part: ContextStream) -> Iterator[_Declared]:
    for spec in part.context.commands:
        yield _Declared(part, spec.model, "command")
    for event in part.context.events:
        yield _Declared(part, event, "event")


# --- check -----------------------------------------------------------------------------------------------------------


def check(catalog: StreamCatalog) -> list[Finding]:
    """Return what breaks the contract: in a folder of schemas, or between a class and its schema.

    Codes: those of `check_schemas`; MISSING: a class without a schema; OUT_OF_STEP: the two differ.
    """
    parts = catalog.contexts.values()
    folders = dict.fromkeys([schemas_dir(), *(part.schemas for part in parts)])
    found = [finding for folder in folders if folder.is_dir() for finding in check_schemas(folder)]
    return found + [
        finding for part in parts for declared in _declared(part) for finding in _against(declared)
    ]


def _against(declared: _Declared) -> Iterator[Finding]:
    model, context = declared.model, declared.part.context
    if not declared.path.is_file():
        advice = f"`tidemill schemas new {model.__name__}` drafts one"
        yield Finding(declared.file, "MISSING", f"{context.full_name(model)} has no schema; {advice}")
        return
    try:
        schema = Schema.of(declared.path.read_text(encoding="utf-8"))
    except (ContractError, UnicodeDecodeError):
        return  # `check_schemas` has reported it
    if schema.name != context.full_name(model):
        text = f"the class is {context.full_name(model)}, the schema is of {schema.name}"
        yield Finding(declared.file, "OUT_OF_STEP", text)
    for fault in out_of_step(model, schema.record):
        yield Finding(declared.file, "OUT_OF_STEP", fault)


# --- draft -----------------------------------------------------------------------------------------------------------


def draft_schemas(catalog: StreamCatalog, names: Sequence[str]) -> list[Path]:
    """Write drafts of the schemas of command or event classes, all or none; return their paths.

    A draft's docs are the class's docstring and the fields' descriptions; the author writes the empty ones.

    Raises:
        UsageError: no context declares a class, it has a schema already, or its context is not in a source folder.
        ContractError: a field has no Avro form.
    """
    chosen = [_find(catalog, name) for name in names]
    for each in chosen:
        if each.path.exists():
            raise UsageError(f"{each.path} exists: change it by hand, then `tidemill schemas check`")
    return _write(chosen)


@dataclass(frozen=True)
class DraftedSchemas:
    """The files of a context's schemas: those that were written, and those that existed and were left alone."""

    written: Sequence[Path]
    kept: Sequence[Path]


def draft_missing_schemas(part: ContextStream) -> DraftedSchemas:
    """Write drafts of all schemas that a context has not yet, all or none. Raises as `draft_schemas` does."""
    declared = list(_declared(part))
    written = _write([schema for schema in declared if not schema.path.exists()])
    return DraftedSchemas(written, [schema.path for schema in declared if schema.path not in written])


def _write(chosen: Sequence[_Declared]) -> list[Path]:
    for schema in chosen:
        demand_source(schema.path)
    texts = [schema.text() for schema in chosen]
    for schema, text in zip(chosen, texts, strict=True):
        schema.path.parent.mkdir(parents=True, exist_ok=True)
        schema.path.write_text(text, encoding="utf-8")
    return [schema.path for schema in chosen]


def _find(catalog: StreamCatalog, name: str) -> _Declared:
    every = [declared for part in catalog.contexts.values() for declared in _declared(part)]
    for each in every:
        if each.model.__name__ == name:
            return each
    names = ", ".join(each.model.__name__ for each in every)
    raise UsageError(f"no context declares {name}: declare it first; there are {names}")


def demand_source(path: Path) -> None:
    """Return if a draft may be written here: the next installation would delete one among installed packages.

    Raises:
        UsageError: `path` is in an installed package.
    """
    if _INSTALLED.intersection(path.resolve().parts):
        raise UsageError(
            f"{path} is in an installed package: install the folder that you work in with "
            "`pip install --editable FOLDER`, then draft again"
        )
