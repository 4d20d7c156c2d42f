"""Whether what was written and read over HTTP is what was planned. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from tidemill.admin.records.outgoing import RecordPlace
from tidemill.domain.lane import NO_OFFSET
from tidemill_devkit.demo.feed import SentRecord
from tidemill_devkit.demo.over_http import QuoteReads, QuoteWrite, span_start
from tidemill_devkit.demo.plan import DemoPlan
from tidemill_devkit.demo.proof import Answers, DemoCheck, differences, named

_NOWHERE: Final = RecordPlace(0, NO_OFFSET)


def sent_over_http(plan: DemoPlan, answers: Answers) -> list[SentRecord]:
    """Return the records that were written over HTTP, with the places where their outcomes are; HTTP tells none."""
    command = plan.over_http[0].command
    service = (command.command_id, command.service_name)
    places = sorted(
        (partition, offset)
        for (_, partition, offset), outcomes in answers.items()
        if any((outcome["command_id"], outcome["service_name"]) == service for outcome in outcomes)
    )
    missing = len(plan.over_http) - len(places)
    at = [*(RecordPlace(*place) for place in places), *[_NOWHERE] * missing]
    return [SentRecord(record, place) for record, place in zip(plan.over_http, at, strict=False)]


def proof_over_http(plan: DemoPlan, writes: Sequence[QuoteWrite], reads: QuoteReads) -> Iterator[DemoCheck]:
    """Yield the checks."""
    yield _check_writes(plan, writes)
    yield _check_token(plan, writes, reads.latest)
    yield _check_page(plan, reads.page)


def _check_writes(plan: DemoPlan, writes: Sequence[QuoteWrite]) -> DemoCheck:
    """The first is applied, and the second is answered as the first was."""
    outcomes = {number: write.outcome for number, write in enumerate(writes, start=1)}
    planned = [record.expected_outcome.outcome.value for record in plan.over_http]
    wrong = differences(dict(enumerate(planned, start=1)), outcomes)
    if len({(write.command_id, write.seen) for write in writes}) > 1:
        wrong.append(f"one place: found {' and '.join(write.seen for write in writes)}")
    return DemoCheck(
        "a quote written over HTTP twice, with one key, is in effect once",
        ok=not wrong,
        detail=named(wrong) or f"{writes[0].command_id}: {', then '.join(planned)}, {writes[0].seen}",
    )


def _check_token(plan: DemoPlan, writes: Sequence[QuoteWrite], latest: Mapping[str, Any]) -> DemoCheck:
    quote = plan.http_quote
    wrong = differences(
        {"symbol": quote.symbol, "time": _written(quote.time), "price": quote.close},
        {name: latest.get(name) for name in ("symbol", "time", "price")},
    )
    detail = f"{writes[0].seen}: {quote.symbol} {quote.close:.2f} on {quote.day}"
    return DemoCheck(
        "a read with the token of that write shows it", ok=not wrong, detail=named(wrong) or detail
    )


def _check_page(plan: DemoPlan, page: Sequence[Mapping[str, Any]]) -> DemoCheck:
    quote, start = plan.http_quote, span_start(plan.http_quote)
    expected = {
        _written(other.time): [other.close]
        for other in plan.quotes
        if other.symbol == quote.symbol and other.time >= start
    }
    prices: dict[str, list[Any]] = {}
    for row in page:
        prices.setdefault(row["time"], []).append(row["price"])
    wrong = differences(expected, prices)
    detail = f"{len(page)} quotes of {quote.symbol} since {start:%Y-%m-%d}"
    return DemoCheck(
        "a page over HTTP has exactly the rows of its filter", ok=not wrong, detail=named(wrong) or detail
    )


def _written(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S.%fZ}"
