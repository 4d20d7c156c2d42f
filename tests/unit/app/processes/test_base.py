"""A whole process with made-up services: what it answers over HTTP, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.runtime.service import Exit

CANARY = "c4n4ry-s3cr3t"

PROGRAM = """
import asyncio, functools, logging, os, sys
from tidemill.app.processes import base as process
from tidemill.domain.errors import ContractError, TidemillError, Unavailable
from tidemill.runtime.service import Health, Job
from tidemill.settings import load

class Fake:
    def __init__(self): self.stopped = asyncio.Event()
    async def start(self): pass
    async def run(self):
        logging.getLogger("library").warning("connects as %s", os.environ["CANARY"])
        await {run}
    async def stop(self): {stop}
    def health(self): return Health(ok=True, detail={{"lanes": 3}})

class Database:
    name = "database"
    async def ask(self):
        if os.path.exists(os.environ["OUTAGE"]): raise Unavailable("database", "gone for " + os.environ["CANARY"])
    async def close(self): pass

class Silent:
    name = "kafka"
    async def ask(self): await asyncio.Event().wait()
    async def close(self): await asyncio.Event().wait()

def spin():
    while True: pass

async def wrong(): raise ContractError("wrong")

tries = []
async def assemble(shared):
    tries.append(1)
    {assemble}
    return [Job("fake", Fake)]

gone = asyncio.Event()
process.DRAIN_S, process.EXIT_AFTER_S = 0.3, {exit_after}
process.CUT_OFF_S, process.CUT_OFF_ANYWAY_S = 0.05, {cut_off_anyway}
process.Dependencies = functools.partial(process.Dependencies, every_s=0.05)
try:
    sys.exit(process.run_process("commands", load(), assemble, {probes}))
except TidemillError as error:
    sys.exit(f"error: {{error}}")
