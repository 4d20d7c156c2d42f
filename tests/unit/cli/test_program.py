"""The command line as a person meets it before anything is connected."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from tests.support.command_tree import commands
from tests.support.servers.installation import Installation, Said
from tests.support.waiting import HANGING_S
from tidemill.cli.output import cell, plain, text_of, visible


def every_verb(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    command = command or commands()
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_verb(inner, (*path, name))


def run(*arguments: str, **environment: str) -> Said:
    """Call the program within this process, with nothing set but what is given."""
    return Installation({"COLUMNS": "100"} | environment, Path.cwd())(*arguments, expect=None)


@pytest.mark.parametrize("path", list(every_verb()), ids=" ".join)
def test_every_verb_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(commands(), [*path, "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    assert "Usage: tidemill" in result.output


@pytest.mark.parametrize("path", [path for path in every_verb() if path], ids=" ".join)
def test_every_verb_says_in_a_sentence_what_it_does(path: tuple[str, ...]) -> None:
    command: Any = commands()
    for name in path:
        command = command.commands[name]
    first = (command.help or "").strip().splitlines()[0]
    assert first.endswith((".", ";", ":", ",", "why.")) or len(first) > 20
    if not hasattr(command, "commands") and path[0] != "dev":
        assert "Examples" in command.epilog


def test_every_listing_can_be_had_as_json() -> None:
    for path in every_verb():
        if path and path[-1] in {
            "list",
            "show",
            "status",
            "audit",
            "query",
            "check",
            "tail",
            "migrate",
            "publish",
        }:
            result = CliRunner().invoke(commands(), [*path, "--help"], env={"COLUMNS": "100"})
            assert "--json" in result.output, path


def test_verbs_stand_in_the_order_of_a_commands_life() -> None:
    output = CliRunner().invoke(commands(), ["--help"], env={"COLUMNS": "100"}).output
    places = [
        output.index(f" {verb} ")
        for verb in ("dev", "migrate", "topics", "publish", "serve", "query", "status")
    ]
    assert places == sorted(places)


def test_help_imports_neither_drivers_nor_processes() -> None:
    code = (
        "import sys; from tidemill.cli.program import program; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(program, ['--help']).exit_code == 0; "
        "print(sorted({'asyncpg', 'aiokafka', 'sqlalchemy', 'pydantic', 'fastavro', 'confluent_kafka', 'uvicorn', "
        "'numpy', 'asyncio', 'tidemill.app.processes.base'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGING_S, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_version_is_printed() -> None:
    assert run("--version").out.strip().count(".") == 2


def test_a_wrong_setting_is_one_line_and_a_usage_error() -> None:
    done = run("status", TIDEMILL_COMMANDS_WORKERS="many", TIDEMILL_KAFKA_BOOTSTRAP="localhost:1")
    assert done.code == 2
    assert done.err == "Error: TIDEMILL_COMMANDS_WORKERS=many: expected a whole number from 1 to 64\n"
    assert done.out == ""


def test_a_setting_that_is_missing_names_what_to_do() -> None:
    done = run("status", TIDEMILL_KAFKA_BOOTSTRAP="localhost:1")
    assert done.code == 2
    assert done.err.startswith(
        "Error: TIDEMILL_DATABASE_URL is not set: set it, or start servers with `tidemill dev up`"
    )


def test_a_server_that_is_away_is_said_with_the_next_step_and_without_its_password() -> None:
    done = run(
        "lanes",
        "list",
        TIDEMILL_DATABASE_URL="postgresql://u:s3cr3t-w0rd@127.0.0.1:1/x",
        TIDEMILL_KAFKA_BOOTSTRAP="localhost:1",
    )
    assert done.code == 1
    assert done.err.startswith("Error: database is not available")
    (advice,) = done.err.splitlines()[1:]
    assert advice.startswith(
        "It is expected at 127.0.0.1:1: check that it runs, or correct TIDEMILL_DATABASE_URL;"
    )
    assert "s3cr3t-w0rd" not in done.err + done.out


def test_migrate_does_one_thing_at_a_time() -> None:
    done = run("migrate", "--sql", "--down", "market_data@base")
    assert done.code == 2
    assert done.err == "Error: --sql and --down are different tasks: choose one\n"


def test_an_env_file_gives_settings(tmp_path: Path) -> None:
    lines = tmp_path / "run.env"
    lines.write_text("TIDEMILL_KAFKA_BOOTSTRAP=localhost:1\nTIDEMILL_COMMANDS_WORKERS=many\n")
    done = run("--env-file", str(lines), "status")
    assert "TIDEMILL_COMMANDS_WORKERS=many" in done.err


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    verb = "import sys; from tidemill.cli.output import print_json; print_json(['x' * 100] * 100_000)"
    code = f"import tidemill.cli.program as p, typer; p.program.command('flood')(lambda: exec({verb!r})); p.main()"
    command = f"{sys.executable} -c {json.dumps(code)} flood | head -1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=HANGING_S, check=False
    )
    assert done.stdout == "[\n"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (b"abc", "abc"),
        (b"\xff\x00", "0xff00"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
    ],
)
def test_cells_are_plain(value: Any, shown: str) -> None:
    assert cell(value) == shown


def test_nothing_a_client_wrote_reaches_the_terminal_as_a_command() -> None:
    assert "\x1b" not in visible("\x1b]0;title\x07")
    assert visible("[red]x[/red]") == "\\[red]x\\[/red]"


class Pair(NamedTuple):
    one: bytes
    other: datetime


def test_json_is_made_of_whatever_a_verb_has() -> None:
    assert plain(Pair(b"x", datetime(2020, 1, 1, tzinfo=UTC))) == {
        "one": "x",
        "other": "2020-01-01T00:00:00+00:00",
    }
    assert plain(
        {
            1: {
                2,
            }
        }
    ) == {"1": [2]}
    assert text_of(None) == "null"


@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        pytest.param(["serve", "archiver"], "tidemill[archive]", id="a process of the archive"),
        pytest.param(["demo"], "tidemill[archive,demo]", id="the demo"),
        pytest.param(["serve", "retention"], "tidemill[archive]", id="the process that verifies copies"),
        pytest.param(["retention", "run", "--once"], "tidemill[archive]", id="one round of it"),
        pytest.param(["retention", "scrub"], "tidemill[archive]", id="a verb that reads copies"),
        pytest.param(["retention", "conformance"], "tidemill[archive]", id="a verb that tests archivers"),
    ],
)
def test_a_verb_that_needs_an_extra_says_which(arguments: list[str], extras: str, tmp_path: Path) -> None:
    """A package that cannot be found hides the one that is installed."""
    nowhere = {
        "TIDEMILL_DATABASE_URL": "postgresql://u@127.0.0.1:1/x",
        "TIDEMILL_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    }
    missing = "import sys; sys.modules['pyarrow'] = None; from tidemill.cli.program import main; main()"
    answer = subprocess.run(
        [sys.executable, "-c", missing, *arguments],
        cwd=tmp_path,
        env={**os.environ, **nowhere, "TIDEMILL_LAKE_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
    )
    assert answer.returncode == 2, answer.stderr
    assert "Error: this verb needs pyarrow" in answer.stderr
    assert extras in answer.stderr
    assert "Traceback" not in answer.stderr
