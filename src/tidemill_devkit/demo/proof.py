"""The results, read back from outcome topics and read models, compared with the plan."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from tidemill.admin.status import Status
from tidemill.app.admin import Admin
from tidemill.app.connections import kafka_connection, open_registry
from tidemill.app.deployment import Deployment
from tidemill.catalog.streams import ContextStream, outcome_messages
from tidemill.domain.lane import NO_OFFSET
from tidemill.domain.messages import Outcome
from tidemill.queries.read_models import MAX_ROWS, ReadModels, RowFilter
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill.transport.kafka.admin.reader import TopicReader
from tidemill_devkit.demo import quotes
from tidemill_devkit.demo.feed import SentRecord
from tidemill_devkit.demo.plan import AGGREGATES, DemoPlan
from tidemill_devkit.demo.profiles import DIRECTORY
from tidemill_devkit.demo.quotes import KNOWN, Extremes
from tidemill_devkit.demo.records import ExpectedOutcome

_MAX_NAMED: Final = 5
_ORDER: Final = (Outcome.APPLIED, Outcome.DUPLICATE, Outcome.REJECTED, Outcome.PARKED)


@dataclass(frozen=True)
class DemoCheck:
    """A check. `detail`: the evidence, or the difference."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Example:
    """A record with its outcome, for people."""

    command_id: str | None
    place: str
    message: str | None


@dataclass(frozen=True)
class Tally:
    """How many records had one outcome."""

    expected_outcome: ExpectedOutcome
    planned: int
    found: int
    example: Example | None


Answers = Mapping[tuple[str, int, int], Sequence[Mapping[str, Any]]]
"""(aggregate, partition, offset) -> the outcomes of that place; one, if correct."""


# --- outcomes --------------------------------------------------------------------------------------------------------


