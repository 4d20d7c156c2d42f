"""The proof about the series and the family notices what is missing, wrong, or shown to readers who must not see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tidemill.admin.audit.balance import Audit, TableBalance
from tidemill_devkit.demo import analyses, cached, series
from tidemill_devkit.demo.breadth_proof import Breadth, proof_of_breadth
from tidemill_devkit.demo.proof import DemoCheck

USER = {"id": analyses.USER, "username": "Ada", "email": "ada@example.com"}
RIGHT = Breadth(
    days=series.days_by_pandas(),
    result=analyses.mass_by_species(),
    files=dict(analyses.FILES),
    user=USER,
    entry={"value": dict(cached.VALUE), "expires_at": "2026-12-03T00:00:00Z"},
)
FIRST_DAY = min(RIGHT.days)


def audit(rows: int) -> Audit:
    table = TableBalance("public.time_series_data_points", rows, rows, rows, 0, 0, 0)
    return Audit([], [table], [], [])


def failing(checks: Iterable[DemoCheck]) -> list[str]:
    return [check.detail for check in checks if not check.ok]


def test_the_files_are_what_the_plan_says() -> None:
    assert len(series.readings()) == series.READINGS
    assert sum(points for points, _, _ in RIGHT.days.values()) == series.READINGS
    assert analyses.mass_by_species() == analyses.mass_by_pandas()


def test_what_was_sent_is_accepted() -> None:
    assert failing(proof_of_breadth(RIGHT, audit(series.points_planned()))) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"days": {**RIGHT.days, FIRST_DAY: (47, 4.0, 5.0)}}, f"{FIRST_DAY}: expected 48 "),
        ({"files": {"penguins.csv": "text/csv"}}, "mass.json: expected application/json, found None"),
        ({"result": {}}, "Adelie: expected 3700.662, found None"),
        ({"entry": {}}, "from: expected EUR, found None"),
        ({"user": {}}, "id: expected ada, found None"),
        ({"user": {**USER, "hashed_password": "$argon2id$"}}, "readers see the column hashed_password"),
    ],
)
def test_a_difference_is_named(change: dict[str, Any], named: str) -> None:
    (detail,) = failing(proof_of_breadth(replace(RIGHT, **change), audit(series.points_planned())))
    assert named in detail


def test_a_row_of_points_that_is_missing_is_noticed() -> None:
    (detail,) = failing(proof_of_breadth(RIGHT, audit(series.points_planned() - 1)))
    assert detail.startswith("public.time_series_data_points: expected 19274 19274, found 19273")
