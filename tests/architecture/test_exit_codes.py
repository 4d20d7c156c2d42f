"""docs/exit-codes.md names every verb of the program, and the codes that the verb's own code returns."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.architecture import tree
from tests.support.command_tree import commands
from tidemill.cli import output
from tidemill.runtime.service import Exit

PAGE = Path("docs/exit-codes.md")
ROW = re.compile(r"^\| `([a-z -]+)` \| ([\d, ]*)\|", re.MULTILINE)
EVERY_VERB = {0, output.FAILED, output.USAGE, 130}


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every verb with its function."""
    if not hasattr(command, "commands"):
        yield " ".join(path), command.callback
        return
    if command.invoke_without_command:  # a verb of its own, too
        yield " ".join(path), command.callback
    for name, below in command.commands.items():
        yield from leaves(below, (*path, name))


VERBS = dict(leaves(commands()))
DOCUMENTED = {
    verb: {int(code) for code in codes.split(",") if code.strip()}
    for verb, codes in ROW.findall(tree.text(PAGE))
}


def test_every_verb_is_in_the_table_and_no_other() -> None:
    assert DOCUMENTED.keys() == VERBS.keys()


class _Module:
    """What the functions of one module return by `raise typer.Exit(...)`."""

    def __init__(self, name: str) -> None:
        self.values = vars(importlib.import_module(name))
        self.source = inspect.getsource(importlib.import_module(name))
        functions = [node for node in ast.walk(ast.parse(self.source)) if isinstance(node, ast.FunctionDef)]
        self.functions = {function.name: function for function in functions}

    def codes(self, function: str, seen: frozenset[str] = frozenset()) -> set[int]:
        if function in seen or function not in self.functions:
            return set()
        body, found = self.functions[function], set[int]()
        handlers = [node for node in ast.walk(body) if isinstance(node, ast.ExceptHandler)]
        failing = {id(node) for handler in filter(self._is_failure, handlers) for node in ast.walk(handler)}
        for node in ast.walk(body):
            if isinstance(node, ast.Call) and id(node) not in failing:
                if ast.unparse(node.func) == "typer.Exit":
                    found |= self._given(node.args[0])
                elif isinstance(node.func, ast.Name):
                    found |= self.codes(node.func.id, seen | {function})
        return found

    @staticmethod
    def _is_failure(handler: ast.ExceptHandler) -> bool:
        """An error of ours is a failure, not a finding: every verb returns 1 then."""
        caught = ast.unparse(handler.type) if handler.type is not None else ""
        return caught.endswith("Error") and caught != "asyncio.CancelledError"

    def _given(self, argument: ast.expr) -> set[int]:
        if isinstance(argument, ast.IfExp):
            return self._given(argument.body) | self._given(argument.orelse)
        if isinstance(argument, ast.Constant):
            return {int(ast.literal_eval(argument))}
        if isinstance(argument, ast.Name):
            return {int(self.values[argument.id])}
        assert ast.unparse(argument).startswith("serve_"), ast.unparse(argument)
        return {int(code) for code in Exit}


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_codes_are_those_that_the_verb_returns(verb: str) -> None:
    function = VERBS[verb]
    found = _Module(function.__module__).codes(function.__name__)
    findings = found - EVERY_VERB if verb.startswith("serve ") else found - {0, 130}
    assert DOCUMENTED[verb] == findings


def test_the_codes_of_a_process_are_those_of_the_code() -> None:
    below = tree.text(PAGE).split("## Processes that serve")[1]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", below, re.MULTILINE)} == {*Exit, output.USAGE}


def test_what_every_verb_returns_is_in_the_first_table() -> None:
    first = tree.text(PAGE).split("## What a verb returns in addition")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", first, re.MULTILINE)} == EVERY_VERB


def test_a_code_that_the_page_lacks_is_seen() -> None:
    """The reading of the code finds something: `audit` has a finding, `query` has none."""
    assert _Module("tidemill.cli.audit").codes("audit") == {1}
    assert _Module("tidemill.cli.query").codes("query") == set()