async def read_outcomes(deployment: Deployment) -> Answers:
    """Return the outcomes of all records of the run, without the service's own decisions.

    Raises `Unavailable`.
    """
    found: dict[tuple[str, int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for part in deployment.catalog.contexts.values():
        for fields in await _outcomes_of(deployment, part):
            if fields["record_offset"] != NO_OFFSET:
                found[fields["aggregate"], fields["partition"], fields["record_offset"]].append(fields)
    return found


async def _outcomes_of(deployment: Deployment, part: ContextStream) -> list[Mapping[str, Any]]:
    async with AsyncExitStack() as shared:
        topics = part.stream.topics
        codec = await AvroOutcomeCodec.open(
            topics,
            outcome_messages(),
            clock=SystemClock(),
            registry=open_registry(shared, deployment.settings),
        )
        reader = TopicReader(kafka_connection(deployment.settings, "tidemill-demo"), topics.outcomes)
        await shared.enter_async_context(reader)
        await reader.open()
        return [codec.decode(record.value) async for record in reader.records()]


def tallies(plan: DemoPlan, sent: Sequence[SentRecord], answers: Answers) -> list[Tally]:
    """Return planned and found numbers of every outcome, each with the first example in the order of publication."""
    planned = plan.expected_outcomes()
    examples: dict[ExpectedOutcome, Example] = {}
    for each in sent:
        for answer in _answers_to(each, answers):
            examples.setdefault(expected_of(answer), _example(answer))
    found = Counter(expected_of(answer) for every in answers.values() for answer in every)
    ordered = sorted(planned.keys() | found.keys(), key=_rank)
    return [
        Tally(
            expected_outcome,
            planned[expected_outcome],
            found[expected_outcome],
            examples.get(expected_outcome),
        )
        for expected_outcome in ordered
    ]


def _rank(expected_outcome: ExpectedOutcome) -> tuple[int, str]:
    return (_ORDER.index(expected_outcome.outcome), expected_outcome.code or "")


def _key(sent: SentRecord) -> tuple[str, int, int]:
    return (sent.planned.sent_to, sent.place.partition, sent.place.offset)


def _answers_to(sent: SentRecord, answers: Answers) -> list[Mapping[str, Any]]:
    """Return the outcomes of a record: at its place, and of its command; one that cannot be read names none."""
    ids = {sent.planned.command.command_id, None}
    return [answer for answer in answers.get(_key(sent), ()) if answer["command_id"] in ids]


def expected_of(answer: Mapping[str, Any]) -> ExpectedOutcome:
    """Return the content of an outcome message."""
    return ExpectedOutcome(Outcome(answer["outcome"]), answer["code"])


def _example(answer: Mapping[str, Any]) -> Example:
    place = f"{answer['aggregate']}/{answer['partition']}@{answer['record_offset']}"
    return Example(answer["command_id"], place, answer["error_message"])


def check_outcomes(sent: Sequence[SentRecord], answers: Answers) -> DemoCheck:
    """Every record has one outcome, the planned one."""
    wrong, unplanned = [], sum(len(every) for every in answers.values())
    for each in sent:
        aggregate, (partition, offset) = each.planned.sent_to, each.place
        got = [expected_of(answer) for answer in _answers_to(each, answers)]
        unplanned -= len(got)
        if got != [each.planned.expected_outcome]:
            said = " and ".join(_said(expected_outcome) for expected_outcome in got) or "no outcome"
            wrong.append(
                f"{aggregate}/{partition}@{offset}: planned {_said(each.planned.expected_outcome)}, found {said}"
            )
    if not wrong and unplanned:
        wrong.append(f"{unplanned} outcomes of records that were not published")
    return DemoCheck(
        "each record has one outcome, the planned one",
        ok=not wrong,
        detail=named(wrong) or f"{len(sent):,} records",
    )


def _said(expected_outcome: ExpectedOutcome) -> str:
    return (
        expected_outcome.outcome
        if expected_outcome.code is None
        else f"{expected_outcome.outcome} {expected_outcome.code}"
    )


# --- read models -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Views:
    """The content of the read models: latest quotes by symbol, extremes by symbol and year, connectors by name."""

    latest: Mapping[str, Mapping[str, Any]]
    years: Mapping[tuple[str, int], Extremes]
    days: Mapping[str, int]
    connectors: Mapping[str, bool]


async def read_views(deployment: Deployment, plan: DemoPlan) -> Views:
    """Read all three like their readers; the bars by symbol, since a page is limited."""
    async with Admin(deployment) as admin:
        read_models = admin.queries
        latest = await _rows(read_models, "latest-quotes")
        symbols = sorted({*plan.symbols, *(row["symbol"] for row in latest)})
        bars = [bar for symbol in symbols for bar in await _rows(read_models, "daily-bars", symbol)]
        connectors = await _rows(read_models, "connector-directory")
    return Views(
        latest={row["symbol"]: row for row in latest},
        years=extremes(bars),
        days=Counter(bar["symbol"] for bar in bars),
        connectors={row["name"]: row["active"] for row in connectors},
    )


async def _rows(read_models: ReadModels, name: str, *key: str) -> Sequence[Mapping[str, Any]]:
    return (await read_models.page(name, RowFilter(key), MAX_ROWS)).rows


def extremes(bars: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], Extremes]:
    """Return the highest high and the lowest low of each symbol and year."""
    found: dict[tuple[str, int], Extremes] = {}
    for bar in bars:
        year = (bar["symbol"], bar["day"].year)
        high, low = found.get(year, (bar["high"], bar["low"]))
        found[year] = Extremes(max(high, bar["high"]), min(low, bar["low"]))
    return found


def check_known(plan: DemoPlan, views: Views) -> DemoCheck:
    """Well-known extremes."""
    known = {year: value for year, value in KNOWN.items() if year[0] in plan.symbols}
    shown = "; ".join(
        f"{symbol} {year}: {high:.2f}, {low:.2f}" for (symbol, year), (high, low) in known.items()
    )
    wrong = differences(known, {year: views.years.get(year) for year in known})
    return DemoCheck(
        f"{len(known)} known highs and lows are found", ok=not wrong, detail=named(wrong) or shown
    )


def check_extremes(plan: DemoPlan, views: Views) -> DemoCheck:
    """All years of all stocks, as pandas computes them from the file."""
    expected = quotes.by_pandas(plan.symbols)
    wrong = differences(expected, views.years)
    detail = named(wrong) or f"{len(expected)} years of {len(plan.symbols)} stocks"
    return DemoCheck(
        "yearly highs and lows are those that pandas computes from the file", ok=not wrong, detail=detail
    )


def check_views(plan: DemoPlan, views: Views) -> DemoCheck:
    """Latest quotes and number of bars as in the file; the directory at the end."""
    newest = {quote.symbol: quote for quote in plan.quotes}  # they are ordered by day
    prices = {symbol: (quote.time, quote.close) for symbol, quote in newest.items()}
    latest = {symbol: (row["time"], row["price"]) for symbol, row in views.latest.items()}
    wrong = [
        *differences(prices, latest),
        *differences(Counter(quote.symbol for quote in plan.quotes), views.days),
        *differences(DIRECTORY, views.connectors),
    ]
    detail = f"{len(latest)} latest quotes, {sum(views.days.values()):,} daily bars, {len(views.connectors)} connectors"
    return DemoCheck("read models hold what was sent", ok=not wrong, detail=named(wrong) or detail)


def check_lag(status: Status) -> DemoCheck:
    """Nothing is in flight, nothing is halted."""
    behind = [
        *(
            f"{each.aggregate}: {each.command_lag} to consume"
            for each in status.streams
            if each.command_lag != 0
        ),
        *(f"{each.aggregate}: {each.unpublished} to publish" for each in status.streams if each.unpublished),
        *(f"{each.projection}: {each.lag} to fold" for each in status.views if each.lag or not each.started),
        *(f"{halt.what}: {halt.code}" for halt in status.halts),
        *([status.trouble] if status.trouble else []),
    ]
    return DemoCheck(
        "lag is zero at every step", ok=not behind, detail=named(behind) or "nothing is in flight"
    )


def check_events(plan: DemoPlan, status: Status) -> DemoCheck:
    """As many events as planned."""
    ours = [each for each in status.streams if each.aggregate in AGGREGATES]
    wrong = differences(
        {name: plan.events_of(name) for name in AGGREGATES}, {each.aggregate: each.events for each in ours}
    )
    return DemoCheck(
        "as many events as planned", ok=not wrong, detail=named(wrong) or f"{plan.events():,} events"
    )


def differences(expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> list[str]:
    """Return where two mappings differ, for people."""
    keys = [*expected, *(key for key in found if key not in expected)]
    return [
        f"{_shown(key)}: expected {_shown(expected.get(key))}, found {_shown(found.get(key))}"
        for key in keys
        if expected.get(key) != found.get(key)
    ]


def _shown(value: Any) -> str:
    return " ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)


def named(wrong: Sequence[str]) -> str:
    """Return the first faults, empty if there are none."""
    more = len(wrong) - _MAX_NAMED
    return "; ".join(wrong[:_MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
