"""A process may open as many files as it may at all, and says at its start where that is too little for its lanes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from tidemill.runtime import open_files

RAISED = """
import resource
from tidemill.runtime import open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 512))
open_files.raise_limit()
open_files.raise_limit()
print(open_files.limit(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_becomes_the_hard_one() -> None:
    said = subprocess.run([sys.executable, "-c", RAISED], check=True, capture_output=True, text=True)
    assert said.stdout == "512 (512, 512)\n"


def test_open_files_are_counted() -> None:
    before = open_files.count()
    ends = os.pipe()
    assert open_files.count() == before + 2
    for end in ends:
        os.close(end)
    assert open_files.count() == before


@pytest.mark.parametrize(
    ("limit", "needed"), [(867, 868), (868, None), (resource.RLIM_INFINITY, None)], ids=str
)
def test_a_limit_that_is_too_low_for_the_lanes_is_told_with_what_to_do(
    limit: int, needed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    with capture_logs() as said:
        open_files.warn_if_short(lanes=128)
    if needed is None:
        assert not said
        return
    (line,) = said
    assert (line["event"], line["log_level"]) == ("files_short", "warning")
    assert (line["limit"], line["needed"], line["lanes"]) == (limit, needed, 128)
    assert f"raise the hard limit to {needed}" in line["next"]
