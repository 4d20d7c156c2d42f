"""What a test measured and does not judge, told at the end of a run: a plug-in of pytest."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

_MEASURED = "measured: "

Tell = Callable[[str], None]


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Tell:
    """Tells a figure at the end of the run, whichever worker measured it."""
    properties = request.node.user_properties
    return lambda text: properties.append((_MEASURED, text))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write what was measured."""
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for name, text in report.user_properties:
                if name == _MEASURED:
                    terminalreporter.write_line(f"{_MEASURED}{text}")
