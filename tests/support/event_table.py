"""What the events of the built-in contexts carry, as the table in docs/contexts.md: made from what is declared.

`.venv/bin/python -m tests.support.event_table` prints it.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.support.engine.built_in import BUILT_IN
from tidemill.catalog.drafts import draft_schema
from tidemill.domain.context import Context
from tidemill.domain.messages import BASE_FIELDS, EventBase
from tidemill.domain.stream import Stream

HEAD = ("| context | event | carries |", "|---|---|---|")
_KINDS = {
    "string": "text",
    "long": "integer",
    "int": "integer",
    "double": "number",
    "boolean": "true or false",
}


def event_table() -> list[str]:
    """Return the lines of the table."""
    rows = [_row(context, event) for context in BUILT_IN.values() for event in context.events]
    return [*HEAD, *rows]


def _row(context: Context, event: type[EventBase]) -> str:
    secret = {name for fields in Stream.of(context).secrets.values() for name in fields}
    fields = draft_schema(event, context.avro_namespace)["fields"]
    carried = [_shown(field, secret) for field in fields if field["name"] not in BASE_FIELDS]
    return f"| `{context.name}` | `{event.__name__}` | {', '.join(carried)} |"


def _shown(field: dict[str, Any], secret: set[str]) -> str:
    kind, nullable = field["type"], ""
    if isinstance(kind, list):
        (kind,) = [each for each in kind if each != "null"]
        nullable = ", null"
    encrypted = ", encrypted" if field["name"] in secret else ""
    return f"`{field['name']}` ({_kind(kind)}{nullable}{encrypted})"


def _kind(kind: Any) -> str:
    if isinstance(kind, str):
        return _KINDS[kind]
    if kind.get("logicalType") == "timestamp-micros":
        return "time"
    if kind["type"] == "array":
        item = kind["items"]
        if isinstance(item, dict) and item["type"] == "record":
            return f"records of {', '.join(_shown(field, set()) for field in item['fields'])}"
        present = [each for each in item if each != "null"] if isinstance(item, list) else [item]
        return f"list: {_kind(present[0])}{', null' if present != [item] else ''}"
    return _kind(kind["type"])


if __name__ == "__main__":
    sys.stdout.write("\n".join(event_table()) + "\n")
