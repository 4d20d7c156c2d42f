"""The report of a run, as data: what `tidemill demo` shows, and `--json` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from tidemill.app.deployment import Deployment
from tidemill.domain.messages import Outcome
from tidemill.domain.rejections import PARKED, REJECTED
from tidemill_devkit.demo.analyses import ANALYSIS
from tidemill_devkit.demo.archive import Archived, Back, Forgery, policy_of
from tidemill_devkit.demo.lake import files_of
from tidemill_devkit.demo.place import DemoSite
from tidemill_devkit.demo.plan import SERVICE, DemoPlan
from tidemill_devkit.demo.proof import DemoCheck, Example, Tally, Views
from tidemill_devkit.demo.series import SERIES, TIME_SERIES

_MEANING: Final = {
    Outcome.APPLIED: "in effect, with its event",
    Outcome.DUPLICATE: "sent again with the same id: the first outcome again, nothing twice",
}


@dataclass(frozen=True)
class OutcomeLine:
    """One outcome: planned and found, and for people its meaning or advice."""

    outcome: str
    code: str | None
    planned: int
    found: int
    example: Example | None
    advice: str


@dataclass(frozen=True)
class ShownQuote:
    """The newest quote of a stock, from its read model."""

    symbol: str
    day: date
    price: float
    bars: int


@dataclass(frozen=True)
class YearLine:
    """High and low of a stock in a year, from the daily bars."""

    symbol: str
    year: int
    high: float
    low: float


@dataclass(frozen=True)
class ArchiveLine:
    """A range that left: its rows, the bytes that they took in the database and take in the lake, and its state now."""

    start: date
    end: date
    rows: int
    hot_bytes: int
    lake_bytes: int
    files: int
    state: str


@dataclass(frozen=True)
class ArchivePart:
    """The results for the old quotes. `read`: a line that reads the lake without Tidemill."""

    ranges: Sequence[ArchiveLine]
    forged: Forgery
    back: Back
    lake: str
    read: str


@dataclass(frozen=True)
class DemoFindings:
    """The results, to be reported."""

    tallies: Sequence[Tally]
    views: Views
    archived: Archived


@dataclass(frozen=True)
class DemoReport:
    """A run and its results.

    `seconds`: step -> how long it took. `env_file`: the variables that make every verb work on this run.
    `look`, `go_on` and `clean_up`: verbs with their arguments, to be typed next.
    """

    ok: bool
    run: str
    database: str
    topics: str
    records: int
    events: int
    seconds: Mapping[str, float]
    outcomes: Sequence[OutcomeLine]
    latest: Sequence[ShownQuote]
    years: Sequence[YearLine]
    archive: ArchivePart
    checks: Sequence[DemoCheck]
    env_file: str
    look: Sequence[str]
    go_on: Sequence[str]
    clean_up: Sequence[str]


def make_report(
    place: DemoSite,
    plan: DemoPlan,
    found: DemoFindings,
    checks: Sequence[DemoCheck],
    seconds: Mapping[str, float],
) -> DemoReport:
    """Return the report; it is good if every check holds, and every number is the planned one."""
    tallies, views = found.tallies, found.views
    advice = _advice(place.deployment)
    return DemoReport(
        ok=all(check.ok for check in checks) and all(tally.planned == tally.found for tally in tallies),
        run=place.run,
        database=place.database,
        topics=place.settings.topics.prefix,
        records=len(plan.records),
        events=plan.events(),
        seconds={step: round(taken, 1) for step, taken in seconds.items()},
        outcomes=[_line(tally, advice) for tally in tallies],
        latest=[
            ShownQuote(symbol, row["time"].date(), row["price"], views.days.get(symbol, 0))
            for symbol, row in sorted(views.latest.items())
        ],
        years=[YearLine(*year, *extremes) for year, extremes in sorted(views.years.items())],
        archive=_archive(place, found.archived),
        checks=checks,
        env_file=str(place.env_file),
        look=_look(plan),
        go_on=_go_on(plan),
        clean_up=clean_up(place),
    )


def _archive(place: DemoSite, archived: Archived) -> ArchivePart:
    table = policy_of(place.deployment).table_name
    files = files_of(place.lake, table)
    return ArchivePart(
        ranges=[
            ArchiveLine(
                start=each.start.date(),
                end=each.end.date(),
                rows=each.rows,
                hot_bytes=each.hot_bytes,
                lake_bytes=each.lake_bytes,
                files=len(each.files),
                state=each.state,
            )
            for each in archived.ranges
        ],
        forged=archived.forged,
        back=archived.back,
        lake=str(place.lake),
        read=f"-c \"import duckdb; duckdb.read_parquet('{files}').aggregate('symbol, count(*), max(high)').show()\"",
    )


def _line(tally: Tally, advice: Mapping[str, str]) -> OutcomeLine:
    outcome, code = tally.expected_outcome
    meaning = _MEANING.get(outcome) or advice.get(code or "", "")
    return OutcomeLine(outcome.value, code, tally.planned, tally.found, tally.example, meaning)


def _advice(deployment: Deployment) -> dict[str, str]:
    contexts = [part.context.codes for part in deployment.catalog.contexts.values()]
    return {code: text for codes in (REJECTED, PARKED, *contexts) for code, text in codes.items()}


def _look(plan: DemoPlan) -> list[str]:
    """Return verbs that show the run; no process is needed."""
    quote = plan.quotes[-1]
    return [
        "query latest-quotes",
        f"query daily-bars --key {quote.symbol} --key {quote.day}",
        f"query files-of-analysis --param data_analysis_id={ANALYSIS}",
        f"query {TIME_SERIES}-data-points --where time_series_id={SERIES} --limit 3",
        f"command show {quote.symbol}-{quote.day} --service {SERVICE}",
        "tail market-data --from-beginning --count 3",
        "tail market-data --role outcomes --from-beginning --count 3",
        "dead-letters list --code MALFORMED",
        "status",
        "retention status",
        "audit",
    ]


def _go_on(plan: DemoPlan) -> list[str]:
    """Return verbs that continue the run: a process, and a command for it."""
    quote = plan.quotes[-1]
    time = f"{quote.time:%Y-%m-%dT22:00:00Z}"
    command = {"symbol": quote.symbol, "time": time, "price": 40.0, "source": "me"}
    return ["serve all", f"publish RecordMarketData --wait - <<< '{json.dumps(command)}'"]


def clean_up(place: DemoSite) -> list[str]:
    """Return what removes all traces; given servers are not stopped."""
    return [f"demo --remove {place.run}", *(["dev down"] if place.servers.owned else [])]
