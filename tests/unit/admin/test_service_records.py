"""Records of queries: the specification's fields, no values, bounded; and the sums of the last minute."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.service import MemoryPlans
from tidemill.admin.service import query_records
from tidemill.admin.service.plan_samples import MAX_PATTERNS, MAX_PENDING, PlanSampler, PlanSamples
from tidemill.admin.service.query_records import QueryOperation, QueryRecord, QueryRecorder, QueryRun
from tidemill.admin.service.window_sums import MAX_KEYS, OTHERS, WINDOW_S, WindowSums
from tidemill.domain.errors import ContractError, Unavailable
from tidemill.domain.uuid7 import new_uuid7
from tidemill.runtime.telemetry.log_events import Log

SPECIFIED = [
    "query_id",
    "timestamp",
    "service_name",
    "collection",
    "operation_type",
    "execution_time_ms",
    "documents_processed",
    "index_used",
    "query_pattern",
    "success",
    "error_message",
]


class MovedClock:
    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now(self) -> datetime:
        return datetime(2026, 12, 1, tzinfo=UTC) + timedelta(seconds=self.at_s)

    def monotonic_s(self) -> float:
        return self.at_s


def run(pattern: str = "find market-data by symbol", **given: Any) -> QueryRun:
    known: dict[str, Any] = {
        "collection": "market-data",
        "operation": QueryOperation.FIND,
        "pattern": pattern,
    }
    return QueryRun(**known | {"seconds": 0.002, "rows": 3} | given)


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def test_a_record_has_the_specified_fields_in_their_order() -> None:
    assert [field.name for field in fields(QueryRecord)] == SPECIFIED
    assert [operation.value for operation in QueryOperation] == [
        "find",
        "insert",
        "update",
        "delete",
        "aggregate",
    ]


def test_a_query_is_recorded_with_what_became_of_it(clock: MovedClock) -> None:
    recorder = QueryRecorder(clock)
    asked = recorder.query("billing", "order-7")
    assert (asked.service_name, asked.correlation_id, asked.timestamp) == ("billing", "order-7", clock.now())
    assert UUID(asked.query_id).version == 7
    recorder.note(asked, run())
    failed = recorder.query("billing")
    recorder.note(failed, run(code="QUERY_TIMEOUT", rows=0, seconds=0.4))
    newest, oldest = recorder.recent()
    assert oldest == QueryRecord(
        asked.query_id, clock.now(), "billing", "market-data", QueryOperation.FIND, 2.0, 3, None,
        "find market-data by symbol", True, None,
    )  # fmt: skip
    assert (newest.query_id, newest.success, newest.error_message) == (
        failed.query_id,
        False,
        "QUERY_TIMEOUT",
    )


def test_no_more_records_than_the_bound_are_kept(clock: MovedClock) -> None:
    recorder = QueryRecorder(clock, records=3)
    for number in range(5):
        recorder.note(recorder.query("billing"), run(rows=number))
    assert [record.documents_processed for record in recorder.recent(10)] == [4, 3, 2]
    assert [record.documents_processed for record in recorder.recent(2)] == [4, 3]
    assert query_records.RECORDS == 10_000


def test_a_slow_query_is_logged_by_its_shape(clock: MovedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, Any]] = []

    class Logger:
        def warning(self, event: str, **told: Any) -> None:
            lines.append({"event": event} | told)

    monkeypatch.setattr(query_records, "_log", Logger())
    recorder = QueryRecorder(clock, slow_ms=100)
    recorder.note(recorder.query("billing"), run(seconds=0.1, sql="select 1 where $1 = 2"))
    recorder.note(recorder.query("billing"), run(seconds=0.1001, sql="select 1 where $1 = 2"))
    (line,) = lines
    assert line.keys() == {
        "event", "query_id", "service", "collection", "operation", "pattern", "execution_time_ms", "rows", "code",
    }  # fmt: skip
    assert (line["event"], line["pattern"]) == (Log.QUERY_SLOW, "find market-data by symbol")


def test_sums_are_by_service_collection_and_operation(clock: MovedClock) -> None:
    recorder = QueryRecorder(clock)
    for service, seconds in [("billing", 0.1), ("billing", 0.3), ("quotes", 0.9)]:
        recorder.note(recorder.query(service), run(seconds=seconds))
    recorder.note_command("billing", "market-data", QueryOperation.INSERT, 0.05, rows=1, failed=False)
    sums = recorder.operations()
    assert [(one.service_name, one.operation, one.count) for one in sums] == [
        ("quotes", "find", 1),
        ("billing", "find", 2),
        ("billing", "insert", 1),
    ]
    assert sums[1].execution_time == pytest.approx(0.4)
    assert (sums[1].max_execution_time, sums[1].rows, sums[1].failed) == (0.3, 6, 0)


def test_sums_equal_those_of_all_events_in_the_window(clock: MovedClock, seed: int) -> None:
    """The model is a list of all events; the sums know only a second's."""
    dice, window, events = random.Random(seed), WindowSums(clock), []
    for _ in range(500):
        clock.at_s += dice.choice([0.0, 0.0, 0.3, 1.0, 7.0, 90.0])
        key = (dice.choice("ab"), dice.choice("xy"), "find")
        window.add(key, 0.5, rows=dice.randrange(3))
        events.append((int(clock.at_s), key))
        expected: dict[tuple[str, str, str], int] = defaultdict(int)
        for second, at_key in events:
            expected[at_key] += int(clock.at_s) - WINDOW_S < second
        counts = {at_key: one.count for at_key, one in window.by_key().items()}
        assert counts == {at_key: count for at_key, count in expected.items() if count}
        assert window.total().count == sum(expected.values())
    clock.at_s += WINDOW_S
    assert window.by_key() == {}
    assert window.total().mean_seconds == 0.0


