"""The built-in collections as an outsider knows them, by `docs/collections.md`: rows are what their events say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.acceptance.outsider_evidence import (
    Collection,
    EvidenceIndex,
    FactTable,
    Record,
    collections,
    fact_tables,
    identity,
)
from tests.acceptance.outsider_findings import Finding, compare, json_text
from tests.acceptance.outsider_series import SERIES


def events_to_collections(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Each row of each collection, with its version and times, is what its events say."""
    told = list(indexed.told())
    for name, collection in collections().items():
        if name not in indexed.tables or name == SERIES:
            continue
        rows: dict[str, dict[str, Any]] = {}
        for record, fields in told:
            event = record.header("ce_type").rpartition(".")[2]
            if record.aggregate == collection.aggregate and _is_of(collection, event):
                _happen(rows, collection, event, fields, _time_of(record))
        names = ("service_name", *collection.fields, "deleted", "version", "created_at", "updated_at")
        wanted = [(key, *(_plain(row[each]) for each in names)) for key, row in rows.items()]
        there = [(row["id"], *(_plain(row[each]) for each in names)) for row in indexed.tables[name]]
        yield from compare(f"event topic -> {name}", wanted, there)


def events_to_facts(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Each fact of each event is one row, with the id of its command."""
    told = list(indexed.told())
    for name, facts in fact_tables().items():
        if name not in indexed.tables:
            continue
        wanted = [
            (identity(fields["command_id"], fields["service_name"]), *_fact(fields, item, facts))
            for record, fields in told
            if record.aggregate == facts.aggregate
            for item in ([fields] if facts.many is None else fields[facts.many])
        ]
        there = [(row["command_id"], *_fact(row, row, facts)) for row in indexed.tables[name]]
        yield from compare(f"event topic -> {name}", wanted, there)


def _fact(common: Any, own: Any, facts: FactTable) -> list[Any]:
    return [_plain(own[name] if name in facts.own else common[name]) for name in facts.columns]


def _is_of(collection: Collection, event: str) -> bool:
    return event in collection.steps or event in {
        f"{collection.entity}{participle}" for participle in ("Created", "Updated", "Deleted")
    }


def _happen(
    rows: dict[str, dict[str, Any]], collection: Collection, event: str, fields: Any, at: datetime
) -> None:
    key = fields[collection.key]
    if event == f"{collection.entity}Created":
        row = {
            **dict.fromkeys(collection.fields),
            "status": collection.status,
            "version": rows[key]["version"] if key in rows else 0,  # it goes on after a deletion for good
            "created_at": at,
        }
        rows[key] = row | {
            name: value for name, value in fields.items() if name in ("service_name", *collection.fields)
        }
    row = rows[key]
    row |= {
        "version": row["version"] + 1,
        "updated_at": at,
        "deleted": event == f"{collection.entity}Deleted",
    }
    if event == f"{collection.entity}Deleted":
        row |= collection.emptied
    if event == f"{collection.entity}Updated":
        row |= {name: fields[name] for name in collection.fields if fields.get(name) is not None}
        row |= dict.fromkeys(fields["clear"])
    if event in collection.steps:
        status, filled = collection.steps[event]
        row |= {"status": status} | {name: fields.get(name, at) for name in filled if name != "status"}


def _time_of(record: Record) -> datetime:
    return datetime.fromisoformat(record.header("ce_time"))


def _plain(value: Any) -> Any:
    """Return a value as it compares: JSON by what it says."""
    return json_text(json.loads(value)) if isinstance(value, str) and value.startswith("{") else value
