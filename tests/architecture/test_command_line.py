"""Every command that the deployment's files and the pages name is one that the program has."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.architecture import compose, tree
from tests.support.command_tree import commands
from tests.support.waiting import HANGING_S
from tidemill import __version__


def parse(arguments: list[str]) -> Any:
    """The context of the verb that `arguments` reach, without running it. Raises as the command line does."""
    name, command, context, rest = "tidemill", commands(), None, arguments
    while True:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return context
        rest = [*context._protected_args, *context.args]
        if not rest:
            return context
        name, command, rest = command.resolve_command(context, rest)


def verbs(*path: str) -> set[str]:
    """The verbs below `path`."""
    command: Any = commands()
    for name in path:
        command = command.commands[name]
    return set(command.commands)


def named(page: Path) -> set[str]:
    """What a page tells people to type, from `tidemill` to the end of the line or of the quotation."""
    return set(re.findall(r"(?:`|^\s*(?:\$ )?|/)tidemill ([a-z][^`\n]*)", tree.text(page), re.MULTILINE))


def unknown_verb(line: str) -> str | None:
    """The first word of `line` that stands where a verb must, and is none. `up|down` are two verbs, `...` is any."""
    command: Any = commands()
    for word in line.split():
        if not hasattr(command, "commands") or word == "...":
            return None
        if not set(word.split("|")) <= command.commands.keys():
            return None if command.invoke_without_command else word
        command = command.commands[word.split("|")[0]]
    return None


@pytest.mark.parametrize("page", tree.files(".md"), ids=str)
def test_a_page_names_only_verbs_that_exist(page: Path) -> None:
    assert {line: word for line in named(page) if (word := unknown_verb(line))} == {}


def test_an_unknown_verb_on_a_page_is_seen() -> None:
    assert unknown_verb("serve nothing --now") == "nothing"
    assert unknown_verb("serve commands|projections") is None


@pytest.mark.parametrize("name", compose.ours())
def test_a_service_of_ours_runs_a_command_that_parses(name: str) -> None:
    parse(compose.services()[name]["command"])


def test_there_is_one_service_for_every_process() -> None:
    served = [
        service["command"][1] for service in compose.ours().values() if service["command"][0] == "serve"
    ]
    assert sorted(served) == sorted(verbs("serve") - {"all"})


def test_a_command_that_does_not_exist_is_refused() -> None:
    with pytest.raises(typer.exceptions.TyperException):
        parse(["serve", "nothing"])


def test_the_program_is_installed_and_says_its_version() -> None:
    installed = Path(sys.executable).parent / "tidemill"
    answer = subprocess.run(
        [installed, "--version"], check=True, capture_output=True, text=True, timeout=HANGING_S
    )
    assert answer.stdout.strip() == __version__
