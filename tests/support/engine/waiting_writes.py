"""Writes that a test lets wait: it submits one, and looks at a time of its choice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from tests.support.engine.submissions import COLLECTIONS, Submissions, caller, documents
from tests.support.waiting import HANGING_S, next_turn
from tidemill.domain.errors import RequestRefused
from tidemill.submissions.requests import DocumentRequest, DocumentVerb, Submission, SubmissionResult

WAIT_S = 5.0


def tick(key: str = "k-1", **fields: Any) -> Submission:
    body = {"symbol": "AAPL", "time": "2026-11-30T10:00:00Z", "price": 10.5, "source": "test"} | fields
    request = DocumentRequest(collection=COLLECTIONS["market-data"], verb=DocumentVerb.CREATE, body=body)
    return documents().submission(request, caller(key, trace="00-trace-01"))


async def refused(waiting: Awaitable[Any]) -> RequestRefused:
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
