"""How things are called in the product: a variable is a noun, and a docstring says more than its name. Both ratchet."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from tests.architecture import tree

NO_NOUNS: dict[str, int] = {
    "done": 9,
    "each": 306,
    "found": 187,
    "gone": 7,
    "mine": 0,
    "told": 15,
    "which": 0,
}
"""Words of a sentence that stand for a thing, and as how many variables they are left: a number only goes down."""

RESTATED = 19
"""Public docstrings whose first line has no word that the name does not have."""

FILLERS = {"a", "an", "and", "as", "for", "is", "it", "its", "of", "one", "return", "the", "this", "to"}


def variables(syntax: ast.Module) -> Iterator[str]:
    """Names that are given a value, parameters included."""
    for node in ast.walk(syntax):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def counted(sources: Iterable[ast.Module]) -> Counter[str]:
    return Counter(name for syntax in sources for name in variables(syntax) if name in NO_NOUNS)


def words(text: str) -> set[str]:
    """The words of a name or a sentence, in the singular and without those that say nothing."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text)
    said = {part.lower().removesuffix("s") for part in parts if part.lower() not in FILLERS}
    return said - {""}


def restated(syntax: ast.Module) -> Iterator[str]:
    """Public classes and functions whose docstring says no more than the name, with that of its class."""
    for node in ast.walk(syntax):
        owner = node.name if isinstance(node, ast.ClassDef) else ""
        for inner in (
            [node, *getattr(node, "body", [])] if isinstance(node, ast.Module | ast.ClassDef) else []
        ):
            if not isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (ast.get_docstring(inner) or "").splitlines()
            alone = len(lines) == 1 and not inner.name.startswith("_")
            if alone and inner is not node and words(lines[0]) <= words(f"{owner} {inner.name}"):
                yield f"{inner.lineno}: {inner.name}: {lines[0]}"


@pytest.mark.parametrize("word", NO_NOUNS)
def test_a_variable_is_a_noun(word: str) -> None:
    """Fewer than the number is red, too: then it is to be lowered, so that it cannot rise again."""
    found = counted(tree.syntax(path) for path in tree.python_files("src"))
    assert found[word] == NO_NOUNS[word], f"call what `{word}` stands for by a noun, and set the number"


def test_a_docstring_says_more_than_the_name() -> None:
    found = [f"{path}:{line}" for path in tree.python_files("src") for line in restated(tree.syntax(path))]
    assert len(found) == RESTATED, found


def test_planted_names_are_seen() -> None:
    planted = ast.parse(
        "def find(which):\n    found = which\n\n\nclass LaneRow:\n    def lane_id(self):\n"
        '        """Return the lane\'s id."""\n'
    )
    assert counted([planted]) == {"which": 1, "found": 1}
    assert [line.split(":")[1].strip() for line in restated(planted)] == ["lane_id"]