"""


@dataclass
class Child:
    process: subprocess.Popen[str]
    address: str
    log: IO[str]

    def health(self) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=HANGING_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def text(self) -> str:
        """What was logged so far."""
        self.log.seek(0)
        return self.log.read()

    def stop(self) -> int:
        os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(timeout=HANGING_S)


@contextmanager
def serving(
    tmp_path: Path,
    *,
    run: str = "self.stopped.wait()",
    stop: str = "self.stopped.set()",
    assemble: str = "pass",
    probes: str = "[Database()]",
    exit_after: float = 5,
    cut_off_anyway: float = 60,
) -> Iterator[Child]:
    text = PROGRAM.format(
        run=run,
        stop=stop,
        assemble=assemble,
        probes=probes,
        exit_after=exit_after,
        cut_off_anyway=cut_off_anyway,
    )
    environment = clean_environment()
    environment |= {"CANARY": CANARY, "OUTAGE": str(tmp_path / "outage"), "TIDEMILL_LOG_FORMAT": "json"}
    environment["TIDEMILL_DATABASE_URL"] = f"postgresql://u:{CANARY}@localhost/x"
    path = tmp_path / "log"
    with path.open("w") as written, path.open() as log:
        child = subprocess.Popen([sys.executable, "-c", text], env=environment, stderr=written, text=True)
        try:
            yield Child(
                child, eventually_blocking(lambda: address_in(path.read_text()), what="an address"), log
            )
        finally:
            child.kill()
            child.wait(HANGING_S)


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("TIDEMILL_")}


def address_in(log: str) -> str:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    served = [line["address"] for line in lines if line["event"] == "health_served"]
    return served[0].removesuffix("/health") if served else ""


def test_a_healthy_process_says_so_and_drains_at_sigterm(tmp_path: Path) -> None:
    with serving(tmp_path) as child:
        eventually_blocking(lambda: child.health()[0] == 200, what="health")
        status, content = child.health()
        assert status == 200
        assert (content["status"], content["process"]) == ("ok", "commands")
        assert content["services"]["fake"] == {"ok": True, "state": "running", "failures": 0, "lanes": 3}
        assert content["dependencies"]["database"]["ok"] is True
        with urllib.request.urlopen(f"{child.address}/metrics", timeout=HANGING_S) as metrics:
            assert 'tidemill_dependency_up{dependency="database"} 1.0' in metrics.read().decode()
        assert child.stop() == Exit.DRAINED
        log = child.log.read()
    assert "connects as ***" in log
    assert CANARY not in log


def test_a_server_that_goes_and_comes_back_is_noticed(tmp_path: Path) -> None:
    with serving(tmp_path) as child:
        eventually_blocking(lambda: child.health()[0] == 200, what="health")
        (tmp_path / "outage").touch()
        eventually_blocking(lambda: child.health()[0] == 503, what="the outage")
        _, content = child.health()
        assert content["services"]["fake"]["ok"] is True
        assert content["dependencies"]["database"]["error"].startswith("database is not available: gone")
        assert CANARY not in json.dumps(content)
        (tmp_path / "outage").unlink()
        eventually_blocking(lambda: child.health()[0] == 200, what="the recovery")
        log = child.log.read()
    assert "dependency_lost" in log
    assert "dependency_back" in log
    assert CANARY not in log


def test_a_server_that_does_not_answer_is_given_up_in_time(tmp_path: Path) -> None:
    with serving(tmp_path, probes="[Database(), Silent()]") as child:
        eventually_blocking(
            lambda: "within 2 s" in child.health()[1]["dependencies"]["kafka"].get("error", ""),
            what="a time-out",
        )
        assert child.stop() == Exit.DRAINED


def test_a_service_that_does_not_end_is_cut_off(tmp_path: Path) -> None:
    with serving(tmp_path, stop="pass") as child:
        eventually_blocking(lambda: child.health()[0] == 200, what="health")
        assert child.stop() == Exit.CUT_OFF
        assert "drain_cut_off" in child.log.read()


WAITS_FOR_THE_DATABASE: dict[str, Any] = {
    "assemble": "shared.cutoff.cut = gone.set",
    "run": "gone.wait()",
    "stop": "pass",
}


def test_a_database_that_is_away_is_cut_off_and_the_drain_ends_in_peace(tmp_path: Path) -> None:
    with serving(tmp_path, **WAITS_FOR_THE_DATABASE) as child:
        eventually_blocking(lambda: child.health()[0] == 200, what="health")
        (tmp_path / "outage").touch()
        eventually_blocking(lambda: child.health()[0] == 503, what="the outage")
        assert child.stop() == Exit.DRAINED
        assert "database_cut_off" in child.log.read()


def test_a_database_that_answers_is_not_cut_off_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, **WAITS_FOR_THE_DATABASE) as child:
        eventually_blocking(lambda: child.health()[0] == 200, what="health")
        assert child.stop() == Exit.CUT_OFF
        assert "database_cut_off" not in child.log.read()


def test_a_database_that_answers_others_is_cut_off_before_the_drain_is(tmp_path: Path) -> None:
    with serving(tmp_path, cut_off_anyway=0.1, **WAITS_FOR_THE_DATABASE) as child:
        eventually_blocking(lambda: child.health()[0] == 200, what="health")
        assert child.stop() == Exit.DRAINED
        assert "database_cut_off" in child.log.read()


def test_a_loop_that_is_stuck_ends_all_the_same(tmp_path: Path) -> None:
    stuck = "__import__('threading').Event().wait()"
    with serving(tmp_path, stop=stuck, exit_after=0.5) as child:
        eventually_blocking(lambda: child.health()[0] == 200, what="health")
        assert child.stop() == Exit.CUT_OFF
        assert "leaving at once" in child.log.read()


@pytest.mark.parametrize(
    "stuck", ["__import__('threading').Event().wait()", "spin()"], ids=["it waits", "it computes"]
)
def test_a_signal_is_heard_while_the_loop_is_stuck(tmp_path: Path, stuck: str) -> None:
    with serving(tmp_path, run=stuck, exit_after=2) as child:
        eventually_blocking(lambda: "connects as" in child.text(), what="the loop to be stuck")
        child.process.send_signal(signal.SIGTERM)
        eventually_blocking(lambda: "stop_requested" in child.text(), what="the signal to be heard")
        assert child.process.poll() is None, "it may still drain"
        assert child.process.wait(timeout=HANGING_S) == Exit.CUT_OFF
        assert "leaving at once" in child.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_stuck_process_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, run="spin()", exit_after=600) as child:
        eventually_blocking(lambda: "connects as" in child.text(), what="the loop to be stuck")
        child.process.send_signal(number)
        eventually_blocking(lambda: "stop_requested" in child.text(), what="the signal to be heard")
        child.process.send_signal(number)
        assert child.process.wait(timeout=HANGING_S) == Exit.CUT_OFF


def test_servers_that_are_away_at_the_start_are_waited_for(tmp_path: Path) -> None:
    away = "if len(tries) < 3: raise Unavailable('kafka', 'no answer')"
    with serving(tmp_path, assemble=away) as child:
        status, content = child.health()
        if status == 503:
            assert content["trouble"] in {"starting", "kafka is not available: no answer"}
        eventually_blocking(lambda: child.health()[0] == 200, what="health")


def test_a_stop_while_servers_are_away_is_heeded(tmp_path: Path) -> None:
    with serving(tmp_path, assemble="raise Unavailable('kafka', 'no answer')") as child:
        assert child.stop() == Exit.DRAINED


@pytest.mark.parametrize("place", [{"assemble": "await wrong()"}, {"run": "wrong()"}], ids=["start", "run"])
def test_what_no_retry_can_mend_ends_it(tmp_path: Path, place: dict[str, Any]) -> None:
    with serving(tmp_path, **place) as child:
        assert child.process.wait(HANGING_S) == Exit.FAILED
        assert "error: wrong" in child.log.read()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with serving(tmp_path) as child:
        port = child.address.rsplit(":", 1)[1]
        text = PROGRAM.format(
            run="1", stop="1", assemble="pass", probes="[]", exit_after=1, cut_off_anyway=60
        )
        environment = clean_environment() | {"TIDEMILL_HEALTH_PORT": port, "CANARY": "", "OUTAGE": ""}
        second = subprocess.run(
            [sys.executable, "-c", text],
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANGING_S,
            check=False,
        )
    assert second.returncode == 1
    assert f"TIDEMILL_HEALTH_PORT={port}: cannot listen at 127.0.0.1:{port}" in second.stderr
