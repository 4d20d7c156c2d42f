"""Versions of a message, made from a schema by adding and changing fields."""

from __future__ import annotations

import json
from typing import Any

from tidemill.catalog.schemas import MessageSchema, Schema


def with_fields(schema: Schema, *more: dict[str, Any]) -> Schema:
    """The schema with fields added at the end."""
    document = json.loads(schema.text)
    document["fields"] += more
    return Schema.of(json.dumps(document))


def without_field(schema: Schema, name: str) -> Schema:
    """The schema without one field."""
    document = json.loads(schema.text)
    document["fields"] = [field for field in document["fields"] if field["name"] != name]
    return Schema.of(json.dumps(document))


def with_field(schema: Schema, name: str, **changes: Any) -> Schema:
    """The schema with one field changed."""
    document = json.loads(schema.text)
    for field in document["fields"]:
        if field["name"] == name:
            field.update(changes)
    return Schema.of(json.dumps(document))


def grown(message: MessageSchema, *versions: Schema) -> MessageSchema:
    """A message whose current version is the last of `versions`; the others were released before it."""
    return MessageSchema(message.context, message.role, versions[-1], versions[:-1])
