"""From nothing to the row of an applied command, in five commands; and what was written passes every check."""

from __future__ import annotations

import time

import pytest

from tests.support.clients.walkthrough import Shell
from tests.support.measured import Tell
from tests.support.seeds import sample
from tests.support.servers.databases import fetch
from tests.support.waiting import HANGING_S, eventually_blocking

WORKS = "select from tm.lane where aggregate = $1 and owner is not null"
BEGUN = "select to_regclass('tm.lane') is not null"
INSTALL = "pip install --quiet --no-build-isolation --editable"


MAX_COMMANDS = 5
MAX_S = 3 * HANGING_S
"""Against hanging only: how long it takes is told, and depends on the machine."""


def typed(shell: Shell, command: str) -> str:
    code, printed = shell.type(command)
    assert code == 0, f"$ {command}\n{printed}"
    return printed


class Newcomer:
    """Types commands, and counts the different ones; to type one again is to wait."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.commands: set[str] = set()

    def __call__(self, command: str) -> str:
        self.commands.add(command)
        return typed(self._shell, command)


KINDS = [
    ("--entity", "tide-gauges", "CreateTideGauge", "tide-gauges", "First"),
    ("--facts", "tide-readings", "RecordTideReading", "latest-tide-readings", "s-1"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "command", "read_model", "shows"), sample(KINDS, 1))
def test_five_commands_lead_to_the_row_of_a_command(
    shell: Shell,
    *,
    measured: Tell,
    empty_database: str,
    kind: str,
    name: str,
    command: str,
    read_model: str,
    shows: str,
) -> None:
    types = Newcomer(shell)
    package = name.replace("-", "_")

    def serves() -> bool:
        return bool(fetch(empty_database, BEGUN)[0][0]) and bool(fetch(empty_database, WORKS, name))

    began = time.monotonic()
    types(f"tidemill context new {name} {kind}")
    types(f"{INSTALL} {name}")
    types("tidemill serve all --prepare 2> serve.log &")
    eventually_blocking(serves, what="a process that has prepared the servers")
    assert "applied" in types(f"tidemill publish {command} {name}/first.jsonl --wait")
    eventually_blocking(lambda: shows in types(f"tidemill query {read_model}"), what="the row of the command")
    took_s = time.monotonic() - began
    measured(
        f"{name}: {len(types.commands)} commands and {took_s:.1f} s from nothing to the row of a command"
    )
    assert len(types.commands) <= MAX_COMMANDS
    assert took_s < MAX_S

    assert "Every schema keeps the contract." in typed(shell, "tidemill schemas check")
    assert "All tables are as declared." in typed(shell, "tidemill migrate check")
    assert "passed" in typed(shell, f"python -m pytest -q -p no:cacheprovider {name}/test_{package}.py")
    typed(shell, "kill %1; wait")
