"""The program's verbs as the command line reads them, made once: to make them takes longer than most calls."""

from __future__ import annotations

from functools import cache
from typing import Any

import typer
from typer.main import get_command

from tidemill.cli.program import program


@cache
def command_of(app: typer.Typer) -> Any:
    """Return what typer makes of a program; it holds nothing of the calls that went through it."""
    return get_command(app)


def commands() -> Any:
    """Return the whole program, with its verbs below it."""
    return command_of(program)
