"""Whether the archive is correct: known numbers, and what another program finds in the lake. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from tidemill.domain.archive.slices import ArchiveState
from tidemill_devkit.demo.archive import Archived
from tidemill_devkit.demo.plan import DemoPlan
from tidemill_devkit.demo.proof import DemoCheck, differences, named
from tidemill_devkit.demo.quotes import SYMBOLS, Quote


class Known(NamedTuple):
    """What leaves of all five stocks: ranges, their rows, and those of the range that comes back."""

    ranges: int
    rows: int
    back: int


KNOWN: Final = Known(ranges=10, rows=8_750, back=1_012)
"""Chunks of 365 days: the tenth of them ends on 22 December 2009, and the one with June 2005 in it begins in 2004."""


def proof_of_archive(plan: DemoPlan, archived: Archived) -> Iterator[DemoCheck]:
    """Yield the checks."""
    yield _check_gone(plan, archived)
    yield _check_forgery(archived)
    yield _check_lake(plan, archived)


def _check_gone(plan: DemoPlan, archived: Archived) -> DemoCheck:
    """Exactly the ranges that were due left, with exactly their rows; one came back."""
    old = [quote for quote in plan.quotes if quote.time < archived.before]
    back = [quote for quote in old if archived.back.start <= quote.time < archived.back.end]
    expected = KNOWN if plan.symbols == SYMBOLS else Known(archived.due, len(old), len(back))
    found = Known(len(archived.ranges), archived.rows, archived.back.rows)
    wrong = differences(expected._asdict(), found._asdict())
    states = [each.state for each in archived.ranges]
    if (states.count(ArchiveState.RESTORED), states.count(ArchiveState.DROPPED)) != (1, len(states) - 1):
        wrong.append(f"one range is restored and all others are dropped: they are {', '.join(states)}")
    detail = f"{found.ranges} ranges, {found.rows:,} rows, {found.back:,} of them back until they expire"
    return DemoCheck(
        "what was old left the database, and nothing else", ok=not wrong, detail=named(wrong) or detail
    )


def _check_forgery(archived: Archived) -> DemoCheck:
    forged = archived.forged
    ok = forged.state == ArchiveState.QUARANTINED and forged.kept and "digest" in forged.reason
    return DemoCheck(
        "a forged confirmation was found out, and nothing was dropped for it",
        ok=ok,
        detail=f"{forged.state}: {forged.reason}; the rows are {'still there' if forged.kept else 'gone'}",
    )


def _check_lake(plan: DemoPlan, archived: Archived) -> DemoCheck:
    """The lake has the old quotes, as the file has them."""
    old = [quote for quote in plan.quotes if quote.time < archived.before]
    by_year: dict[tuple[str, int], list[Quote]] = defaultdict(list)
    for quote in old:
        by_year[quote.symbol, quote.day.year].append(quote)
    expected = {year: _summed(some) for year, some in by_year.items()}
    found = {(line.symbol, line.year): (line.quotes, line.high, line.low) for line in archived.lake}
    wrong = differences(expected, found)
    detail = f"{sum(line.quotes for line in archived.lake):,} rows, {len(found)} yearly highs and lows"
    return DemoCheck(
        "DuckDB finds in the lake what the file has", ok=not wrong, detail=named(wrong) or detail
    )


def _summed(quotes: Sequence[Quote]) -> tuple[int, float, float]:
    return len(quotes), max(quote.high for quote in quotes), min(quote.low for quote in quotes)
