"""The words of names, docstrings, messages and pages are those of the glossary; what is banned only becomes rarer."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.architecture import tree

FILE = Path("tests/architecture/glossary.toml")
GLOSSARY: dict[str, Any] = tomllib.loads((tree.ROOT / FILE).read_text())
BANNED: dict[str, dict[str, Any]] = GLOSSARY["banned"]


def read() -> dict[Path, str]:
    """What is read against it: the product with its devkit, and the pages, but not the history of changes."""
    pages = [path for path in tree.files(".md") if path.name != "CHANGELOG.md"]
    return {path: tree.text(path) for path in [*tree.python_files("src"), *pages]}


def found(pattern: str, texts: dict[Path, str]) -> list[str]:
    word = re.compile(pattern, re.IGNORECASE)
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if word.search(line)
    ]


@pytest.mark.parametrize("pattern", BANNED)
def test_a_banned_word_only_becomes_rarer(pattern: str) -> None:
    """Fewer than `left` is red, too: then the number is to be lowered, so that it cannot rise again."""
    places, rule = found(pattern, read()), BANNED[pattern]
    assert len(places) == rule["left"], (
        f"say {rule['use']} instead, and set `left` to the lines that remain: {places}"
    )


def test_a_planted_word_is_seen() -> None:
    planted = {Path("src/planted.py"): '"""Mended by the keeper."""\nmost_records = 1\n'}
    assert sum(bool(found(pattern, planted)) for pattern in BANNED) == 3


def test_every_term_says_what_it_means() -> None:
    assert list(GLOSSARY["terms"]) == sorted(GLOSSARY["terms"])
    assert all(meaning and meaning[0].islower() for meaning in GLOSSARY["terms"].values())
