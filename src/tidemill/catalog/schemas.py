"""The schemas folder: its content, whether it keeps the contract, and its registration.

    <context>/commands/<Name>.avsc    <context>/events/<Name>.avsc    outcome/<Name>.avsc    archival/<Name>.avsc
    released/<context>/<Name>/v1.avsc, v2.avsc, ...

A plug-in's folder has the same layout. Pure except for reading files; the registry is a port.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from tidemill.catalog.avro import Dangerous, Field, Record, parse_record
from tidemill.catalog.compatibility import moved_fields, obstacles, rewritten_fields
from tidemill.catalog.fingerprints import fingerprint, layout, meaning
from tidemill.catalog.lint import BASE, Role, breaches, dangers
from tidemill.domain.errors import ContractError

_FOLDERS: Final[dict[str, Role]] = {"commands": "command", "events": "event"}
_OWN: Final[dict[str, dict[str, Role]]] = {
    "archival": {"ArchivalConfirmation": "command", "ArchivalEvent": "event"},
    "outcome": {"CommandOutcome": "outcome"},
}
"""Folders of messages that no context declares. Their fields are specified for them: an archiver that
confirms has neither a command_id nor the other base fields of a context's messages."""
_RELEASED: Final = "released"


@dataclass(frozen=True)
class Schema:
    """A schema from a file or a registry. `text` is its JSON, byte for byte."""

    text: str
    record: Record = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Schema:
        """Read a schema from JSON text. Raises `ContractError`."""
        return cls(text, parse_record(text))

    @property
    def name(self) -> str:
        """Return the full name."""
        return self.record.name

    @cached_property
    def fingerprint(self) -> bytes:
        """Return the 8 bytes of the CRC-64-AVRO fingerprint as used in values."""
        return fingerprint(self.record)

    @cached_property
    def meaning(self) -> str:
        """Return the key by which two schemas are the same."""
        return meaning(self.record)

    @cached_property
    def layout(self) -> str:
        """Return the key by which the bytes of two schemas are the same."""
        return layout(self.record)


@dataclass(frozen=True)
class MessageSchema:
    """One message of the contract: its current version, and every version that others may be using, oldest first."""

    context: str
    role: Role
    current: Schema
    released: tuple[Schema, ...]

    @property
    def name(self) -> str:
        """Return the full name."""
        return self.current.name

    @property
    def base(self) -> tuple[Field, ...]:
        """Return its base fields, which do not count when two payloads are compared."""
        return () if self.context in _OWN else BASE

    @property
    def versions(self) -> tuple[Schema, ...]:
        """Return all versions that differ, oldest first, the current one last."""
        older = [schema for schema in self.released if schema.meaning != self.current.meaning]
        return (*older, self.current)


@dataclass(frozen=True, order=True)
class Finding:
    """A fault that `schemas check` reports: `path` is the file within the folder."""

    path: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.code}: {self.message}"


def load_messages(folder: Path, context: str) -> dict[str, MessageSchema]:
    """Return full name -> message of a context (`market_data`), or of `outcome` or `archival`.

    Raises:
        ContractError: a file is missing or not a schema.
    """
    messages = [_load(folder, context, role, path) for role, path in _current_files(folder, context)]
    if not messages:
        raise ContractError(
            f"context {context} has no schemas in {folder}; `tidemill schemas new` drafts one"
        )
    return {message.name: message for message in messages}


