"""An outage is told when it begins and when it is over, however often its work is tried meanwhile."""

from __future__ import annotations

import re
import urllib.request
from collections import Counter

import pytest

from tests.support.servers.installation import Installation, Serving
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit.stack import Stack

pytestmark = [pytest.mark.breaks_servers, pytest.mark.slow]

MANY = 30
"""Attempts: some fifteen seconds of an idle process, whose pauses grow to five."""

_RETRIES = re.compile(r"^tidemill_batch_retries_total\{.*\} (\S+)$", re.MULTILINE)


def attempts(serving: Serving) -> float:
    with urllib.request.urlopen(f"{serving.address}/metrics", timeout=HANGING_S) as answer:
        return sum(map(float, _RETRIES.findall(answer.read().decode())))


def test_an_idle_process_tells_of_a_database_that_is_away_once(
    breakable: Installation, breakable_stack: Stack
) -> None:
    streams = 2
    with breakable.serving() as serving:
        before = len(serving.lines())
        breakable_stack.postgres.kill()
        eventually_blocking(lambda: attempts(serving) > MANY, what="many attempts")
        breakable_stack.repair()
        eventually_blocking(serving.well, what="health")
        told = Counter(line["event"] for line in serving.lines()[before:])
    assert told["batch_retried"] <= streams, told
    assert told["dependency_lost"] == told["dependency_back"] == 1, told
    assert told.total() <= 6 * streams, told
