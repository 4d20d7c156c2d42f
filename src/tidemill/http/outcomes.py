"""The answer to a command: its outcome, or where to ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from tidemill.domain.request_codes import RequestCode, Retry
from tidemill.http import problems
from tidemill.http.answer import HttpAnswer
from tidemill.http.models import CommandResponse
from tidemill.queries.seen import MAX_LANES, NOTHING_SEEN, SeenLane, SeenNumber, SeenToken, merged
from tidemill.submissions.requests import SubmissionResult

ContextAdvice = Mapping[str, Mapping[str, str]]

RETRY_AFTER_S: Final = 1


def response_of(result: SubmissionResult, document: Mapping[str, Any] | None = None) -> CommandResponse:
    """Return the specification's CommandResponse."""
    return CommandResponse(
        success=result.applied,
        transaction_id=result.transaction_id,
        affected_rows=result.affected_rows,
        execution_time=result.execution_time_s,
        error_message=result.message,
        command_id=result.command_id,
        outcome=None if result.outcome is None else str(result.outcome),
        code=result.code,
        seen=None if result.token is None else str(result.token),
        document=None if document is None else dict(document),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteContext:
    """What an answer needs of its request.

    `created`: it would have created something. `matched`: it demanded a version.
    `advice`: aggregate -> its context's own codes, with what to do.
    """

    instance: str
    advice: ContextAdvice
    created: bool = False
    matched: bool = False


def answer_of(result: SubmissionResult, request: WriteContext) -> HttpAnswer:
    """Return the answer to a write: 201 or 200, 202 while the outcome is not known, or a problem."""
    if result.outcome is None:
        answer = _undecided(result)
    elif result.applied:
        answer = HttpAnswer(201 if request.created else 200, response_of(result).model_dump_json().encode())
    else:
        answer = _refused(result, request)
    _describe(answer, result)
    return answer


def seen_of(results: Iterable[SubmissionResult]) -> SeenToken:
    """Return the token that shows all of these, none if they are in more lanes than a token may name."""
    tokens = [result.token for result in results if result.token is not None and result.token.sequence > 0]
    seen = merged(
        *({SeenLane(token.aggregate, token.partition): SeenNumber(1, token.sequence)} for token in tokens)
    )
    return seen if len(seen) <= MAX_LANES else NOTHING_SEEN


def command_url(command_id: str) -> str:
    """Return where to ask for a command's outcome."""
    return f"/api/db/commands/{quote(command_id, safe='')}"


def _undecided(result: SubmissionResult) -> HttpAnswer:
    answer = HttpAnswer(202, response_of(result).model_dump_json().encode())
    answer.add(b"location", command_url(result.command_id))
    answer.add(b"retry-after", str(RETRY_AFTER_S))
    return answer


def _refused(result: SubmissionResult, request: WriteContext) -> HttpAnswer:
    code = result.code or str(result.outcome).upper()
    status, retry = problems.rejection_status(code)
    if code == "VERSION_CONFLICT" and request.matched:
        status, retry = RequestCode.MATCH_FAILED.status, Retry.NEW_KEY
    more = response_of(result).model_dump(exclude={"success", "error_message", "code", "document"})
    return problems.problem(
        status,
        code,
        result.message or "the command was refused",
        retry=retry,
        instance=request.instance,
        advice=problems.advice_of(code, _own_codes(result, request.advice)),
        more=more,
    )


def _own_codes(result: SubmissionResult, advice: ContextAdvice) -> Mapping[str, str]:
    return {} if result.token is None else advice.get(result.token.aggregate, {})


def _describe(answer: HttpAnswer, result: SubmissionResult) -> None:
    answer.add(b"cache-control", "no-store")
    if result.outcome is not None:
        answer.add(b"tidemill-outcome", str(result.outcome))
    if result.token is not None and result.token.sequence > 0:
        answer.add(b"tidemill-seen", str(result.token))
    if result.version is not None and result.applied:
        answer.add(b"etag", f'"v{result.version}"')
        answer.add(b"tidemill-version", str(result.version))
