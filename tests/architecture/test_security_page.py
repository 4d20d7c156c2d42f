"""Each threat of docs/security.md has a control, and tests that there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.test_readme import section

PAGE = Path("docs/security.md")
THREATS = ["T4", "T5", "T14", "T15", "T16", "T17", "T18", "T19", "T25", "T27", "T29"]


def rows() -> list[list[str]]:
    """The table of threats: threat, control, tests."""
    lines = re.findall(r"^\| (T[0-9]+: .*) \|$", section(PAGE, "Threats and their tests"), re.MULTILINE)
    return [line.split(" | ") for line in lines]


def named(cell: str) -> Iterator[tuple[Path, str]]:
    """The tests that a cell names, each behind its file."""
    for part in cell.split("; "):
        file, *tests = re.findall(r"`([^`]+)`", part)
        for test in tests:
            yield Path(file), test


def written_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_threat_has_a_control_and_tests() -> None:
    assert [threat.split(":")[0] for threat, _, _ in rows()] == THREATS
    for threat, control, tests in rows():
        assert control.strip(), threat
        assert list(named(tests)), threat


def test_each_test_that_is_named_exists() -> None:
    lost = [(file, test) for *_, cell in rows() for file, test in named(cell) if test not in written_in(file)]
    assert lost == []
