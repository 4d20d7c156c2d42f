"""Time series as an outsider knows them: each series, and each point to the bit, is what its events say."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.acceptance.outsider_evidence import EvidenceIndex, Record, collections, point_tables
from tests.acceptance.outsider_findings import Finding, compare, json_text

SERIES = "time_series_metadata"
MAX_REST = timedelta(hours=1)
REMOVALS = {
    "time_series_data_points": "tidemill.time_series.RemoveSupersededTimeSeriesPoints",
    "time_series_numeric_points": "tidemill.time_series.RemoveSupersededNumericPoints",
}
"""Table -> the command of the service's own by which points of superseded revisions leave it."""
NOTHING_OPEN = {"open_save": None, "open_points": 0, "open_expires_at": None}


def events_to_series(indexed: EvidenceIndex) -> Iterator[Finding]:
    """Each series has the revision, and each revision the points, that the events say, to the bit."""
    if SERIES not in indexed.tables:
        return
    rows: dict[str, dict[str, Any]] = {}
    points: list[tuple[Any, ...]] = []
    for record, fields in indexed.told():
        if record.aggregate == collections()[SERIES].aggregate:
            _happen(rows, points, record, fields)
    names = [name for name in dict(indexed.tables[SERIES][0]) if name != "id"] if rows else []
    wanted = [(key, *(_plain(row[name]) for name in names)) for key, row in rows.items()]
    there = [(row["id"], *(_plain(row[name]) for name in names)) for row in indexed.tables[SERIES]]
    yield from compare(f"event topic -> {SERIES}", wanted, there)
    for name, columns in point_tables().items():
        in_table = [tuple(_bits(row[column]) for column in columns) for row in indexed.tables[name]]
        told = Counter(row[1:] for row in points if row[0] == name)
        removed = _removed(rows, told - Counter(in_table)) if name in REMOVALS else Counter()
        yield from compare(f"event topic -> {name}", (told - removed).elements(), in_table)
        logged = sum(row["rows"] for row in indexed.log if row["type"] == REMOVALS.get(name, ""))
        yield from compare(f"log -> {name}", [logged], [removed.total()])


def _removed(rows: Mapping[str, Mapping[str, Any]], missing: Counter[Any]) -> Counter[Any]:
    """Return those of the missing points that may be: their revision can never be current again."""

    def is_over(series: str, revision: int) -> bool:
        row = rows[series]
        kept = {row["revision"], row["newest_revision"] if row["open_save"] is not None else row["revision"]}
        return revision not in kept

    return Counter({point: count for point, count in missing.items() if is_over(point[-5], point[-2])})


def _happen(
    rows: dict[str, dict[str, Any]], points: list[tuple[Any, ...]], record: Record, fields: Mapping[str, Any]
) -> None:
    event, at = record.header("ce_type").rpartition(".")[2], datetime.fromisoformat(record.header("ce_time"))
    key = fields["time_series_id"]
    if event == "TimeSeriesCreated":
        rows[key] = _created(fields, at)
    row = rows[key]
    if "values" in fields:
        open_save = event.endswith("SaveFilled")
        first = row["open_points"] if open_save else row["points"] if event.endswith("Appended") else 0
        new = event.endswith("Saved")
        revision = row["newest_revision"] + new if open_save or new else row["revision"]
        points += _points(fields, revision, first)
    row |= _change(row, event, fields, at)
    row |= {"version": row["version"] + 1, "updated_at": at}


def _created(fields: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    own = ("service_name", "name", "description", "time_column", "value_columns", "axis")
    numbers = {"revision": 0, "points": 0, "newest_revision": 0, "version": 0}
    return (
        {name: fields[name] for name in own} | numbers | NOTHING_OPEN | {"deleted": False, "created_at": at}
    )


def _change(row: Mapping[str, Any], event: str, fields: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """Return what an event changes of a series, besides its version."""
    newest, size = row["newest_revision"], len(fields.get("values", ()))
    match event:
        case "TimeSeriesUpdated":
            given = {name: value for name, value in fields.items() if name in row and value is not None}
            return {name: given[name] for name in given.keys() - {"service_name"}} | dict.fromkeys(
                fields["clear"]
            )
        case "TimeSeriesDeleted":
            return {"deleted": True}
        case "TimeSeriesPointsAppended" | "NumericPointsAppended":
            return {"points": row["points"] + size}
        case "TimeSeriesPointsSaved" | "NumericPointsSaved":
            return {"revision": newest + 1, "newest_revision": newest + 1, "points": size} | NOTHING_OPEN
        case "TimeSeriesSaveOpened":
            opened = {"newest_revision": newest + 1, "open_save": fields["save"], "open_points": 0}
            return opened | {"open_expires_at": at + MAX_REST}
        case "TimeSeriesSaveFilled" | "NumericSaveFilled":
            return {"open_points": row["open_points"] + size, "open_expires_at": at + MAX_REST}
        case "TimeSeriesSaveCompleted":
            return {"revision": newest, "points": row["open_points"]} | NOTHING_OPEN
    return NOTHING_OPEN if event == "TimeSeriesSaveAbandoned" else {}


def _points(fields: Mapping[str, Any], revision: int, first: int) -> Iterator[tuple[Any, ...]]:
    for place, (column, value) in enumerate(zip(fields["columns"], fields["values"], strict=True)):
        common = (
            fields["time_series_id"],
            fields["column_names"][column],
            _bits(value),
            revision,
            first + place,
        )
        if "times" in fields:
            yield ("time_series_data_points", fields["times"][place], *common)
        else:
            position = (
                (_bits(fields["floats"][place]), None)
                if fields["floats"]
                else (None, fields["integers"][place])
            )
            yield ("time_series_numeric_points", *position, *common)


def _bits(value: Any) -> Any:
    """Return what tells -0.0 from 0.0."""
    return struct.pack(">d", value) if isinstance(value, float) else value


def _plain(value: Any) -> Any:
    """Return a value as it compares: arrays of names by what they say."""
    return json_text(json.loads(value)) if isinstance(value, str) and value.startswith('["') else value
