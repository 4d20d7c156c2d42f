"""Writes that wait: how each ends, whatever becomes of its client, its process and its servers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.support.counting import calls_of
from tests.support.engine.submissions import COLLECTIONS, Submissions, caller, documents
from tests.support.engine.waiting_writes import WAIT_S, at, begun, refused, tick
from tests.support.waiting import HANGING_S, next_turn
from tidemill.domain.messages import Outcome
from tidemill.domain.partitioner import partition_of
from tidemill.domain.request_codes import RequestCode
from tidemill.submissions import waits as waiting_module
from tidemill.submissions.ports import CommandRecord, Intent
from tidemill.submissions.requests import (
    DocumentRequest,
    DocumentVerb,
    SubmissionResult,
)
from tidemill.submissions.sender import SubmitterOptions


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
    waits._news.set()  # as time would, it is woken
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


class SilentKafka:
    """A sender that acknowledges nothing: the broker is away, and an acknowledgement has longer than a drain."""

    def __init__(self) -> None:
        self.asked = 0

    async def send(self, _: CommandRecord) -> int:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("wait_s", [0.0, 2.0, 30.0])
async def test_a_stop_answers_a_write_that_kafka_does_not_acknowledge(
    monkeypatch: pytest.MonkeyPatch, wait_s: float
) -> None:
    """Whether or not its time is over before; it is told that it may have arrived, and what to do."""
    process, kafka = Submissions(SubmitterOptions(drain_s=4.0)), SilentKafka()
    monkeypatch.setattr(process.sender, "send", kafka.send)
    task = await begun(process, tick(), wait_s)
    await at(process, min(wait_s, 3.0))
    draining = asyncio.create_task(process.submitter.drain())
    for _ in range(5):
        await next_turn()
    await at(process, min(wait_s, 3.0) + 3.9)
    for _ in range(5):
        await next_turn()
    assert not task.done()
    await at(process, min(wait_s, 3.0) + 4.0)
    refusal = await refused(task)
    assert (refusal.request_code, refusal.request_code.retry) == (RequestCode.BUS_AWAY, "same-key")
    await asyncio.wait_for(draining, HANGING_S)
    assert (process.submitter.in_flight, kafka.asked) == (0, 1)


async def test_what_is_journalled_after_the_time_of_a_stop_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Submissions(SubmitterOptions(drain_s=4.0))
    reached, journalled, stored = asyncio.Event(), asyncio.Event(), process.journal.intents

    async def slow(entries: Sequence[Intent]) -> Sequence[object]:
        reached.set()
        await journalled.wait()
        return await stored(entries)

    monkeypatch.setattr(process.journal, "intents", slow)
    task = asyncio.create_task(process.submitter.submit(tick(), WAIT_S))
    await asyncio.wait_for(reached.wait(), HANGING_S)
    draining = asyncio.create_task(process.submitter.drain())
    await next_turn()
    await at(process, 4.0)
    journalled.set()
    assert (await refused(task)).request_code is RequestCode.DRAINING
    await asyncio.wait_for(draining, HANGING_S)
    assert process.sent == []


async def test_a_caller_that_is_cancelled_while_it_sends_ends_as_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cancellation from outside is not taken for the end of a drain."""
    process, kafka = Submissions(), SilentKafka()
    monkeypatch.setattr(process.sender, "send", kafka.send)
    await begun(process, tick())
    (run,) = process.submitter._tasks
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_a_wait_that_is_due_later_wakes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, the look for outcomes is made when the first of them is due, not for each that begins."""
    process = Submissions()
    waits = process.submitter.waits
    pauses = calls_of(monkeypatch, waiting_module, "stopped_within")
    running = asyncio.create_task(waits.run())
    first = await begun(process, tick())
    await next_turn()
    before = pauses()
    tasks = [first, *[await begun(process, tick(str(number))) for number in range(20)]]
    await next_turn()
    assert pauses() == before
    await waits.stop()
    await asyncio.wait_for(asyncio.gather(running, *tasks), HANGING_S)
