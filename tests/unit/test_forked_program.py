"""A program that a fork of the nursery runs is, for who calls it, the program: streams, exit code, signals, end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.servers.nursery import NURSERY
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill import __version__
from tidemill.runtime.service import Exit

NOWHERE = {
    "TIDEMILL_DATABASE_URL": "postgresql://u@127.0.0.1:1/x",
    "TIDEMILL_KAFKA_BOOTSTRAP": "127.0.0.1:1",
    "TIDEMILL_HEALTH_PORT": "0",
}


def forked(program: Path, module: str) -> Path:
    program.write_text(NURSERY.forked_program(module, Path(sys.prefix)))
    program.chmod(0o755)
    return program


@pytest.fixture
def tidemill(tmp_path: Path) -> Path:
    return forked(tmp_path / "tidemill", "tidemill.__main__")


def typed(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=HANGING_S,
        check=False,
    )


def test_streams_variables_folder_and_exit_code_are_the_callers(tidemill: Path, tmp_path: Path) -> None:
    said = typed(f"{tidemill} --version > version.txt; cat version.txt", tmp_path)
    assert (said.returncode, said.stdout.strip()) == (0, __version__)
    assert typed(f"echo tide | {forked(tmp_path / 'encoder', 'base64')}", tmp_path).stdout == "dGlkZQo=\n"
    (tmp_path / "own.env").write_text("TIDEMILL_COMMANDS_WORKERS=many\n")
    said = typed(f"{tidemill} --env-file own.env status", tmp_path, **NOWHERE)
    assert (said.returncode, "TIDEMILL_COMMANDS_WORKERS=many" in said.stderr) == (2, True)


def test_it_calls_itself_by_its_name(tidemill: Path, tmp_path: Path) -> None:
    assert "Usage: tidemill " in typed(f"{tidemill} --help", tmp_path).stdout


def serving(tidemill: Path, log: Path) -> subprocess.Popen[bytes]:
    """Begin a process that serves; when this returns it heeds signals."""
    with log.open("wb") as output:
        program = subprocess.Popen([tidemill, "serve", "all"], env={**os.environ, **NOWHERE}, stderr=output)
    eventually_blocking(lambda: "health_served" in log.read_text(), what="a process that serves")
    return program


def test_a_signal_reaches_it(tidemill: Path, tmp_path: Path) -> None:
    program = serving(tidemill, tmp_path / "log")
    program.send_signal(signal.SIGTERM)
    assert program.wait(HANGING_S) == Exit.DRAINED


def test_it_ends_with_its_caller(tidemill: Path, tmp_path: Path) -> None:
    others = psutil.Process(NURSERY.pid).children()  # of other tests of this worker
    program = serving(tidemill, tmp_path / "log")
    forks = set(psutil.Process(NURSERY.pid).children()).difference(others)
    program.kill()
    program.wait(HANGING_S)
    eventually_blocking(lambda: not any(one.is_running() for one in forks), what="its end")
    assert len(forks) == 1
