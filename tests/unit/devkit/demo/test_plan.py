"""The plan of the demo says what comes out: asked of the real rules; and the checks notice a difference."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.support.engine.built_in import BUILT_IN
from tests.support.engine.commands import HORIZON, FakeRecord, Harness
from tests.support.engine.streams import messages_of
from tidemill.admin.progress import ReadModelStatus, StreamStatus
from tidemill.admin.records.outgoing import RecordPlace
from tidemill.admin.status import Status
from tidemill.commands.batch import BatchWriter
from tidemill.commands.handlers import handlers_of
from tidemill.commands.validation import Validator
from tidemill.contexts.data_analyses import data_analyses
from tidemill.domain.messages import Outcome
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.settings import Settings
from tidemill.transport.avro.codec import StreamCodec
from tidemill_devkit.demo import place, proof
from tidemill_devkit.demo.analyses import USERS
from tidemill_devkit.demo.feed import SentRecord, outgoing
from tidemill_devkit.demo.place import settings_of
from tidemill_devkit.demo.plan import AGGREGATES, LANES, DemoPlan, make_plan
from tidemill_devkit.demo.profiles import DIRECTORY
from tidemill_devkit.demo.quotes import KNOWN, ROWS, SYMBOLS, Extremes, by_pandas, quotes
from tidemill_devkit.demo.records import ExpectedOutcome, of_another_schema
from tidemill_devkit.demo.series import TIME_SERIES

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
STREAMS = {
    context.aggregate: replace(Stream.of(context), partitions=LANES)
    for context in map(BUILT_IN.__getitem__, place.CONTEXTS.split(","))
}
MARKET, PROFILES = "market-data", "connector-profiles"
OF_SERIES = ("NO_SERIES", "AXIS_FIXED", "SAVE_OPEN", "NO_COLUMN", "WRONG_AXIS", "SAVE_INCOMPLETE", "NO_SAVE")
OF_ANALYSES = ("NO_USER", "NO_DATA_ANALYSIS", "FILENAME_TAKEN", "WRONG_STATUS")


@cache
def small() -> DemoPlan:
    """The plan with one stock; it hashes passwords, which who only collects tests need not wait for."""
    return make_plan(NOW, ("FB",))


# --- the data --------------------------------------------------------------------------------------------------------


def test_the_file_holds_all_quotes_of_five_stocks() -> None:
    found = quotes()
    assert len(found) == ROWS
    assert {quote.symbol for quote in found} == set(SYMBOLS)
    assert min(quote.day for quote in found) == date(2000, 3, 1)


def test_the_known_highs_and_lows_are_those_of_pandas() -> None:
    computed = by_pandas()
    assert {year: computed[year] for year in KNOWN} == dict(KNOWN)
    assert {symbol for symbol, _ in KNOWN} == set(SYMBOLS)


# --- the plan --------------------------------------------------------------------------------------------------------


def test_the_numbers_of_the_plan() -> None:
    expected_outcomes = make_plan(NOW).expected_outcomes()
    assert expected_outcomes == {
        ExpectedOutcome(Outcome.APPLIED): ROWS + 21,
        ExpectedOutcome(Outcome.DUPLICATE): 129,
        ExpectedOutcome(Outcome.DUPLICATE, "INVALID"): 2,
        ExpectedOutcome(Outcome.REJECTED, "ID_REUSE"): 11,
        ExpectedOutcome(Outcome.REJECTED, "INVALID"): 16,
        ExpectedOutcome(Outcome.REJECTED, "WRONG_KEY"): 7,
        ExpectedOutcome(Outcome.REJECTED, "WRONG_PARTITION"): 8,
        ExpectedOutcome(Outcome.REJECTED, "STALE"): 2,
        ExpectedOutcome(Outcome.REJECTED, "ALREADY_EXISTS"): 1,
        ExpectedOutcome(Outcome.REJECTED, "NAME_TAKEN"): 1,
        ExpectedOutcome(Outcome.REJECTED, "NOT_FOUND"): 2,
        ExpectedOutcome(Outcome.REJECTED, "VERSION_CONFLICT"): 1,
        **{ExpectedOutcome(Outcome.REJECTED, code): 1 for code in (*OF_SERIES, *OF_ANALYSES, "EXPIRED")},
        ExpectedOutcome(Outcome.PARKED, "MALFORMED"): 10,
        ExpectedOutcome(Outcome.PARKED, "UNKNOWN_SCHEMA"): 8,
    }


async def codec_of(aggregate: str) -> StreamCodec:
    context = aggregate.replace("-", "_")
    return await StreamCodec.open(STREAMS[aggregate], messages_of(context), clock=SystemClock())


async def published(plan: DemoPlan, aggregate: str) -> list[tuple[FakeRecord, ExpectedOutcome]]:
    """Return the records of one command topic, as the feed would send them, and what must become of each."""
    codecs = {
        model: await codec_of(name)
        for name, stream in STREAMS.items()
        for model in (spec.model for spec in stream.commands.values())
    }
    ends: Counter[int] = Counter()
    found = []
    for planned in plan.records:
        if planned.sent_to == aggregate:
            value = await codecs[type(planned.command)].encode_command(planned.command)
            sent = outgoing(STREAMS[aggregate], planned, value)
            assert sent.partition is not None
            found.append(
                (
                    FakeRecord(sent.partition, ends[sent.partition], sent.key, sent.value),
                    planned.expected_outcome,
                )
            )
            ends[sent.partition] += 1
    return found


async def expected_of(
    aggregate: str, batches: Sequence[Sequence[FakeRecord]]
) -> dict[tuple[int, int], ExpectedOutcome]:
    """Return what the real rules make of the records."""
    stream = STREAMS[aggregate]
    harness, codec = Harness(stream, MemoryCommandStore(stream)), await codec_of(aggregate)
    harness.validator = Validator(stream, codec)
    handlers = handlers_of(stream, codec, 1_000_000)
    harness.writer = BatchWriter(harness.store, handlers, SystemClock(), horizon=HORIZON)
    await harness.claim()
    found = {}
    for batch in batches:
        done = await harness.apply(*batch)
        for arrival, row in done.outcomes:
            place = (arrival.record.partition, arrival.record.offset)
            found[place] = ExpectedOutcome(Outcome.of_letter(row.outcome), row.code)
    return found


@pytest.mark.parametrize("size", [3, 1_000])
@pytest.mark.parametrize("aggregate", [MARKET, PROFILES, TIME_SERIES])
def test_the_rules_do_what_the_plan_says_however_batches_are_cut(aggregate: str, size: int) -> None:
    async def play() -> None:
        records = await published(small(), aggregate)
        batches = [
            [record for record, _ in records[start : start + size]] for start in range(0, len(records), size)
        ]
        planned = {
            (record.partition, record.offset): expected_outcome for record, expected_outcome in records
        }
        assert await expected_of(aggregate, batches) == planned

    asyncio.run(play())


def test_what_depends_on_another_record_stands_behind_it_in_its_lane() -> None:
    """Lanes are worked at the same time: only within one is it certain who comes first."""
    lanes: dict[str, set[bytes]] = {}
    for planned in small().records:
        if (
            planned.expected_outcome.outcome is Outcome.DUPLICATE
            or planned.expected_outcome.code == "ID_REUSE"
        ):
            lanes.setdefault(planned.command.command_id, set())
    for planned in small().records:
        if planned.command.command_id in lanes:
            lanes[planned.command.command_id].add(outgoing(STREAMS[planned.sent_to], planned, b"").key)
    assert {len(keys) for keys in lanes.values()} == {1}


def test_what_another_aggregate_refers_to_comes_first() -> None:
    created = [record.command for record in small().fed if record.expected_outcome.code != "NO_USER"]
    create = data_analyses.messages.create
    referred = {command.model_dump()["user_id"] for command in created if isinstance(command, create)}
    assert {record.sent_to for record in small().first} == {USERS}
    assert referred == {record.command.model_dump()["user_id"] for record in small().first}


@pytest.mark.parametrize("value", [b"\x00\x00\x00\x00\x07body", b"\xc3\x01" + bytes(8) + b"body"])
def test_another_schema_is_named_in_the_framing_of_the_first(value: bytes) -> None:
    other = of_another_schema(value)
    assert other is not None
    assert other != value
    assert len(other) == len(value)
    assert other[:1] == value[:1]
    assert other.endswith(b"body")


# --- the checks ------------------------------------------------------------------------------------------------------


def answers_to(sent: Sequence[SentRecord]) -> dict[tuple[str, int, int], list[dict[str, Any]]]:
    return {
        (each.planned.sent_to, each.place.partition, each.place.offset): [
            {
                "outcome": each.planned.expected_outcome.outcome.value,
                "code": each.planned.expected_outcome.code,
                "command_id": each.planned.command.command_id,
                "aggregate": each.planned.sent_to,
                "partition": each.place.partition,
                "record_offset": each.place.offset,
                "error_message": None,
            }
        ]
        for each in sent
    }


@cache
def sent() -> list[SentRecord]:
    return [SentRecord(planned, RecordPlace(0, offset)) for offset, planned in enumerate(small().records)]


def test_planned_outcomes_are_accepted() -> None:
    answers = answers_to(sent())
    assert proof.check_outcomes(sent(), answers).ok
    assert all(tally.planned == tally.found for tally in proof.tallies(small(), sent(), answers))
    assert all(tally.example is not None for tally in proof.tallies(small(), sent(), answers))


def test_a_record_without_an_outcome_is_named() -> None:
    answers = answers_to(sent())
    del answers[MARKET, 0, 7]
    check = proof.check_outcomes(sent(), answers)
    assert not check.ok
    assert "market-data/0@7: planned" in check.detail
    assert "found no outcome" in check.detail


def test_a_record_with_two_outcomes_is_named() -> None:
    answers = answers_to(sent())
    answers[MARKET, 0, 7] *= 2
    assert not proof.check_outcomes(sent(), answers).ok


def test_an_outcome_of_another_command_at_a_records_place_is_not_its_own() -> None:
    answers = answers_to(sent())
    answers[MARKET, 0, 7] = [{**answers[MARKET, 0, 7][0], "command_id": "another"}]
    check = proof.check_outcomes(sent(), answers)
    assert "market-data/0@7: planned" in check.detail
    assert "found no outcome" in check.detail


def test_counts_that_agree_do_not_hide_outcomes_that_were_swapped() -> None:
    answers = answers_to(sent())
    applied, refused = (
        next(
            each.place.offset
            for each in sent()
            if each.planned.sent_to == MARKET and each.planned.expected_outcome.outcome is outcome
        )
        for outcome in (Outcome.APPLIED, Outcome.REJECTED)
    )
    answers[MARKET, 0, applied], answers[MARKET, 0, refused] = (
        answers[MARKET, 0, refused],
        answers[MARKET, 0, applied],
    )
    assert all(tally.planned == tally.found for tally in proof.tallies(small(), sent(), answers))
    assert not proof.check_outcomes(sent(), answers).ok


def test_an_outcome_of_a_record_that_nobody_published_is_noticed() -> None:
    answers = answers_to(sent())
    check = proof.check_outcomes(sent()[:-1], answers)
    assert check.detail == "1 outcomes of records that were not published"


def views(chosen: DemoPlan | None = None) -> proof.Views:
    plan = chosen or small()
    bars = [{"symbol": q.symbol, "day": q.day, "high": q.high, "low": q.low} for q in plan.quotes]
    return proof.Views(
        latest={q.symbol: {"time": q.time, "price": q.close} for q in plan.quotes},
        years=proof.extremes(bars),
        days=Counter(q.symbol for q in plan.quotes),
        connectors=dict(DIRECTORY),
    )


def test_read_models_of_the_plan_are_accepted() -> None:
    for check in (proof.check_views, proof.check_known, proof.check_extremes):
        assert check(small(), views()).ok


def test_a_high_that_pandas_does_not_see_is_named() -> None:
    seen = views()
    wrong = replace(seen, years={**seen.years, ("FB", 2012): Extremes(45.0, 17.0)})
    for check in (proof.check_known(small(), wrong), proof.check_extremes(small(), wrong)):
        assert not check.ok
        assert check.detail == "FB 2012: expected 45.0 17.55, found 45.0 17.0"


def test_a_missing_bar_quote_or_connector_is_named() -> None:
    seen = views()
    broken = [
        (replace(seen, days={"FB": 195}), "FB: expected 196, found 195"),
        (replace(seen, latest={}), "FB: expected 2013-03-01 21:00:00+00:00 27.78, found None"),
        (
            replace(seen, connectors={**DIRECTORY, "Market feed": False}),
            "Market feed: expected True, found False",
        ),
    ]
    for wrong, detail in broken:
        check = proof.check_views(small(), wrong)
        assert not check.ok
        assert check.detail == detail


def status(lag: int = 0, events: int = 0) -> Status:
    streams = [
        StreamStatus(name, LANES, 0, 0, lag, 0, small().events_of(name) + events) for name in AGGREGATES
    ]
    return Status(streams, [ReadModelStatus("latest-quotes", MARKET, started=True, lag=0, halted=0)], [])


def test_lag_and_events_are_checked() -> None:
    assert proof.check_lag(status()).ok
    assert proof.check_events(small(), status()).ok
    assert proof.check_lag(status(lag=3)).detail.startswith("market-data: 3 to consume")
    assert not proof.check_events(small(), status(events=1)).ok


# --- the place -------------------------------------------------------------------------------------------------------


def test_a_run_has_its_own_database_and_topics_for_every_login() -> None:
    given = Settings.model_validate(
        {
            "database": {
                "url": "postgresql://service:one@127.0.0.1:5432/app",
                "migration_url": "postgresql://owner:two@127.0.0.1:5432/app?application_name=x",
            },
            "kafka": {"bootstrap": "127.0.0.1:9092"},
        }
    )
    own = settings_of(given, "20261121-093000", 8)
    assert own.database.dsn() == "postgresql://service:one@127.0.0.1:5432/tidemill_demo_20261121_093000"
    assert own.database.dsn("migration").endswith("/tidemill_demo_20261121_093000?application_name=x")
    assert (own.topics.prefix, own.topics.partitions) == ("tidemill-demo-20261121-093000", 8)
    assert own.kafka == given.kafka
