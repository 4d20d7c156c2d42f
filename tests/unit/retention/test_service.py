"""The archive's worker as a service: what of a round it tells, and when it looks again at once."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from tidemill.domain.errors import Fenced, LaneHalted, TransientError
from tidemill.retention.grouping import Round
from tidemill.retention.service import RetentionService
from tidemill.retention.transition_table import Action
from tidemill.runtime.telemetry.log_events import Log

WAITS = TransientError("the lake is unavailable")


class Scripted:
    """A worker whose rounds are told before."""

    def __init__(self, *rounds: Round | Exception) -> None:
        self.rounds = list(rounds)

    async def round(self) -> Round:
        found = self.rounds.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def service(*rounds: Round | Exception) -> RetentionService:
    worker: Any = Scripted(*rounds)
    return RetentionService(worker, every_s=3_600.0)


@pytest.mark.parametrize("found", [Fenced(frozenset({1})), Round(), Round(problems=["no late table"])])
async def test_nothing_more_is_due_where_nothing_moved(found: Round | Exception) -> None:
    assert not await service(found).look()


async def test_more_may_be_due_where_something_moved() -> None:
    assert await service(Round(done={Action.SEAL: 1})).look()


@pytest.mark.parametrize("error", [WAITS, LaneHalted(1, "TOPIC_CHANGED", "x")])
async def test_what_a_round_waits_for_is_shown_and_told_once(error: Exception) -> None:
    kept = service(error, error, Round())
    with capture_logs() as lines:
        assert not await kept.look()
        assert kept.health().detail == {"troubles": [str(error)]}
        await kept.look()
    assert [line["event"] for line in lines] == [Log.ARCHIVE_WAITS]
    await kept.look()
    assert kept.health().detail == {"troubles": []}
