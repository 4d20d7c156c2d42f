"""The demo as people run it: two runs at once, one read by a program, one on a terminal of 80 columns."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.support.clients.walkthrough import Command, Shell, agrees, steps
from tests.support.servers.installation import Installation
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.runtime.service import Exit
from tidemill_devkit.demo.archive_proof import KNOWN as KNOWN_ARCHIVE
from tidemill_devkit.demo.place import LATEST
from tidemill_devkit.demo.quotes import KNOWN, ROWS
from tidemill_devkit.stack import Stack

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM = [sys.executable, "-m", "tidemill"]
COLUMNS = 80
RUN_S = 3 * HANGING_S
"""What hangs takes longer, also when two runs share a busy machine; the servers are up."""

RUN = re.compile(r"database +tidemill_demo_(\w+)")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Runs:
    """What both runs said."""

    environment: Mapping[str, str]
    report: dict[str, Any]
    progress: str
    terminal: str
    codes: tuple[int, int]


@pytest.fixture(scope="module")
def environment(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of somebody who has servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    return {
        **kept,
        "TIDEMILL_CACHE": str(tmp_path_factory.mktemp("cache")),
        "TIDEMILL_DATABASE_URL": stack.database_url,
        "TIDEMILL_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "TIDEMILL_REGISTRY_URL": stack.registry_url or "",
        "TERM": "xterm",
        "COLUMNS": str(COLUMNS),
    }


@contextmanager
def ended(program: subprocess.Popen[Any]) -> Iterator[None]:
    """End a run with the block, processes and all, if it has not ended."""
    try:
        yield
    finally:
        program.terminate()
        program.wait(HANGING_S)


@pytest.fixture(scope="module")
def runs(environment: Mapping[str, str]) -> Iterator[Runs]:
    ours, theirs = pty.openpty()
    on_terminal = subprocess.Popen(
        [*PROGRAM, "demo"], cwd=ROOT, env=environment, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    for_program = subprocess.Popen(
        [*PROGRAM, "demo", "--json"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with ended(on_terminal), ended(for_program):
        terminal = ESCAPES.sub("", drained(ours))
        out, err = for_program.communicate(timeout=RUN_S)
        codes = (on_terminal.wait(HANGING_S), for_program.returncode)
    assert codes[1] == 0, err + out
    yield Runs(environment, json.loads(out), err, terminal, codes)
    # once as the demo's page says, in the terminal that has the run's variables, and once in any other
    sourced = {**environment, **variables(json.loads(out)["env_file"])}
    for run, around in ((RUN.search(terminal), environment), (RUN.search(err), sourced)):
        assert run is not None
        removed = call(around, "demo", "--remove", run[1].replace("_", "-"))
        assert removed.returncode == 0, removed.stderr


def drained(terminal: int) -> str:
    """Return all that a terminal was sent until its last program ended."""
    parts = []
    try:
        while part := os.read(terminal, 65_536):
            parts.append(part)
    except OSError:  # this is how Linux says that nobody holds the other end any more
        pass
    os.close(terminal)
    return b"".join(parts).decode()


def ran(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository; `environment`: None for this process's own."""
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANGING_S, check=False
    )


