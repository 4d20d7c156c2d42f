"""Releasing schemas: a copy of what others may use from now on, with which every later version is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidemill.admin.setup.schema_drafts import demand_source
from tidemill.catalog.schemas import MessageSchema, check_schemas
from tidemill.catalog.streams import ContextStream, StreamCatalog
from tidemill.domain.errors import ContractError


@dataclass(frozen=True)
class ReleasedSchemas:
    """The files of the new versions, and the names of messages whose newest version is released already."""

    written: Sequence[Path]
    kept: Sequence[str]


def release(part: ContextStream) -> ReleasedSchemas:
    """Copy each current schema of a context that differs from its newest released version, all or none.

    Raises:
        ContractError: a schema breaks the contract; released versions are never changed, so nothing is written.
        UsageError: the context is not in a source folder.
    """
    if findings := check_schemas(part.schemas):
        raise ContractError(f"{findings[0]}; nothing was released")
    messages = part.messages()
    new = {name: message for name, message in messages.items() if not _is_released(message)}
    copies = {_next_file(part, message): message.current.text for message in new.values()}
    for path in copies:
        demand_source(path)
    for path, text in copies.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return ReleasedSchemas(list(copies), sorted(messages.keys() - new.keys()))


def unreleased(catalog: StreamCatalog) -> list[str]:
    """Return the contexts with messages that have no released version, with which a change would be compared.

    Raises:
        ContractError: the schemas of a context cannot be read.
    """
    return sorted(
        part.context.name
        for part in catalog.contexts.values()
        if any(not message.released for message in part.messages().values())
    )


def _is_released(message: MessageSchema) -> bool:
    return any(schema.meaning == message.current.meaning for schema in message.released[-1:])


def _next_file(part: ContextStream, message: MessageSchema) -> Path:
    name = message.name.rpartition(".")[2]
    return part.schemas / "released" / message.context / name / f"v{len(message.released) + 1}.avsc"
