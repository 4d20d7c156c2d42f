"""A command is journalled, produced and waited for; each way it can fail has its answer."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from tests.support.engine.submissions import Submissions
from tests.support.engine.waiting_writes import WAIT_S, at, begun, refused, tick
from tests.support.waiting import HANGING_S
from tidemill.domain.messages import Outcome
from tidemill.domain.partitioner import partition_of
from tidemill.domain.request_codes import RequestCode
from tidemill.submissions.requests import (
    LaneToken,
    SubmissionResult,
)


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
    assert result.message == "the id was first used for another command"
    own = process.journal.entries[0].partition
    assert result.token == LaneToken("market-data", own, 0), "nothing of the other one"
    assert result.transaction_id is None


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
