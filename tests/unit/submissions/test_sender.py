"""A command is journalled, produced and waited for; each way it can fail has its answer."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.support.engine.submissions import COLLECTIONS, Submissions, caller, documents
from tests.support.waiting import HANGING_S, next_turn
from tidemill.domain.errors import RequestRefused
from tidemill.domain.messages import Outcome
from tidemill.domain.partitioner import partition_of
from tidemill.domain.request_codes import RequestCode
from tidemill.submissions.ports import CommandRecord
from tidemill.submissions.requests import (
    DocumentRequest,
    DocumentVerb,
    LaneToken,
    Submission,
    SubmissionResult,
)
from tidemill.submissions.sender import SubmitterOptions

WAIT_S = 5.0


def tick(key: str = "k-1", **fields: Any) -> Submission:
    body = {"symbol": "AAPL", "time": "2026-11-30T10:00:00Z", "price": 10.5, "source": "test"} | fields
    request = DocumentRequest(collection=COLLECTIONS["market-data"], verb=DocumentVerb.CREATE, body=body)
    return documents().submission(request, caller(key, trace="00-trace-01"))


async def refused(waiting: Coroutine[Any, Any, Any]) -> RequestRefused:
    with pytest.raises(RequestRefused) as raised:
        await asyncio.wait_for(waiting, HANGING_S)
    return raised.value


async def begun(
    process: Submissions, submission: Submission, wait_s: float = WAIT_S
) -> asyncio.Task[SubmissionResult]:
    """Submit, and return when the command waits for its outcome."""
    waiting = len(process.submitter.waits)
    task = asyncio.create_task(process.submitter.submit(submission, wait_s))
    while len(process.submitter.waits) == waiting and not task.done():
        await next_turn()
    for _ in range(10):
        await next_turn()
    return task


async def at(process: Submissions, after_s: float) -> None:
    """Let so much time pass since the begin, and look."""
    process.clock.at_s = 1000.0 + after_s
    await process.submitter.waits.look()


async def test_the_outcome_comes_by_reply() -> None:
    process = Submissions()
    process.replying()
    result = await process.submitter.submit(tick(), WAIT_S)
    assert result == SubmissionResult(
        command_id="k-1",
        outcome=Outcome.APPLIED,
        affected_rows=1,
        token=LaneToken("market-data", process.journal.entries[0].partition, 7),
        execution_time_s=0.5,
        transaction_id=f"market-data/{process.journal.entries[0].partition}/9",
    )
    assert process.log.questions == [], "nobody asked the log"
    assert process.journal.closed == {0: ("applied", None)}
    assert process.submitter.in_flight == 0


async def test_the_record_is_where_its_key_belongs_and_says_where_to_reply() -> None:
    process = Submissions()
    process.replying()
    submission = tick()
    await process.submitter.submit(submission, WAIT_S)
    (record,) = process.sent
    assert record.key == b"AAPL"
    assert record.partition == partition_of(b"AAPL", submission.target.stream.partitions)
    headers = dict(record.headers)
    assert headers["kafka_replyTopic"] == b"replies"
    assert headers["kafka_replyPartition"] == struct.pack(">i", 0)
    assert headers["traceparent"] == b"00-trace-01"
    assert len(headers["kafka_correlationId"]) == 16


async def test_what_is_written_is_journalled_first_and_without_its_values() -> None:
    process = Submissions()
    process.sender.arrived = lambda _record, _offset: journalled.append(len(process.journal.entries))
    journalled: list[int] = []
    await process.submitter.submit(tick(), 0)
    assert journalled == [1]
    (entry,) = process.journal.entries
    assert (entry.principal, entry.verb, entry.command) == (
        "shop",
        "create",
        "tidemill.market_data.RecordMarketData",
    )
    assert (entry.command_id, entry.collection) == ("k-1", "market-data")
    assert {"symbol", "price"} <= set(entry.fields)


async def test_a_write_that_cannot_be_journalled_is_not_sent() -> None:
    process = Submissions()
    process.journal.away = True
    refusal = await refused(process.submitter.submit(tick(), WAIT_S))
    assert refusal.request_code is RequestCode.JOURNAL_AWAY
    assert refusal.retry_after_s == 1.0
    assert process.sent == []
    assert process.submitter.in_flight == 0


async def test_an_entry_that_cannot_be_closed_stays_open_and_the_answer_comes() -> None:
    process = Submissions()
    process.replying()
    process.journal.closing_fails = True
    assert (await process.submitter.submit(tick(), WAIT_S)).applied
    await process.submitter.drain()
    assert process.journal.closed == {}


async def test_without_a_reply_the_log_is_asked_at_a_quarter_of_a_second() -> None:
    process = Submissions()
    process.inbox.address = None
    task = await begun(process, tick())
    submission = tick()
    (record,) = process.sent
    assert dict(record.headers).keys() == {"traceparent"}
    await at(process, 0.2)
    assert process.log.questions == []
    payload = await process.payloads.encode("market-data", submission.command)
    process.logs(submission.identity, payload.digest, partition=record.partition, record_offset=0)
    await at(process, 0.25)
    result = await asyncio.wait_for(task, HANGING_S)
    assert (result.outcome, result.affected_rows) == (Outcome.APPLIED, 1)
    assert process.log.questions == [[submission.identity]]


async def test_the_log_is_asked_three_times_and_then_the_outcome_is_unknown() -> None:
    process = Submissions()
    task = await begun(process, tick())
    for after_s in (0.25, 0.5, 1.0, 2.0, 4.9):
        await at(process, after_s)
    assert len(process.log.questions) == 2
    assert not task.done()
    await at(process, 5.0)
    result = await asyncio.wait_for(task, HANGING_S)
    assert result == SubmissionResult(command_id="k-1")
    assert not result.applied
    assert len(process.log.questions) == 3
    assert process.journal.closed == {}, "its entry stays open"


async def test_one_query_is_for_all_that_wait() -> None:
    process = Submissions()
    tasks = [await begun(process, tick(f"k-{number}")) for number in range(20)]
    await at(process, 0.25)
    assert [len(question) for question in process.log.questions] == [20]
    await at(process, WAIT_S)
    assert [(await task).outcome for task in tasks] == [None] * 20


async def test_a_database_that_is_unavailable_ends_no_wait_early() -> None:
    process = Submissions()
    process.log.away = True
    task = await begun(process, tick())
    await at(process, 1.0)
    assert not task.done()
    await at(process, WAIT_S)
    assert (await asyncio.wait_for(task, HANGING_S)).outcome is None


async def test_a_database_that_never_answers_ends_no_wait_late(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Submissions()
    process.submitter.waits._look_up_s = 0.001

    async def silent(_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(process.log, "outcomes", silent)
    task = await begun(process, tick())
    await at(process, WAIT_S)
    assert (await asyncio.wait_for(task, HANGING_S)).outcome is None


async def test_an_equal_command_before_it_makes_it_a_duplicate() -> None:
    process = Submissions()
    submission = tick()
    payload = await process.payloads.encode("market-data", submission.command)
    process.logs(submission.identity, payload.digest, record_offset=4)
    task = await begun(process, submission)
    await at(process, 0.25)
    result = await asyncio.wait_for(task, HANGING_S)
    assert (result.outcome, result.original) == (Outcome.DUPLICATE, Outcome.APPLIED)
    assert result.applied


async def test_another_command_with_its_id_makes_it_id_reuse() -> None:
    process = Submissions()
    submission = tick()
    process.logs(submission.identity, 1234, record_offset=4)
    task = await begun(process, submission)
    await at(process, 0.25)
    result = await asyncio.wait_for(task, HANGING_S)
    assert (result.outcome, result.code) == (Outcome.REJECTED, "ID_REUSE")
    assert "see position 9 of lane market-data/0" in (result.message or "")


@pytest.mark.parametrize(
    ("fields", "outcome", "original", "code"),
    [
        ({"outcome": "rejected", "code": "INVALID", "error_message": "no"}, "rejected", None, "INVALID"),
        (
            {"outcome": "duplicate", "original": "rejected", "code": "INVALID"},
            "duplicate",
            "rejected",
            "INVALID",
        ),
        ({"outcome": "parked", "code": "CRASHED", "affected_rows": 0}, "parked", None, "CRASHED"),
    ],
)
async def test_every_outcome_is_given_as_it_is(
    fields: dict[str, Any], outcome: str, original: str | None, code: str
) -> None:
    process = Submissions()
    process.replying(**fields)
    result = await process.submitter.submit(tick(), WAIT_S)
    assert (result.outcome, result.original, result.code) == (outcome, original, code)
    assert not result.applied
    await process.submitter.drain()
    assert process.journal.closed == {0: (outcome, code)}


async def test_two_with_one_key_are_both_sent_and_each_has_its_own_answer() -> None:
    process = Submissions()
    tasks = [await begun(process, tick()), await begun(process, tick(price=11.5))]
    correlations = [dict(record.headers)["kafka_correlationId"] for record in process.sent]
    assert len(set(correlations)) == 2
    for correlation, outcome in zip(correlations, ("applied", "rejected"), strict=True):
        reply = {"outcome": outcome, "original": None, "code": None, "error_message": None}
        process.inbox.give(
            correlation, reply | {"affected_rows": 1, "sequence": 1, "position": 1, "execution_time": 0.0}
        )
    assert [(await task).outcome for task in tasks] == [Outcome.APPLIED, Outcome.REJECTED]


async def test_replies_to_others_and_late_ones_are_left_out() -> None:
    process = Submissions()
    process.replying()
    process.inbox.give(b"of another process", {})
    await process.submitter.submit(tick(), WAIT_S)
    (record,) = process.sent
    process.inbox.give(dict(record.headers)["kafka_correlationId"], {})


async def test_without_an_acknowledgement_it_may_be_sent_again_with_the_same_key() -> None:
    process = Submissions()
    process.sender.away = True
    refusal = await refused(process.submitter.submit(tick(), WAIT_S))
    assert refusal.request_code is RequestCode.BUS_AWAY
    assert refusal.request_code.retry == "same-key"
    assert refusal.retry_after_s == 1.0
    assert process.submitter.in_flight == 0
    assert len(process.submitter.waits) == 0
    await process.submitter.drain()
    assert process.journal.closed == {}, "it may have arrived"


async def test_an_outcome_that_comes_without_the_acknowledgement_is_the_answer() -> None:
    process = Submissions()
    process.sender.away = process.sender.arrives = True
    process.replying()
    assert (await process.submitter.submit(tick(), WAIT_S)).applied


async def test_an_outcome_that_comes_before_the_acknowledgement_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Submissions()
    acknowledged = asyncio.Event()
    sent: list[CommandRecord] = []

    async def slow(record: CommandRecord) -> int:
        sent.append(record)
        await acknowledged.wait()
        raise RuntimeError("nobody waits for this any more")

    monkeypatch.setattr(process.sender, "send", slow)
    task = await begun(process, tick())
    payload = await process.payloads.encode("market-data", tick().command)
    process.logs(tick().identity, payload.digest, record_offset=0)
    await at(process, 0.25)
    assert (await asyncio.wait_for(task, HANGING_S)).outcome is Outcome.APPLIED
    acknowledged.set()
    await next_turn()


async def test_only_the_acknowledgement_is_waited_for_if_nothing_else_is_asked() -> None:
    process = Submissions()
    result = await process.submitter.submit(tick(), 0)
    assert result == SubmissionResult(command_id="k-1")
    assert len(process.sent) == 1
    assert process.log.questions == []
    process.sender.away = True
    assert (await refused(process.submitter.submit(tick(), 0))).request_code is RequestCode.BUS_AWAY


async def test_a_time_that_is_over_before_the_acknowledgement_waits_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Submissions()
    acknowledged = asyncio.Event()

    async def slow(_: CommandRecord) -> int:
        await acknowledged.wait()
        return 3

    monkeypatch.setattr(process.sender, "send", slow)
    task = await begun(process, tick())
    await at(process, WAIT_S)
    for _ in range(5):
        await next_turn()
    assert not task.done()
    acknowledged.set()
    assert (await asyncio.wait_for(task, HANGING_S)).outcome is None


async def test_a_registry_that_is_unavailable_is_told() -> None:
    process = Submissions()
    process.payloads.away = True
    refusal = await refused(process.submitter.submit(tick(), WAIT_S))
    assert refusal.request_code is RequestCode.BUS_AWAY
    assert process.journal.entries == []


async def test_what_is_too_large_is_refused_before_anything_else() -> None:
    process = Submissions(SubmitterOptions(max_command_bytes=100))
    refusal = await refused(process.submitter.submit(tick(), WAIT_S))
    assert refusal.request_code is RequestCode.BODY_TOO_LARGE
    assert process.journal.entries == []
    process = Submissions()
    process.sender.max_bytes = 100
    refusal = await refused(process.submitter.submit(tick(), WAIT_S))
    assert refusal.request_code is RequestCode.BODY_TOO_LARGE


async def test_a_halted_lane_is_told_at_once_and_asked_about_once_a_second() -> None:
    process = Submissions()
    process.replying()
    lane = ("market-data", partition_of(b"AAPL", tick().target.stream.partitions))
    process.log.halts.add(lane)
    for _ in range(3):
        refusal = await refused(process.submitter.submit(tick(), WAIT_S))
        assert refusal.request_code is RequestCode.LANE_HALTED
        assert refusal.retry_after_s == 30.0
    assert process.log.halt_questions == 1
    assert process.sent == [] == process.journal.entries
    process.log.halts.clear()
    process.clock.at_s += 1.0
    assert (await process.submitter.submit(tick(), WAIT_S)).applied
    assert process.log.halt_questions == 2


async def test_a_database_that_does_not_tell_of_halts_holds_up_nobody() -> None:
    process = Submissions()
    process.replying()
    process.log.away = True
    assert (await process.submitter.submit(tick(), WAIT_S)).applied


async def test_more_than_may_wait_is_refused() -> None:
    process = Submissions(SubmitterOptions(max_waiting=2))
    tasks = [await begun(process, tick(f"k-{number}")) for number in range(2)]
    refusal = await refused(process.submitter.submit(tick("k-3"), WAIT_S))
    assert refusal.request_code is RequestCode.OVERLOADED
    assert refusal.retry_after_s == 1.0
    await at(process, WAIT_S)
    await asyncio.gather(*tasks)
    process.replying()
    assert (await process.submitter.submit(tick("k-3"), WAIT_S)).applied


async def test_a_client_that_leaves_does_not_end_its_write() -> None:
    process = Submissions()
    task = await begun(process, tick())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process.submitter.in_flight == 1
    (record,) = process.sent
    process.replying()
    process.sender.arrived(record, 0)
    await process.submitter.drain()
    assert process.journal.closed == {0: ("applied", None)}


async def test_a_process_that_stops_takes_no_more_and_ends_what_it_has() -> None:
    process = Submissions(SubmitterOptions(drain_s=10.0))
    short, long = await begun(process, tick("short"), 2.0), await begun(process, tick("long"), 30.0)
    draining = asyncio.create_task(process.submitter.drain())
    await next_turn()
    refusal = await refused(process.submitter.submit(tick("late"), WAIT_S))
    assert refusal.request_code is RequestCode.DRAINING
    await at(process, 2.0)
    assert (await asyncio.wait_for(short, HANGING_S)).outcome is None
    assert not long.done()
    assert not draining.done()
    await at(process, 10.0)
    assert (await asyncio.wait_for(long, HANGING_S)).outcome is None
    await asyncio.wait_for(draining, HANGING_S)


async def test_the_service_looks_by_itself_and_ends_every_wait_at_its_stop() -> None:
    process = Submissions()
    waits = process.submitter.waits
    await waits.start()
    running = asyncio.create_task(waits.run())
    task = await begun(process, tick())
    assert waits.health().detail == {"waiting": 1}
    process.clock.at_s += WAIT_S
    waits.end_within(0)  # as time would, it is woken
    assert (await asyncio.wait_for(task, HANGING_S)).outcome is None
    last = await begun(process, tick("last"))
    await waits.stop()
    assert (await asyncio.wait_for(last, HANGING_S)).outcome is None
    await asyncio.wait_for(running, HANGING_S)


async def test_the_version_is_told_where_it_is_certain() -> None:
    body = {"user_id": "u-1", "username": "ada", "email": "a@b.org", "hashed_password": "x"}
    process = Submissions()
    process.replying()
    request = DocumentRequest(
        collection=COLLECTIONS["client-configs"],
        verb=DocumentVerb.CREATE,
        body={"client_config_id": "c-1", "name": "n", "config_data": body},
    )
    submission = documents().submission(request, caller("k"))
    assert (await process.submitter.submit(submission, WAIT_S)).version == 1
    process.replying(outcome="rejected")
    assert (await process.submitter.submit(submission, WAIT_S)).version is None
    process.replying(outcome="duplicate", original="applied")
    assert (await process.submitter.submit(submission, WAIT_S)).version == 1
