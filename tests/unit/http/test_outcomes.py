"""The answer to a write: what a refusal advises, and the token of many lines."""

from __future__ import annotations

import json

import pytest

from tidemill.contexts import connector_profiles, market_data
from tidemill.domain.messages import Outcome
from tidemill.domain.rejections import REJECTED
from tidemill.http.outcomes import WriteContext, answer_of, seen_of
from tidemill.queries.seen import MAX_LANES, format_seen
from tidemill.submissions.requests import LaneToken, SubmissionResult

ADVICE = {context.aggregate: context.codes for context in (connector_profiles.context, market_data.context)}
WRITE = WriteContext(instance="/api/db/connector-profiles", advice=ADVICE)


def rejected(code: str, aggregate: str = "connector-profiles") -> SubmissionResult:
    token = LaneToken(aggregate, 3, 7)
    return SubmissionResult(command_id="1", outcome=Outcome.REJECTED, code=code, message="no", token=token)


@pytest.mark.parametrize(
    ("result", "advice"),
    [
        (rejected("NAME_TAKEN"), ADVICE["connector-profiles"]["NAME_TAKEN"]),
        (rejected("NOT_FOUND"), ADVICE["connector-profiles"]["NOT_FOUND"]),
        (rejected("INVALID"), REJECTED["INVALID"]),
        (rejected("NAME_TAKEN", "market-data"), "read `detail`, correct the command, send it with a new key"),
    ],
    ids=["of the context", "of another one, too", "of the engine", "of no context"],
)
def test_a_refusal_advises_what_the_context_of_the_command_says(
    result: SubmissionResult, advice: str
) -> None:
    answer = answer_of(result, WRITE)
    assert json.loads(answer.body)["advice"] == advice


def applied(partition: int, sequence: int) -> SubmissionResult:
    token = LaneToken("market-data", partition, sequence)
    return SubmissionResult(command_id="1", outcome=Outcome.APPLIED, token=token)


def test_the_token_of_many_lines_names_each_lane_once_with_its_largest_number() -> None:
    unknown, nothing_there = SubmissionResult(command_id="1"), applied(5, 0)
    results = [applied(1, 4), applied(0, 9), applied(1, 6), applied(1, 5), unknown, nothing_there]
    assert format_seen(seen_of(results)) == "market-data.0=9, market-data.1=6"
    assert not seen_of([unknown, nothing_there])


def test_more_lanes_than_a_token_may_name_are_left_out() -> None:
    many = [applied(partition, 1) for partition in range(MAX_LANES + 1)]
    assert len(seen_of(many[1:])) == MAX_LANES
    assert not seen_of(many)
