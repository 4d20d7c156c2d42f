"""Each threat of docs/security.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.architecture.test_readme import section
from tests.architecture.tree import syntax

PAGE = Path("docs/security.md")
DEMANDED = {4, 5, 14, 15, 16, 17, 18, 19, 25, 27, 29}


def named() -> dict[int, list[tuple[str, str]]]:
    """Number of a threat -> its tests: (file, name)."""
    threats = {}
    for number, cell in re.findall(
        r"^\| T(\d+): .* \| ([^|]+) \|$", section(PAGE, "Threats and their tests"), re.MULTILINE
    ):
        tests: list[tuple[str, str]] = []
        file = ""
        for word in re.findall(r"`([^`]+)`", cell):
            if word.endswith(".py"):
                file = word
            else:
                tests.append((file, word))
        threats[int(number)] = tests
    return threats


def there(file: str) -> set[str]:
    path = Path("tests") / file
    return {
        node.name
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_each_threat_names_tests_that_exist() -> None:
    threats = named()
    assert threats.keys() == DEMANDED
    assert all(threats.values())
    assert [
        (file, name) for tests in threats.values() for file, name in tests if name not in there(file)
    ] == []
