import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.waiting import eventually_blocking
from tidemill_devkit.stack import processes
from tidemill_devkit.stack.processes import ProcessId, family, kill_marked, send, send_family, spawn

Start = Callable[[str], ProcessId]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[ProcessId] = []

    def run(script: str) -> ProcessId:
        process = spawn(
            ["sh", "-c", script], home=tmp_path, log=tmp_path / "log", environment={"PATH": os.defpath}
        )
        started.append(process)
        return process

    yield run
    for process in started:
        processes.kill(process)


def test_it_runs_apart_from_us_in_its_home(start: Start, tmp_path: Path) -> None:
    process = start("pwd; echo oops >&2; exec sleep 100")
    eventually_blocking(lambda: "oops" in (tmp_path / "log").read_text(), what="the log is written")
    assert str(tmp_path) in (tmp_path / "log").read_text()
    assert process.life() == "running"
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_an_ended_child_is_gone_and_collected(start: Start) -> None:
    process = start("exit 3")
    eventually_blocking(lambda: process.life() == "gone", what="it is gone")
    assert not Path(f"/proc/{process.pid}").exists()


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot": "an earlier one"}])
def test_a_recycled_pid_is_never_signalled(start: Start, change: dict[str, object]) -> None:
    foreign_process = start("exec sleep 100")
    remembered = replace(foreign_process, **change)  # type: ignore[arg-type]
    assert remembered.life() == "gone"
    send(remembered, signal.SIGKILL)
    send_family(remembered, signal.SIGKILL)
    processes.stop(remembered, signal.SIGTERM, grace_s=0.1)
    processes.kill(remembered)
    assert foreign_process.life() == "running"


def test_it_is_found_again_from_its_file(start: Start, tmp_path: Path) -> None:
    process = start("exec sleep 100")
    process.save(tmp_path / "it.pid")
    assert ProcessId.load(tmp_path / "it.pid") == process


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "17"])
def test_a_damaged_file_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "it.pid").write_text(content)
    assert ProcessId.load(tmp_path / "it.pid") is None
    assert ProcessId.load(tmp_path / "absent") is None


def test_freezing_reaches_grandchildren_of_other_sessions(start: Start) -> None:
    process = start("setsid sleep 3600 & wait")
    eventually_blocking(lambda: len(family(process)) == 2, what="the child runs")
    members = family(process)
    processes.freeze(process)
    assert {member.life() for member in members} == {"frozen"}
    processes.thaw(process)
    assert {member.life() for member in members} == {"running"}


def test_stop_is_polite_first(start: Start, tmp_path: Path) -> None:
    process = start("trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.05; done")
    eventually_blocking(lambda: "ready" in (tmp_path / "log").read_text(), what="it is ready")
    processes.stop(process, signal.SIGTERM, grace_s=10)
    assert process.life() == "gone"
    assert "bye" in (tmp_path / "log").read_text()


def test_stop_ends_what_ignores_it_and_its_children(start: Start) -> None:
    process = start("trap '' TERM; setsid sleep 3600 & while :; do sleep 0.05; done")
    eventually_blocking(lambda: len(family(process)) >= 2, what="the child runs")
    members = family(process)
    processes.stop(process, signal.SIGTERM, grace_s=0.2)
    assert {member.life() for member in members} == {"gone"}


def test_stop_ends_a_frozen_process(start: Start) -> None:
    process = start("exec sleep 100")
    eventually_blocking(lambda: process.life() == "running", what="it runs")
    send(process, signal.SIGSTOP)
    processes.stop(process, signal.SIGTERM, grace_s=10)
    assert process.life() == "gone"


def test_orphans_are_found_by_their_mark_and_nobody_else_is(start: Start, tmp_path: Path) -> None:
    process = start("exec sleep 100")
    eventually_blocking(lambda: b"sleep" in Path(f"/proc/{process.pid}/cmdline").read_bytes(), what="it runs")
    kill_marked(tmp_path / "elsewhere")
    assert process.life() == "running"
    kill_marked(tmp_path)
    assert process.life() == "gone"
