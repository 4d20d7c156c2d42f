"""A seed that is another one in every run, so that samples of random tests add up: a plug-in of pytest.

`TIDEMILL_TEST_SEED` repeats a run. All workers of a run have the same seed, since they inherit the variable.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Sequence
from random import Random
from typing import Any, Final, TypeVar

import pytest

T = TypeVar("T")

VARIABLE: Final = "TIDEMILL_TEST_SEED"
EVERY: Final = "TIDEMILL_TEST_EVERY_CASE"
"""Set to anything, `sample` leaves nothing out: `make trials`."""


def run_seed() -> int:
    """Return the seed of this run."""
    return int(os.environ.setdefault(VARIABLE, str(secrets.randbelow(1_000_000))))


def chosen_of_each(*kinds: Sequence[T]) -> list[T]:
    """Return one of each kind, as this run's seed chooses them."""
    source = Random(run_seed())
    return [source.choice(kind) for kind in kinds]


def sample(cases: Sequence[T], size: int) -> list[T]:
    """Return as many of the cases as this run's seed chooses, in their order; all of them in `make trials`."""
    if EVERY in os.environ:
        return list(cases)
    chosen = Random(run_seed()).sample(range(len(cases)), size)
    return [cases[index] for index in sorted(chosen)]


def pytest_configure() -> None:
    """Choose the seed before workers are started, and before tests are collected."""
    run_seed()


def pytest_report_header() -> str:
    return f"seed: {VARIABLE}={run_seed()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    """Show with a failure of a test that uses the seed how to repeat it: a worker's header is not printed."""
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        again = f"{VARIABLE}={run_seed()} .venv/bin/pytest '{item.nodeid}'"
        report.sections.append(("to repeat it", again))
    return report


@pytest.fixture(scope="session")
def seed() -> int:
    """The seed of this run; whoever fails with it is told how to repeat it."""
    return run_seed()