def call(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return ran([*PROGRAM, *arguments], environment)


def typed(runs: Runs, verb: str) -> subprocess.CompletedProcess[str]:
    """Type in a shell what the demo says to type next, behind the line that sets the variables."""
    line = f"set -a; . {shlex.quote(runs.report['env_file'])}; set +a; {shlex.join(PROGRAM)} {verb}"
    bare = {name: value for name, value in runs.environment.items() if not name.startswith("TIDEMILL_")}
    return ran(["bash", "-c", line], bare)


def variables(env_file: str) -> dict[str, str]:
    """Return what the file sets."""
    lines = shlex.split(Path(env_file).read_text(encoding="utf-8"))
    return dict(line.split("=", 1) for line in lines)


def serving(topics: str) -> list[int]:
    """Return the processes that serve a run."""
    found = []
    for process in psutil.process_iter():
        try:
            if "serve" in process.cmdline() and process.environ().get("TIDEMILL_TOPICS_PREFIX") == topics:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


# --- what it proves --------------------------------------------------------------------------------------------------


def test_both_runs_came_out_as_planned(runs: Runs) -> None:
    assert runs.codes == (0, 0)
    assert runs.report["ok"] is True
    assert [check["name"] for check in runs.report["checks"] if not check["ok"]] == []


def test_a_run_says_how_long_each_step_took(runs: Runs) -> None:
    """Its own ones take 40 s where nothing else runs; here two runs and other tests share the machine."""
    steps = runs.report["seconds"]
    assert list(steps) == ["servers", "prepare", "process", "archive", "drain", "proof"]
    assert 0 < sum(taken for step, taken in steps.items() if step != "servers") < RUN_S


def test_every_outcome_has_its_planned_number_an_example_and_advice(runs: Runs) -> None:
    lines = runs.report["outcomes"]
    assert sum(line["found"] for line in lines) == runs.report["records"]
    assert {line["code"] for line in lines if line["found"] != line["planned"]} == set()
    assert all(line["example"] and line["advice"] for line in lines)
    assert all(line["example"]["message"] for line in lines if line["outcome"] in {"rejected", "parked"})


def test_all_quotes_are_in_the_read_models(runs: Runs) -> None:
    assert sum(quote["bars"] for quote in runs.report["latest"]) == ROWS
    years = {(year["symbol"], year["year"]): (year["high"], year["low"]) for year in runs.report["years"]}
    assert {year: years[year] for year in KNOWN} == dict(KNOWN)


def test_old_quotes_left_and_one_range_came_back(runs: Runs) -> None:
    archive = runs.report["archive"]
    assert [each["state"] for each in archive["ranges"]] == ["dropped"] * 5 + ["restored"] + ["dropped"] * 4
    assert sum(each["rows"] for each in archive["ranges"]) == KNOWN_ARCHIVE.rows
    assert (archive["forged"]["state"], archive["forged"]["kept"]) == ("quarantined", True)
    assert len(list(Path(archive["lake"]).glob("public.market_data/*.parquet"))) == KNOWN_ARCHIVE.ranges


def test_the_lake_is_read_without_us(runs: Runs) -> None:
    line = f"{sys.executable} {runs.report['archive']['read']}"
    answer = ran(["bash", "-c", line])
    assert answer.returncode == 0, answer.stderr
    assert "GOOG" in answer.stdout
    assert "FB" not in answer.stdout


def test_an_outsider_balances_it(runs: Runs) -> None:
    line = f"set -a; . {shlex.quote(runs.report['env_file'])}; {sys.executable} -m tests.acceptance.outsider"
    answer = ran(["bash", "-c", line])
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert json.loads(answer.stdout)["counted"]["command topic"] == runs.report["records"]


def test_no_process_is_left(runs: Runs) -> None:
    assert serving(runs.report["topics"]) == []


# --- what people see -------------------------------------------------------------------------------------------------


def test_progress_is_a_line_now_and_then_and_nothing_else(runs: Runs) -> None:
    lines = runs.progress.splitlines()
    assert [line for line in lines if not re.match(r" *\d+\.\d s  \w+ ", line)] == []
    hops = [line for line in lines if " published " in line]
    assert hops[-1].count(f"{runs.report['records']:,}/{runs.report['records']:,}") == 3


def test_a_terminal_shows_every_hop_complete(runs: Runs) -> None:
    for hop in ("published", "applied", "relayed", "projected", "sealed", "copied", "verified", "dropped"):
        assert re.search(rf"✓ {hop} +━+ +([\d,]+)/\1 ", runs.terminal), hop


def test_a_terminal_shows_the_summary_whole(runs: Runs) -> None:
    assert "Everything came out as planned, in " in runs.terminal
    summary = runs.terminal[runs.terminal.index("What became of the") :]
    said, next_steps = summary.split("What to type next")
    assert max(len(line) for line in said.splitlines()) <= COLUMNS
    assert "…" not in summary
    for text in ("705.07 409.00", "ID_REUSE", "WRONG_PARTITION", "UNKNOWN_SCHEMA", "restored, 1 file"):
        assert text in said
    assert "query latest-quotes" in next_steps


def test_no_password_is_shown(runs: Runs) -> None:
    password = urlsplit(runs.environment["TIDEMILL_DATABASE_URL"]).password
    assert password
    assert password not in json.dumps(runs.report) + runs.progress + runs.terminal


def test_the_file_with_the_password_is_its_owners(runs: Runs) -> None:
    assert Path(runs.report["env_file"]).stat().st_mode & 0o077 == 0


# --- what people type next -------------------------------------------------------------------------------------------


def test_what_to_look_at_is_there(runs: Runs, tmp_path: Path) -> None:
    first, *others = runs.report["look"]
    answer = typed(runs, first)
    assert answer.returncode == 0, answer.stderr
    assert "AAPL" in answer.stdout
    program = Installation(variables(runs.report["env_file"]), tmp_path)
    for verb in others:
        assert len(program(*shlex.split(verb)).out.splitlines()) >= 3, verb


def test_the_run_can_be_gone_on_with(runs: Runs) -> None:
    serve, publish = runs.report["go_on"]
    line = f"set -a; . {shlex.quote(runs.report['env_file'])}; exec {shlex.join(PROGRAM)} {serve}"
    bare = {name: value for name, value in runs.environment.items() if not name.startswith("TIDEMILL_")}
    process = subprocess.Popen(["bash", "-c", line], cwd=ROOT, env=bare, stderr=subprocess.DEVNULL)
    try:
        answer = typed(
            runs, f"{publish} --timeout {HANGING_S}"
        )  # a busy machine may need more than a person waits
        assert answer.returncode == 0, answer.stderr
        assert "applied" in answer.stdout
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGING_S) == Exit.DRAINED


