"""The family, the series and the cache entry as readers see them, against what was sent and what pandas computes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tidemill.admin.audit.balance import Audit
from tidemill.app.admin import Admin
from tidemill.app.deployment import Deployment
from tidemill.queries.read_models import RowFilter
from tidemill_devkit.demo import analyses, cached, series
from tidemill_devkit.demo.proof import DemoCheck, differences, named

_DAY_S: Final = 86_400
_POINTS: Final = "public.time_series_data_points"

Day = tuple[int, float, float]
"""How many readings, the lowest and the highest one."""


@dataclass(frozen=True)
class Breadth:
    """What readers see: the days of the series, the result and files of the analysis, the rows of user and entry."""

    days: Mapping[datetime, Day]
    result: Mapping[str, float]
    files: Mapping[str, str]
    user: Mapping[str, Any]
    entry: Mapping[str, Any]


async def read_breadth(deployment: Deployment) -> Breadth:
    """Ask the declared queries, and for rows by their keys. Raises `Unavailable`, `RequestRefused`."""
    async with Admin(deployment) as admin:
        queries = admin.declared_queries
        days = await queries.run("series-by-bucket", _whole_series(), limit=1_000)
        files = await queries.run("files-of-analysis", {"data_analysis_id": analyses.ANALYSIS})
        analysis = await _row(admin, "data-analyses", analyses.ANALYSIS)
        user = await _row(admin, "users", analyses.USER)
        entry = await _row(admin, cached.CACHE_ENTRIES, cached.ENTRY)
    return Breadth(
        days={
            datetime.fromisoformat(row["bucket"]): (int(row["points"]), row["least"], row["greatest"])
            for row in map(json.loads, days.rows)
        },
        result=_members(analysis.get("result")),
        files={row["filename"]: row["file_type"] for row in map(json.loads, files.rows)},
        user=user,
        entry=entry,
    )


def proof_of_breadth(breadth: Breadth, audit: Audit) -> Iterator[DemoCheck]:
    """Yield the checks."""
    yield _check_series(breadth)
    yield _check_analysis(breadth)
    yield _check_user(breadth)
    yield _check_entry(breadth)
    yield _check_rows(audit)


def _whole_series() -> dict[str, Any]:
    times = [reading.time for reading in series.readings()]
    return {
        "time_series_id": series.SERIES,
        "column_name": series.COLUMN,
        "since": _written(min(times)),
        "until": _written(max(times) + timedelta(seconds=1)),
        "bucket_s": _DAY_S,
    }


def _written(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


async def _row(admin: Admin, collection: str, key: str) -> Mapping[str, Any]:
    page = await admin.queries.page(collection, RowFilter((key,)), 1)
    return page.rows[0] if page.rows else {}


def _members(text: Any) -> dict[str, float]:
    members = json.loads(text) if isinstance(text, str) else text
    return dict(members or {})


def _check_series(breadth: Breadth) -> DemoCheck:
    wrong = differences(series.days_by_pandas(), breadth.days)
    points = sum(points for points, _, _ in breadth.days.values())
    return DemoCheck(
        "a series that was saved in parts is whole, day by day as pandas computes it from the file",
        ok=not wrong,
        detail=named(wrong) or f"{points:,} points of {len(breadth.days)} days, none of the save before",
    )


def _check_analysis(breadth: Breadth) -> DemoCheck:
    wrong = [
        *differences(analyses.mass_by_pandas(), breadth.result),
        *differences(analyses.FILES, breadth.files),
    ]
    grams = ", ".join(f"{species} {mean:,.0f} g" for species, mean in breadth.result.items())
    return DemoCheck(
        "an analysis has the result that pandas computes, and its files",
        ok=not wrong,
        detail=named(wrong) or f"{grams}; {' and '.join(breadth.files)}",
    )


def _check_user(breadth: Breadth) -> DemoCheck:
    shown = {"id": analyses.USER, "username": "Ada"}
    wrong = differences(shown, {name: breadth.user.get(name) for name in shown})
    if "hashed_password" in breadth.user:
        wrong.append("readers see the column hashed_password")
    return DemoCheck(
        "a user is there, and no reader sees the hash of a password",
        ok=not wrong,
        detail=named(wrong) or f"{breadth.user['username']}: {', '.join(breadth.user)}",
    )


def _check_entry(breadth: Breadth) -> DemoCheck:
    wrong = differences(cached.VALUE, _members(breadth.entry.get("value")))
    return DemoCheck(
        "a cache entry has its value until its time, and takes no time that is over",
        ok=not wrong,
        detail=named(wrong) or f"{cached.ENTRY} until {breadth.entry['expires_at']}",
    )


def _check_rows(audit: Audit) -> DemoCheck:
    """The audit counts rows: of a command as many as it has points."""
    counted = {table.table: (table.applied, table.hot) for table in audit.tables}
    planned = (series.points_planned(), series.points_planned())
    wrong = differences({_POINTS: planned}, {_POINTS: counted.get(_POINTS)})
    return DemoCheck(
        "the audit balances in rows, also where a command has thousands",
        ok=not wrong,
        detail=named(wrong)
        or f"{planned[0]:,} rows of points, {series.FIRST} of them of a revision that was replaced",
    )