def test_keys_beyond_the_bound_are_summed_under_one(clock: MovedClock) -> None:
    window = WindowSums(clock)
    for number in range(MAX_KEYS + 5):
        window.add((f"service-{number}", "x", "find"), 0.1)
    sums = window.by_key()
    assert len(sums) == MAX_KEYS + 1
    assert sums[OTHERS].count == 5
    assert window.total().count == MAX_KEYS + 5


# --- plans -----------------------------------------------------------------------------------------------------------


async def sampled(samples: PlanSamples, plans: MemoryPlans) -> None:
    sampler = PlanSampler(samples, plans)
    while await sampler.look():
        pass


async def test_the_plan_of_a_shape_is_looked_at_once_and_shown_in_its_records(clock: MovedClock) -> None:
    samples, plans = PlanSamples(), MemoryPlans({"select a"})
    recorder = QueryRecorder(clock, plans=samples)
    for pattern, sql in [("a", "select a"), ("b", "select b"), ("a", "select a"), ("c", None)]:
        recorder.note(recorder.query("billing"), run(pattern, sql=sql))
    assert plans.asked == [], "not while queries run"
    await sampled(samples, plans)
    await sampled(samples, plans)
    assert plans.asked == ["select a", "select b"]
    assert [record.index_used for record in recorder.recent()] == [None, True, False, True]


async def test_only_every_nth_shape_is_looked_at() -> None:
    samples, plans = PlanSamples(every=3), MemoryPlans()
    for number in range(7):
        samples.see(f"pattern {number}", f"select {number}")
    await sampled(samples, plans)
    assert plans.asked == ["select 0", "select 3", "select 6"]


async def test_a_plan_that_cannot_be_had_now_is_looked_at_later() -> None:
    plans = MemoryPlans({"select a"}, {"select a": Unavailable("database", "it is restarting")})
    samples = PlanSamples()
    samples.see("a", "select a")
    with pytest.raises(Unavailable):
        await PlanSampler(samples, plans).look()
    plans.refused.clear()
    await sampled(samples, plans)
    assert samples.index_used("a") is True


async def test_a_plan_that_cannot_be_had_at_all_is_given_up() -> None:
    plans = MemoryPlans(refused={"select a": ContractError("no such table")})
    samples = PlanSamples()
    samples.see("a", "select a")
    samples.see("b", "select b")
    await sampled(samples, plans)
    assert plans.asked == ["select a", "select b"]
    assert (samples.index_used("a"), samples.index_used("b")) == (None, False)


async def test_shapes_are_bounded() -> None:
    samples = PlanSamples()
    for number in range(MAX_PATTERNS + 10):
        samples.see(f"pattern {number}", f"select {number}")
    plans = MemoryPlans()
    await sampled(samples, plans)
    assert len(plans.asked) == MAX_PENDING
    samples.see("pattern 0", "select 0")
    await sampled(samples, plans)
    assert plans.asked[-1] == "select 0", "it was forgotten, and is looked at again"


def test_ids_of_queries_are_in_the_order_of_their_times() -> None:
    at = datetime(2026, 12, 1, tzinfo=UTC)
    early, late = new_uuid7(at), new_uuid7(at + timedelta(milliseconds=1))
    assert early < late
    assert (early.version, early.variant) == (7, "specified in RFC 4122")
    assert early.int >> 80 == int(at.timestamp() * 1_000)
    assert new_uuid7(at) != early
