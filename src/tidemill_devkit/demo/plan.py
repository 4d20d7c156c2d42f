"""The plan: every record of the demo in the order in which it is published, and the expected outcome of each.

Real quotes, and between them the mistakes of real producers, in known numbers. A duplicate and an id that is
used twice go to the lane of the first one, after it, so that their outcome does not depend on which lane is faster.
Beside the quotes there are profiles of connectors, a series, a cache entry, and an analysis of a user, who comes first.
One quote is not in the feed: it is written over HTTP, and once again with its key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tidemill.contexts.connector_profiles.messages import DeactivateConnectorProfile
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.security.principals import DEVELOPMENT
from tidemill_devkit.demo.analyses import DATA_ANALYSES, USERS, analysis_records, user_records
from tidemill_devkit.demo.cached import CACHE_ENTRIES, cache_records
from tidemill_devkit.demo.profiles import PROFILES, profile_records
from tidemill_devkit.demo.quotes import SYMBOLS, Quote, quotes
from tidemill_devkit.demo.records import (
    Damage,
    ExpectedOutcome,
    Planned,
    applied,
    as_json,
    as_nothing,
    cut_short,
    of_another_schema,
    parked,
    rejected,
    with_a_tail,
)
from tidemill_devkit.demo.series import TIME_SERIES, series_records

MARKET_DATA: Final = "market-data"
SERVICE: Final = "quote-feed"
SOURCE: Final = "bokeh_sampledata"
HTTP_SERVICE: Final = DEVELOPMENT.name
"""The service of what is written over HTTP: nobody has a token there."""

LANES: Final = 8
"""Lanes of each aggregate: five stocks and a dozen of all else need no more."""

RETRIED: Final = 100
REPLAYED: Final = 25


@dataclass(frozen=True)
class DemoPlan:
    """The records, and exactly the expected results.

    `first`: those to which others refer from another aggregate: they are in force before the rest is published.
    `fed`: the rest of what clients of Kafka publish, in order. `over_http`: those that are then written over HTTP, all
    with the key of `http_quote`.
    """

    symbols: tuple[str, ...]
    quotes: Sequence[Quote]
    first: Sequence[Planned]
    fed: Sequence[Planned]
    http_quote: Quote
    over_http: Sequence[Planned]
    lanes: int = LANES

    @property
    def records(self) -> Sequence[Planned]:
        """Return all records, whichever way they take to a command topic."""
        return [*self.first, *self.fed, *self.over_http]

    def expected_outcomes(self) -> Counter[ExpectedOutcome]:
        """Return how many records are expected to have which outcome."""
        return Counter(record.expected_outcome for record in self.records)

    def records_of(self, aggregate: str) -> int:
        """Return how many records the command topic of an aggregate gets."""
        return sum(record.sent_to == aggregate for record in self.records)

    def events_of(self, aggregate: str) -> int:
        """Return how many events an aggregate publishes."""
        return sum(record.events for record in self.records if record.sent_to == aggregate)

    def events(self) -> int:
        """Return how many events there are."""
        return sum(record.events for record in self.records)


def make_plan(now: datetime, symbols: tuple[str, ...] = SYMBOLS) -> DemoPlan:
    """Return the plan. `now`: the timestamp of the commands; `symbols`: fewer stocks make a smaller demo."""
    real = quotes(symbols)
    clients = Clients(now)
    withheld = max((quote for quote in real if quote.symbol == symbols[0]), key=lambda quote: quote.day)
    good = [applied(MARKET_DATA, clients.quote(quote)) for quote in real if quote is not withheld]
    written = applied(MARKET_DATA, clients.quote(withheld, service=HTTP_SERVICE))
    return DemoPlan(
        symbols,
        real,
        first=user_records(now),
        fed=[
            *_woven(good, clients, real),
            *profile_records(now, LANES),
            *series_records(now),
            *cache_records(now),
            *analysis_records(now),
        ],
        http_quote=withheld,
        over_http=[written, written.again()],
    )


def _woven(good: Sequence[Planned], clients: Clients, real: Sequence[Quote]) -> list[Planned]:
    """Distribute the mistakes evenly between the quotes, so that good and bad ones share batches."""
    between: dict[int, list[Planned]] = defaultdict(list)
    for number in range(RETRIED):  # the answer to the first try got lost
        at = number * len(good) // RETRIED
        between[at].append(good[at].again())
    mistakes = list(clients.mistakes(real))
    for number, mistake in enumerate(mistakes):
        between[number * len(good) // len(mistakes)].append(mistake)
    records = []
    for at, record in enumerate(good):
        records += [record, *between[at]]
    # a feed that starts again, sends again what it had sent; and a mistake stays one, however often it is sent
    replayed = [record.again() for record in good[:REPLAYED]]
    refused_twice = [mistake.again() for mistake in mistakes if mistake.expected_outcome.code == "INVALID"][
        :2
    ]
    return [*records, *replayed, *refused_twice]


class Clients:
    """Makes the commands of the feed, good and bad ones. `now`: their timestamp."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def quote(self, quote: Quote, *, service: str = SERVICE) -> RecordMarketData:
        """Return the command that records a quote; its id says which."""
        fields = self._fields(quote, f"{quote.symbol}-{quote.day}") | {"service_name": service}
        return RecordMarketData.model_validate(fields)

    def mistakes(self, real: Sequence[Quote]) -> Iterator[Planned]:
        """Yield the mistakes, each on its own quote."""
        days = iter(real[:: max(1, len(real) // 64)])
        yield from self._reused_ids(real)
        yield from self._invalid(days)
        yield from self._unreadable(days)
        yield from self._wrongly_addressed(days)
        for number in range(1, 3):
            yield rejected(MARKET_DATA, self._command(next(days), str(_uuid7_of_2020(number))), "STALE")

    def _reused_ids(self, real: Sequence[Quote]) -> Iterator[Planned]:
        """The first ids again, for another price: they must follow the quotes with these ids."""
        for quote in real[:10]:
            again = self._fields(quote, f"{quote.symbol}-{quote.day}") | {"price": quote.close + 1}
            yield rejected(MARKET_DATA, RecordMarketData.model_validate(again), "ID_REUSE")

    def _invalid(self, days: Iterator[Quote]) -> Iterator[Planned]:
        changes: list[tuple[str, int, Mapping[str, Any]]] = [
            ("high-below-low", 4, {"high": 10.0, "low": 20.0}),
            ("last-century", 3, {"time": datetime(1999, 12, 31, 21, tzinfo=UTC)}),
            ("next-century", 3, {"time": datetime(2100, 1, 1, tzinfo=UTC)}),
            ("no-number", 2, {"price": float("nan")}),
            ("negative-volume", 2, {"volume": -1.0}),
            ("lower-case", 1, {"symbol": "aapl"}),
        ]
        for name, count, change in changes:
            for number in range(1, count + 1):
                command = self._command(next(days), f"{name}-{number}", **change)
                yield rejected(MARKET_DATA, command, "INVALID")

    def _unreadable(self, days: Iterator[Quote]) -> Iterator[Planned]:
        damages: list[Damage] = [*[cut_short] * 4, *[with_a_tail] * 2, *[as_json] * 2, as_nothing]
        for number, damage in enumerate(damages, start=1):
            yield parked(MARKET_DATA, self._command(next(days), f"broken-{number}"), "MALFORMED", damage)
        for number in range(1, 6):
            command = self._command(next(days), f"unknown-{number}")
            yield parked(MARKET_DATA, command, "UNKNOWN_SCHEMA", of_another_schema)
        for number in range(1, 4):  # a command of another topic is unknown in this one
            lost = DeactivateConnectorProfile(
                command_id=f"lost-{number}", service_name=SERVICE, timestamp=self._now, profile_id="feed"
            )
            yield replace(parked(MARKET_DATA, lost, "UNKNOWN_SCHEMA"), key=lost.profile_id)

    def _wrongly_addressed(self, days: Iterator[Quote]) -> Iterator[Planned]:
        for number in range(1, 7):
            quote = next(days)
            command = self._command(quote, f"wrong-key-{number}")
            yield replace(rejected(MARKET_DATA, command, "WRONG_KEY"), key=f"NASDAQ:{quote.symbol}")
        for number in range(1, 9):
            command = self._command(next(days), f"wrong-partition-{number}")
            yield replace(rejected(MARKET_DATA, command, "WRONG_PARTITION"), partitions_off=1)

    def _command(self, quote: Quote, command_id: str, **changes: Any) -> RecordMarketData:
        """Return an unchecked command, as a client of another language could send it."""
        return RecordMarketData.model_construct(**(self._fields(quote, command_id) | changes))

    def _fields(self, quote: Quote, command_id: str) -> dict[str, Any]:
        return {
            "command_id": command_id,
            "service_name": SERVICE,
            "timestamp": self._now,
            "symbol": quote.symbol,
            "time": quote.time,
            "price": quote.close,
            "open": quote.open,
            "high": quote.high,
            "low": quote.low,
            "volume": quote.volume,
            "source": SOURCE,
        }


def _uuid7_of_2020(number: int) -> UUID:
    """Return an id of 1 January 2020: older than every duplicate horizon."""
    made_ms = (datetime(2020, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        milliseconds=1
    )
    return UUID(int=made_ms << 80 | 7 << 76 | 0b10 << 62 | number)


AGGREGATES: Final = (MARKET_DATA, PROFILES, TIME_SERIES, CACHE_ENTRIES, USERS, DATA_ANALYSES)
