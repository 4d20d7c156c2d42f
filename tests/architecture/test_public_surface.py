"""What outsiders import of Tidemill is its public surface: documents, plug-ins, contexts and revisions are checked."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidemill.api
import tidemill.migration
from tests.architecture import tree

PUBLIC = {"tidemill.api", "tidemill.migration"}
FOR_TESTS = {"tidemill_devkit.testing"}
CONTEXTS = Path("src/tidemill/contexts")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
IMPORT = re.compile(r"^\s*(?:from (tidemill[\w.]*) import|import (tidemill[\w.]*))", re.MULTILINE)
PLUG_IN = re.compile(r"\bContext\(|\brun_script\b")
"""What a text of the tests holds if it is the source of a plug-in."""


def imported(source: str) -> set[str]:
    return {first or second for first, second in IMPORT.findall(source)}


def offences(sources: Iterator[tuple[str, str]], allowed: set[str]) -> list[str]:
    return [f"{place}: {name}" for place, source in sources for name in imported(source) - allowed]


def programs() -> Iterator[tuple[str, str]]:
    """The Python of every page."""
    for page in tree.files(".md"):
        yield from ((str(page), block) for block in BLOCK.findall(tree.text(page)))


def plug_ins() -> Iterator[tuple[str, str]]:
    """The source of every plug-in that the tests write."""
    for path in tree.python_files("tests"):
        for node in ast.walk(tree.syntax(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and PLUG_IN.search(node.value):
                yield f"{path}:{node.lineno}", node.value


def contexts() -> Iterator[tuple[str, str]]:
    paths = (path for path in tree.python_files("src") if path.is_relative_to(CONTEXTS))
    return ((str(path), tree.text(path)) for path in paths)


def revisions() -> Iterator[tuple[str, str]]:
    paths = [*tree.python_files("migrations"), *tree.files(".mako")]
    return ((str(path), tree.text(path)) for path in paths)


def test_documents_import_the_public_surface_alone() -> None:
    assert any(imported(program) for _, program in programs())
    assert offences(programs(), PUBLIC | FOR_TESTS) == []


def test_the_plug_ins_of_the_tests_do_too() -> None:
    found = {place.partition(":")[0] for place, source in plug_ins() if imported(source)}
    assert {
        "tests/support/plug_ins/fuse.py",
        "tests/support/plug_ins/many_contexts.py",
        "tests/support/plug_ins/rolling.py",
    } <= found
    assert offences(plug_ins(), PUBLIC) == []


def test_the_built_in_contexts_do_too() -> None:
    own = {
        name for _, source in contexts() for name in imported(source) if name.startswith("tidemill.contexts")
    }
    assert own
    assert offences(contexts(), {"tidemill.api"} | own) == []


def test_revisions_import_what_is_theirs_alone() -> None:
    assert offences(revisions(), {"tidemill.migration"}) == []


@pytest.mark.parametrize("surface", [tidemill.api, tidemill.migration], ids=lambda module: module.__name__)
def test_the_names_of_the_surface_are_sorted_and_there(surface: object) -> None:
    names = getattr(surface, "__all__")  # noqa: B009  mypy knows no module's attributes by object
    assert names == sorted(set(names))
    assert all(hasattr(surface, name) for name in names)


def test_the_check_would_see_it() -> None:
    planted = iter([("page.md", "import tidemill.api\nfrom tidemill.domain.context import Context\n")])
    assert offences(planted, PUBLIC) == ["page.md: tidemill.domain.context"]
