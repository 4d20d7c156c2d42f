"""The seed of a run: given again it is the same, and a failure says how to give it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import seeds
from tests.support.waiting import HANGING_S

ROOT = Path(__file__).parents[2]
FAILING = "def test_with_it(seed): assert seed < 0\n\n\ndef test_without_it(): assert False\n"


def said(folder: Path, *arguments: str) -> str:
    (folder / "test_random.py").write_text(FAILING)
    environment = {name: value for name, value in os.environ.items() if name != seeds.VARIABLE}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.support.seeds",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    ended = subprocess.run(
        [*command, "test_random.py"],
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("arguments", [["-q"], ["-q", "-n", "1"]], ids=["alone", "of a worker"])
def test_a_failure_says_how_to_repeat_it(tmp_path: Path, arguments: list[str]) -> None:
    lines = said(tmp_path, *arguments).splitlines()
    (again,) = [line for line in lines if line.startswith(seeds.VARIABLE)]
    given, _, command = again.partition(" ")
    seed = given.partition("=")[2]
    assert command == ".venv/bin/pytest 'test_random.py::test_with_it'"
    assert f"assert {seed} < 0" in "\n".join(lines)


def test_the_same_seed_chooses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [range(1_000), range(1_000)]
    monkeypatch.setenv(seeds.VARIABLE, "7")
    first = seeds.chosen_of_each(*kinds)
    assert seeds.chosen_of_each(*kinds) == first
    monkeypatch.setenv(seeds.VARIABLE, "8")
    assert seeds.chosen_of_each(*kinds) != first


def test_a_run_without_one_gets_one_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(seeds.VARIABLE)
    monkeypatch.setattr(secrets, "randbelow", lambda bound: bound - 1)
    assert (seeds.run_seed(), seeds.run_seed()) == (999_999, 999_999)
    assert seeds.pytest_report_header() == f"seed: {seeds.VARIABLE}=999999"
