"""The demo's archive is judged by numbers that are known: each that differs fails its check, and only that one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from tidemill.domain.errors import UsageError
from tidemill_devkit.demo import lake
from tidemill_devkit.demo.archive import Archived, Back, Forgery, RangeLine
from tidemill_devkit.demo.archive_proof import KNOWN, proof_of_archive
from tidemill_devkit.demo.lake import LakeLine
from tidemill_devkit.demo.plan import DemoPlan, make_plan
from tidemill_devkit.demo.quotes import SYMBOLS

CHUNK = timedelta(days=365)
END = datetime(2009, 12, 22, tzinfo=UTC)
"""Chunks begin and end at multiples of 365 days since 1970."""


@cache
def whole() -> DemoPlan:
    """The plan with all stocks; who only collects tests need not wait for it."""
    return make_plan(datetime(2026, 1, 1, tzinfo=UTC))


def archived(plan: DemoPlan) -> Archived:
    """What must come out, computed from the file in another way than the proof does it."""
    old = [quote for quote in plan.quotes if quote.time < END]
    ranges = []
    for number in range(10, 0, -1):
        start, end = END - number * CHUNK, END - (number - 1) * CHUNK
        rows = sum(start <= quote.time < end for quote in old)
        state = "restored" if number == 5 else "dropped"
        ranges.append(RangeLine(start, end, rows, 2 * rows, rows, ["a.parquet"], state))
    years = sorted({(quote.symbol, quote.day.year) for quote in old})
    lines = []
    for symbol, year in years:
        some = [quote for quote in old if (quote.symbol, quote.day.year) == (symbol, year)]
        lines.append(
            LakeLine(symbol, year, len(some), max(each.high for each in some), min(each.low for each in some))
        )
    back = ranges[5]
    return Archived(
        due=10,
        before=END,
        ranges=ranges,
        forged=Forgery(ranges[0].start, ranges[0].rows, "quarantined", "digest a instead of b", kept=True),
        back=Back(back.start, back.end, back.rows, None),
        lake=lines,
    )


@cache
def good() -> Archived:
    return archived(whole())


def failed(found: Archived, plan: DemoPlan | None = None) -> list[int]:
    checks = proof_of_archive(plan or whole(), found)
    return [number for number, check in enumerate(checks) if not check.ok]


def test_the_known_numbers_are_those_of_the_file() -> None:
    assert (len(good().ranges), good().rows, good().back.rows) == KNOWN
    assert failed(good()) == []


def test_fewer_stocks_have_fewer_rows() -> None:
    some = make_plan(datetime(2026, 1, 1, tzinfo=UTC), SYMBOLS[:1])
    assert failed(archived(some), some) == []
    assert failed(good(), some) == [0, 2]


GONE, FORGED, LAKE = 0, 1, 2
WRONG: dict[str, tuple[Callable[[Archived], Archived], int]] = {
    "a range too few": (lambda good: replace(good, ranges=good.ranges[1:]), GONE),
    "a row too many": (
        lambda good: replace(
            good, ranges=[replace(good.ranges[0], rows=good.ranges[0].rows + 1), *good.ranges[1:]]
        ),
        GONE,
    ),
    "nothing came back": (
        lambda good: replace(good, ranges=[replace(each, state="dropped") for each in good.ranges]),
        GONE,
    ),
    "too little came back": (lambda good: replace(good, back=replace(good.back, rows=1)), GONE),
    "the forgery was believed": (
        lambda good: replace(good, forged=replace(good.forged, state="verified")),
        FORGED,
    ),
    "rows were dropped for it": (lambda good: replace(good, forged=replace(good.forged, kept=False)), FORGED),
    "set aside for another reason": (
        lambda good: replace(good, forged=replace(good.forged, reason="no file")),
        FORGED,
    ),
    "another price in the lake": (
        lambda good: replace(good, lake=[replace(good.lake[0], high=0.0), *good.lake[1:]]),
        LAKE,
    ),
    "a year is not in the lake": (lambda good: replace(good, lake=good.lake[1:]), LAKE),
}


@pytest.mark.parametrize(("differs", "check"), WRONG.values(), ids=WRONG.keys())
def test_what_differs_fails_its_check(differs: Callable[[Archived], Archived], check: int) -> None:
    assert failed(differs(good())) == [check]


def test_what_is_not_installed_is_said_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake, "find_spec", lambda name: None if name == "duckdb" else name)
    with pytest.raises(UsageError, match=r"needs duckdb: pip install 'tidemill\[archive,demo\]'"):
        lake.demand_packages()