def contexts_in(folder: Path) -> list[str]:
    """Return the names of the contexts that have schemas in `folder`, `outcome` and `archival` included."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != _RELEASED)


def check_schemas(folder: Path) -> list[Finding]:
    """Return everything in a schemas folder that breaks the contract; empty if nothing does.

    Codes: NOT_AVRO, MISNAMED; what is dangerous: TOO_LARGE, TOO_WIDE, TOO_DEEP, TOO_PRECISE, RECURSIVE, ZERO_WIDTH;
    what breaks the rules: BASE_FIELDS, UNDOCUMENTED, UNION, LOGICAL_TYPE, ALIASES; against the released versions
    INCOMPATIBLE, FIELDS_MOVED, FIELDS_REWRITTEN, SAME_FINGERPRINT; ORPHANED (released, then removed).
    """
    findings: list[Finding] = []
    for context in contexts_in(folder):
        for role, path in _current_files(folder, context):
            findings += _check_file(folder, context, role, path)
    findings += _orphans(folder)
    return sorted(findings)


def _current_files(folder: Path, context: str) -> Iterator[tuple[Role, Path]]:
    if context in _OWN:
        roles = _OWN[context]
        yield from (
            (roles.get(path.stem, "event"), path) for path in sorted((folder / context).glob("*.avsc"))
        )
        return
    for name, role in _FOLDERS.items():
        yield from ((role, path) for path in sorted((folder / context / name).glob("*.avsc")))


def _released_files(folder: Path, context: str, name: str) -> list[Path]:
    return sorted((folder / _RELEASED / context / name).glob("v*.avsc"), key=lambda path: _version(path.stem))


def _version(stem: str) -> int:
    if not stem[1:].isdecimal():
        raise ContractError(f"released versions are named v1.avsc, v2.avsc, ...; not {stem}.avsc")
    return int(stem[1:])


def _load(folder: Path, context: str, role: Role, path: Path) -> MessageSchema:
    released = tuple(_read(file) for file in _released_files(folder, context, path.stem))
    return MessageSchema(context, role, _read(path), released)


def _read(path: Path) -> Schema:
    try:
        return Schema.of(path.read_text(encoding="utf-8"))
    except Dangerous as danger:
        raise danger.within(path.name) from danger
    except (ContractError, UnicodeDecodeError) as fault:
        raise ContractError(f"{path.name}: {fault}") from fault


def _check_file(folder: Path, context: str, role: Role, path: Path) -> list[Finding]:
    where = path.relative_to(folder).as_posix()
    try:
        message = _load(folder, context, role, path)
    except Dangerous as danger:
        return [Finding(where, danger.code, str(danger))]
    except ContractError as fault:
        return [Finding(where, "NOT_AVRO", str(fault))]
    record = message.current.record
    faults = [*_name_faults(path, record), *dangers(record)]
    if not faults:
        faults += [*breaches(record, message.base), *_alias_faults(message.current), *history_faults(message)]
    return [Finding(where, code, text) for code, text in faults]


def _name_faults(path: Path, record: Record) -> Iterator[tuple[str, str]]:
    namespace, _, name = record.name.rpartition(".")
    if name != path.stem:
        yield "MISNAMED", f"the file is named {path.name}, the record {name}"
    if not namespace:
        yield "MISNAMED", f"{name} has no namespace"


def _alias_faults(schema: Schema) -> Iterator[tuple[str, str]]:
    if '"aliases"' in schema.text:
        yield "ALIASES", f"{schema.name}: aliases let one name be read as another; add a message instead"


def history_faults(message: MessageSchema) -> Iterator[tuple[str, str]]:
    """Yield the faults of the current version of a message against its released ones."""
    for number, old in enumerate(message.released, start=1):
        new = message.current
        if old.fingerprint == new.fingerprint and old.meaning != new.meaning:
            yield (
                "SAME_FINGERPRINT",
                f"differs from v{number} only in logical types or defaults; readers cannot tell",
            )
        for text in obstacles(reader=new.record, writer=old.record):
            yield "INCOMPATIBLE", f"cannot read v{number}: {text}"
        if message.role != "command":
            for text in obstacles(reader=old.record, writer=new.record):
                yield "INCOMPATIBLE", f"v{number} cannot read it: {text}"
        for text in moved_fields(released=old.record, current=new.record):
            yield "FIELDS_MOVED", f"since v{number}: {text}; add fields at the end, remove none"
        if message.role == "command":
            base = len(message.base)
            for text in rewritten_fields(released=old.record, current=new.record, base=base):
                yield "FIELDS_REWRITTEN", f"since v{number}: {text}; a repeat would be another command"


def _orphans(folder: Path) -> Iterator[Finding]:
    for path in sorted((folder / _RELEASED).glob("*/*")):
        context, name = path.parent.name, path.name
        if all(current.stem != name for _, current in _current_files(folder, context)):
            text = "was released, so producers may still send it; keep its current schema"
            yield Finding(path.relative_to(folder).as_posix(), "ORPHANED", text)


def find_clashes(schemas: Sequence[Schema]) -> list[tuple[Schema, Schema]]:
    """Return pairs that share a fingerprint and differ: a value that carries it could mean either."""
    first: dict[bytes, Schema] = {}
    pairs = [(first.setdefault(schema.fingerprint, schema), schema) for schema in schemas]
    return [(one, other) for one, other in pairs if one.meaning != other.meaning]
