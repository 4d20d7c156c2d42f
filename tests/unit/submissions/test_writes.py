"""Documents, commands and lines, from request to answer; and what became of a command, by its id."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.engine.submissions import COLLECTIONS, EVERYTHING, SERVICE, Submissions, caller
from tests.support.waiting import HANGING_S, next_turn
from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.identity import identify
from tidemill.domain.messages import Outcome
from tidemill.domain.request_codes import RequestCode
from tidemill.security.principals import ALL_COLLECTIONS, Grant, Principal, PrincipalKind, Verb
from tidemill.submissions.preconditions import Precondition
from tidemill.submissions.requests import DocumentRequest, DocumentVerb, SubmissionResult
from tidemill.submissions.sender import SubmitterOptions
from tidemill.submissions.writes import MAX_LINES

TICK = {"symbol": "AAPL", "time": "2026-11-30T10:00:00Z", "price": 10.5, "source": "test"}
OPERATOR = Principal("ops", PrincipalKind.PERSON, {ALL_COLLECTIONS: Grant(frozenset({Verb.OPERATE}))})
OTHER = Principal("bank", PrincipalKind.SERVICE, {ALL_COLLECTIONS: EVERYTHING})


def tick(**fields: Any) -> DocumentRequest:
    return DocumentRequest(
        collection=COLLECTIONS["market-data"], verb=DocumentVerb.CREATE, body=TICK | fields
    )


def of_user(verb: DocumentVerb, body: Any = None, **more: Any) -> DocumentRequest:
    return DocumentRequest(collection=COLLECTIONS["users"], verb=verb, key="u-1", body=body, **more)


def deletion(**more: Any) -> DocumentRequest:
    return DocumentRequest(
        collection=COLLECTIONS["analysis-files"], verb=DocumentVerb.DELETE, key="f-1", **more
    )


@pytest.fixture
def process() -> Submissions:
    made = Submissions()
    made.replying()
    return made


async def code_of(waiting: Any) -> RequestCode:
    with pytest.raises(RequestRefused) as refused:
        await asyncio.wait_for(waiting, HANGING_S)
    return refused.value.request_code


async def test_a_document_is_written(process: Submissions) -> None:
    result = await process.writes.write(tick(), caller("k"), 5.0)
    assert result.applied
    assert [record.key for record in process.sent] == [b"AAPL"]


async def test_a_command_is_written_by_its_name(process: Submissions) -> None:
    result = await process.writes.command("DeleteUser", {"user_id": "u-1"}, caller("k"), 5.0)
    assert (result.applied, result.key) == (True, "u-1")


async def test_any_version_means_that_there_must_be_a_document(process: Submissions) -> None:
    asked = of_user(DocumentVerb.PATCH, {"email": "a@b.org"}, precondition=Precondition(exists=True))
    assert await code_of(process.writes.write(asked, caller("k"), 5.0)) is RequestCode.MATCH_FAILED
    assert process.sent == []
    process.rows.rows["users", "u-1"] = {}
    assert (await process.writes.write(asked, caller("k"), 5.0)).applied


async def test_what_a_deleted_document_belonged_to_is_read(process: Submissions) -> None:
    assert await code_of(process.writes.write(deletion(), caller("k"), 5.0)) is RequestCode.NO_DOCUMENT
    process.rows.rows["analysis-files", "f-1"] = {"data_analysis_id": "a-1"}
    assert (await process.writes.write(deletion(), caller("k"), 5.0)).applied
    assert [record.key for record in process.sent] == [b"a-1"]


async def test_a_repeated_deletion_is_answered_although_the_document_is_gone(process: Submissions) -> None:
    process.logs(identify("k", "shop"), 1, aggregate="data-analyses", service="shop")
    result = await process.writes.write(deletion(), caller("k"), 5.0)
    assert (result.outcome, result.key) == (Outcome.APPLIED, "f-1")
    assert process.sent == []


async def test_a_repeated_deletion_of_any_version_is_sent_again(process: Submissions) -> None:
    asked = of_user(DocumentVerb.DELETE, precondition=Precondition(exists=True))
    process.replying(outcome="duplicate", original="applied")
    process.logs(identify("k", "shop"), 1, aggregate="users", service="shop")
    result = await process.writes.write(asked, caller("k"), 5.0)
    assert (result.outcome, result.original) == (Outcome.DUPLICATE, Outcome.APPLIED)


async def test_another_services_deletion_is_not_told(process: Submissions) -> None:
    uuid = "0193f2b4-0000-7000-8000-000000000001"
    process.logs(uuid, 1, aggregate="data-analyses", service="bank")
    assert await code_of(process.writes.write(deletion(), caller(uuid), 5.0)) is RequestCode.NO_DOCUMENT


async def test_a_document_that_cannot_be_read_is_not_written(process: Submissions) -> None:
    process.rows.away = True
    assert await code_of(process.writes.write(deletion(), caller("k"), 5.0)) is RequestCode.DATABASE_AWAY


# --- lines ---


async def test_lines_are_sent_together_and_answered_in_their_order(process: Submissions) -> None:
    broken = RequestRefused(RequestCode.BAD_BODY, "no JSON", RequestFault("pointer", "", "no JSON"))
    lines: list[DocumentRequest | RequestRefused] = [
        tick(price=1.5),
        broken,
        tick(price="x"),
        tick(price=2.5),
        tick(command_id="own"),
    ]
    answers = await process.writes.lines(lines, caller("batch"), 5.0)
    assert [isinstance(answer, SubmissionResult) for answer in answers] == [True, False, False, True, False]
    assert answers[1] is broken
    codes = [answer.request_code for answer in answers if isinstance(answer, RequestRefused)]
    assert codes == [RequestCode.BAD_BODY] * 3
    assert len(process.journal.entries) == 2
    assert len(process.sent) == 2


async def test_a_repeat_of_lines_repeats_each_of_them(process: Submissions) -> None:
    for _ in range(2):
        await process.writes.lines([tick(), tick(price=2.5)], caller("batch"), 5.0)
    ids = [entry.command_id for entry in process.journal.entries]
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2
    await process.writes.lines([tick()], caller(), 5.0)
    assert process.journal.entries[-1].command_id not in ids, "a batch without a key has one made"


async def test_lines_without_one_that_can_be_sent_send_nothing(process: Submissions) -> None:
    answers = await process.writes.lines([tick(price="x")], caller("batch"), 5.0)
    assert isinstance(answers[0], RequestRefused)
    assert await process.writes.lines([], caller("batch"), 5.0) == []
    assert process.journal.entries == []


async def test_a_line_that_is_not_acknowledged_is_told_at_its_place() -> None:
    process = Submissions()
    process.sender.away = True
    answers = await process.writes.lines([tick(), tick(price=2.5)], caller("batch"), 5.0)
    codes = [answer.request_code for answer in answers if isinstance(answer, RequestRefused)]
    assert codes == [RequestCode.BUS_AWAY] * 2


async def test_too_many_lines_are_refused(process: Submissions) -> None:
    lines = [tick()] * (MAX_LINES + 1)
    assert await code_of(process.writes.lines(lines, caller("batch"), 5.0)) is RequestCode.BODY_TOO_LARGE


async def test_a_batch_counts_each_of_its_lines() -> None:
    process = Submissions(SubmitterOptions(max_waiting=2))
    waiting = asyncio.create_task(process.writes.lines([tick(), tick(price=2.5)], caller("batch"), 5.0))
    while process.submitter.in_flight < 2:
        await next_turn()
    assert await code_of(process.writes.write(tick(), caller("k"), 5.0)) is RequestCode.OVERLOADED
    process.clock.at_s += 5.0
    while not waiting.done():
        await process.submitter.waits.look()
        await next_turn()
    assert process.submitter.in_flight == 0


# --- what became of a command ---


async def test_a_command_that_was_consumed_is_told_to_its_sender(process: Submissions) -> None:
    process.logs(identify("k", "shop"), 1, outcome=Outcome.REJECTED, code="INVALID", detail="no")
    result = await process.status.outcome_of("k", SERVICE)
    assert (result.command_id, result.outcome, result.code, result.message) == (
        "k",
        "rejected",
        "INVALID",
        "no",
    )
    assert result.affected_rows == 0
    assert str(result.token) == "market-data.0=7"


async def test_a_command_that_was_journalled_and_not_consumed_is_undecided() -> None:
    process = Submissions()
    await process.writes.write(tick(), caller("k"), 0)
    assert (await process.status.outcome_of("k", SERVICE)).outcome is None
    assert await code_of(process.status.outcome_of("k", OTHER)) is RequestCode.NO_COMMAND


async def test_a_command_that_was_never_heard_of_is_told_so(process: Submissions) -> None:
    assert await code_of(process.status.outcome_of("k", SERVICE)) is RequestCode.NO_COMMAND


async def test_another_services_command_is_like_none(process: Submissions) -> None:
    uuid = "0193f2b4-0000-7000-8000-000000000001"
    process.logs(uuid, 1)
    assert (await process.status.outcome_of(uuid, SERVICE)).applied
    assert await code_of(process.status.outcome_of(uuid, OTHER)) is RequestCode.NO_COMMAND
    assert (await process.status.outcome_of(uuid, OPERATOR)).applied


async def test_who_sent_an_id_that_another_service_had_is_told_to_send_it_again(process: Submissions) -> None:
    uuid = "0193f2b4-0000-7000-8000-000000000001"
    process.sender.arrived = lambda _record, _offset: None
    await process.writes.write(tick(), caller(uuid, OTHER), 0)
    assert (await process.status.outcome_of(uuid, OTHER)).outcome is None, "neither was consumed yet"
    process.logs(uuid, 1)
    with pytest.raises(RequestRefused) as refused:
        await process.status.outcome_of(uuid, OTHER)
    assert (refused.value.request_code, refused.value.request_code.retry) == (
        RequestCode.ID_TAKEN,
        "same-key",
    )
    assert refused.value.detail == f"another command had the id {uuid} before"
    assert (await process.status.outcome_of(uuid, SERVICE)).applied


async def test_an_operator_names_the_service_of_an_id_that_is_no_uuid(process: Submissions) -> None:
    process.logs(identify("k", "shop"), 1)
    assert await code_of(process.status.outcome_of("k", OPERATOR)) is RequestCode.NO_COMMAND
    assert (await process.status.outcome_of("k", OPERATOR, service="shop")).applied
    assert await code_of(process.status.outcome_of("k", OTHER, service="shop")) is RequestCode.NO_COMMAND


async def test_a_log_that_cannot_be_read_is_told(process: Submissions) -> None:
    process.log.away = True
    assert await code_of(process.status.outcome_of("k", SERVICE)) is RequestCode.DATABASE_AWAY