def test_the_readme_goes_on_over_http(runs: Runs, tmp_path: Path) -> None:
    """To the letter, but for the port, the cache of this run, and which of the two runs is the latest."""
    section = README.split("\n## Over HTTP\n")[1].split("\n## ")[0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    bare = {name: value for name, value in runs.environment.items() if not name.startswith("TIDEMILL_")}
    latest = Path(runs.report["env_file"]).with_name(LATEST)
    assert latest.resolve().suffix == ".env"
    typed_lines = 0
    with Shell(tmp_path, bare) as shell:
        shell.type(f"cd {tmp_path}")
        for step in steps(section.replace("8000", port)):
            assert isinstance(step, Command)
            text = step.text.replace("~/.cache/tidemill/demo/latest.env", str(latest))
            _, printed = shell.type(text.replace(".venv", str(Path(sys.prefix))))
            assert agrees(step.printed, printed), f"$ {text}\n{printed}\nbut the README says\n{step.printed}"
            typed_lines += 1
        shell.type("kill %1; wait")
    assert typed_lines == 6


def test_what_is_not_owned_is_not_taken_down(runs: Runs) -> None:
    assert runs.report["clean_up"] == [f"demo --remove {runs.report['run']}"]


# --- what happens else -----------------------------------------------------------------------------------------------


def test_a_run_that_is_stopped_leaves_no_process(environment: Mapping[str, str]) -> None:
    run = subprocess.Popen([*PROGRAM, "demo"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    try:
        name = next(found[1] for line in run.stderr if (found := RUN.search(line))).replace("_", "-")
        topics = f"tidemill-demo-{name}"
        eventually_blocking(lambda: len(serving(topics)) == 3, what="the first processes")
    finally:
        run.send_signal(signal.SIGTERM)
    assert f"tidemill demo --remove {name}" in run.communicate(timeout=HANGING_S)[1]
    assert run.returncode == 128 + signal.SIGTERM
    assert serving(topics) == []
    assert (
        call(environment, "demo", "--remove", name, "--json").stdout
        == json.dumps({"removed": [name]}, indent=2) + "\n"
    )


def test_a_run_that_never_was_cannot_be_removed(environment: Mapping[str, str]) -> None:
    answer = call(environment, "demo", "--remove", "20200101-000000")
    assert answer.returncode == 2
    assert "there is no run '20200101-000000'" in answer.stderr


def test_half_of_the_servers_is_refused(environment: Mapping[str, str]) -> None:
    half = {name: value for name, value in environment.items() if name != "TIDEMILL_KAFKA_BOOTSTRAP"}
    answer = call(half, "demo")
    assert answer.returncode == 2
    assert "TIDEMILL_DATABASE_URL is set but TIDEMILL_KAFKA_BOOTSTRAP is not" in answer.stderr
