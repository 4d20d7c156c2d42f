"""Every command that the deployment's files and the pages name is one that the program has."""

from typing import Any

import pytest
import typer

from tests.architecture import compose
from tidemill.cli.program import program


def parse(arguments: list[str]) -> Any:
    """The context of the verb that `arguments` reach, without running it. Raises as the command line does."""
    name, command, context, rest = "tidemill", typer.main.get_command(program), None, arguments
    while True:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return context
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def verbs(*path: str) -> set[str]:
    """The verbs below `path`."""
    command: Any = typer.main.get_command(program)
    for name in path:
        command = command.commands[name]
    return set(command.commands)


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
