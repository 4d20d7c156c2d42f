"""`make durations`: where a run's time went, by file and by fixture, beside pytest's own list of the slowest tests.

A plug-in of pytest that only that target loads. Times are of the wall clock, and belong to the machine.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from operator import itemgetter
from typing import Any

import pytest

MOST = 25
_FIXTURE = "took: "


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: Any) -> Iterator[None]:
    """Note with the test that was the first to ask for it how long a fixture took, without those that it asks for."""
    began_s = time.perf_counter()
    result = yield
    took = (f"{_FIXTURE}{fixturedef.argname}", time.perf_counter() - began_s)
    request._pyfuncitem.user_properties.append(took)
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write the sums."""
    files: dict[str, float] = defaultdict(float)
    fixtures: dict[str, float] = defaultdict(float)
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if not isinstance(report, pytest.TestReport):
            continue
        files[report.nodeid.split("::", 1)[0]] += report.duration
        if report.when == "teardown":  # it has what all phases noted
            for name, seconds in report.user_properties:
                if name.startswith(_FIXTURE) and isinstance(seconds, float):
                    fixtures[name.removeprefix(_FIXTURE)] += seconds
    for title, sums in (("files", files), ("fixtures", fixtures)):
        terminalreporter.section(f"slowest {title}")
        for name, seconds in sorted(sums.items(), key=itemgetter(1), reverse=True)[:MOST]:
            terminalreporter.write_line(f"{seconds:8.2f}s {name}")
