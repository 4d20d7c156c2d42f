"""No module outside `contexts` names a context: what holds for one holds for each of them, and for plug-ins."""

import ast
from collections.abc import Iterator
from pathlib import Path

import tidemill.contexts
from tests.architecture.tree import python_files, syntax

PRODUCT = Path("src/tidemill")
CONTEXTS = PRODUCT / "contexts"
NAMES = {each.parent.name for each in Path(tidemill.contexts.__path__[0]).glob("*/__init__.py")}


def named(module: ast.Module) -> Iterator[str]:
    """The contexts that a module imports, or has as a text that is nothing else: one in a sentence is an example."""
    for node in ast.walk(module):
        match node:
            case ast.Constant(str(text)) if text.replace("-", "_") in NAMES:
                yield text
            case ast.ImportFrom(module=str(origin)) if origin.startswith("tidemill.contexts"):
                yield origin
            case ast.Import(names):
                yield from (each.name for each in names if each.name.startswith("tidemill.contexts."))


def test_no_module_outside_names_a_context() -> None:
    outside = [
        path for path in python_files("src") if PRODUCT in path.parents and CONTEXTS not in path.parents
    ]
    assert len(outside) > len(NAMES)
    assert {str(path): names for path in outside if (names := list(named(syntax(path))))} == {}


def test_the_check_would_see_it() -> None:
    planted = "import tidemill.contexts.users\nfrom tidemill.contexts import users\nx = {'market-data', 'a users'}\n"
    assert sorted(named(ast.parse(planted))) == [
        "market-data",
        "tidemill.contexts",
        "tidemill.contexts.users",
    ]
