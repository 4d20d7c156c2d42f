"""A whole installation of Tidemill on real servers: settings of its own, the program, and processes that serve."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import structlog
import typer.main

from tests.support.command_tree import command_of
from tests.support.servers.databases import execute, fetch
from tests.support.servers.nursery import NURSERY, Child
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.__main__ import main
from tidemill.cli import session
from tidemill.settings import Settings, load
from tidemill_devkit.stack import Stack

AWAY = "kafka is not available"


@dataclass(frozen=True)
class Said:
    """What a call of the program said, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return what it printed as JSON."""
        return json.loads(self.out)

    def json_lines(self) -> list[Any]:
        """Return what it printed as one JSON value per line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Installation:
    """Settings that share nothing with other tests, and what can be done with them."""

    environment: Mapping[str, str]
    folder: Path

    @property
    def database(self) -> str:
        return self.environment["TIDEMILL_DATABASE_URL"]

    @property
    def prefix(self) -> str:
        return self.environment["TIDEMILL_TOPICS_PREFIX"]

    def whole_environment(self) -> dict[str, str]:
        """The environment of a process: these settings, and of this one what is no setting."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
        return clean | dict(self.environment)

    def settings(self) -> Settings:
        with self._as_environment():
            return load()

    def fetch(self, query: str, *arguments: object) -> list[Any]:
        return list(fetch(self.database, query, *arguments))

    def execute(self, *statements: str) -> None:
        execute(self.database, *statements)

    def __call__(self, *arguments: str | Path, stdin: str = "", expect: int | None = 0) -> Said:
        """Call the program as a person does, within this process; `expect`: its exit code, None for any.

        Who waits for outcomes and does not say how long is patient: the program itself gives up after half a minute.
        Who makes topics and expects success asks again while the broker is busy, or has just begun: the verb, which
        may be repeated, gives up sooner.
        """
        if arguments[0] == "publish" and "--wait" in arguments and "--timeout" not in arguments:
            arguments = (*arguments, "--timeout", str(HANGING_S))
        said = self._said(*arguments, stdin=stdin)
        if arguments[:2] == ("topics", "create") and expect == 0 and AWAY in said.err:
            again = lambda: self._unless_away(*arguments, stdin=stdin)
            said = eventually_blocking(again, what="a broker that answers") or said
        assert expect is None or said.code == expect, f"exit code {said.code}\n{said.out}\n{said.err}"
        return said

    def _unless_away(self, *arguments: str | Path, stdin: str) -> Said | None:
        said = self._said(*arguments, stdin=stdin)
        return None if AWAY in said.err else said

    def _said(self, *arguments: str | Path, stdin: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        with (
            self._as_environment(),
            _logging_restored(),
            mock.patch.object(sys, "argv", ["tidemill", *map(str, arguments)]),
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
            mock.patch.object(session, "env_file", None),
            mock.patch.object(typer.main, "get_command", command_of),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = _exit_code()
        return Said(code, out.getvalue(), err.getvalue())

    @contextmanager
    def calling(self, *arguments: str | Path) -> Iterator[Calling]:
        """Call the program in a process of its own, which is ended with the block at the latest."""
        out, err = self.folder / "called.out", self.folder / "called.err"
        command = [sys.executable, "-m", "tidemill", *map(str, arguments)]
        with out.open("w") as said, err.open("w") as complained:
            child = subprocess.Popen(command, env=self.whole_environment(), stdout=said, stderr=complained)
        try:
            yield Calling(child, out, err)
        finally:
            child.kill()
            child.wait(HANGING_S)

    def popen(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start the program in a process of its own, beside what else goes on; nobody hears what it says."""
        return subprocess.Popen(
            [sys.executable, "-m", "tidemill", *map(str, arguments)],
            env=self.whole_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @contextmanager
    def serving(self, process: str = "all", **environment: str) -> Iterator[Serving]:
        """Run `tidemill serve PROCESS` until the block ends; it is well when the block begins."""
        with self.starting(process, **environment) as serving:
            eventually_blocking(lambda: serving.address, what=f"the address of serve {process}")
            eventually_blocking(serving.well, what=f"serve {process} to be well")
            yield serving

    @contextmanager
    def starting(
        self, process: str = "all", *, module: str = "tidemill", **environment: str
    ) -> Iterator[Serving]:
        """Run `tidemill serve PROCESS` until the block ends, without waiting for anything.

        `module`: what is run in the program's place.
        """
        log = self.folder / f"{process}.log"
        whole = self.whole_environment() | {"TIDEMILL_LOG_FORMAT": "json"} | environment
        log.write_text("")
        child = NURSERY.begin(module, ["serve", process], whole, log)
        try:
            yield Serving(child, log)
        finally:
            child.kill()
            child.wait(HANGING_S)

    @contextmanager
    def _as_environment(self) -> Iterator[None]:
        with mock.patch.dict(os.environ, self.whole_environment(), clear=True):
            yield


@dataclass(frozen=True)
class Calling:
    """A call of the program that goes on, and what it has said so far."""

    process: subprocess.Popen[bytes]
    _out: Path
    _err: Path

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()


@dataclass
class Serving:
    """A process that serves."""

    process: Child | subprocess.Popen[bytes]
    log: Path
    _address: str = field(default="", init=False)

    @property
    def address(self) -> str:
        if not self._address:
            assert self.process.poll() is None, self.log.read_text()
            served = [line["address"] for line in self.lines() if line.get("event") == "health_served"]
            self._address = served[0].removesuffix("/health") if served else ""
        return self._address

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def health(self) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=HANGING_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def well(self) -> bool:
        """Whether it is healthy, and works all of its lanes."""
        status, content = self.health()
        intakes = [service["intake"] for service in content["services"].values() if "intake" in service]
        return status == 200 and all(intake["lanes"] + intake["halted"] > 0 for intake in intakes)

    def stop(self, timeout_s: float = HANGING_S) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def installation_on(
    stack: Stack, database: str, prefix: str, folder: Path, partitions: int = 2
) -> Installation:
    """Return an installation in a fresh database, with topics of its own that do not exist yet."""
    environment = {
        "TIDEMILL_DATABASE_URL": database,
        "TIDEMILL_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "TIDEMILL_TOPICS_PREFIX": prefix.rstrip("."),
        "TIDEMILL_TOPICS_PARTITIONS": str(partitions),
        "COLUMNS": "200",
    }
    if stack.registry_url:
        environment["TIDEMILL_REGISTRY_URL"] = stack.registry_url
    return Installation(environment, folder)


def _exit_code() -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@contextmanager
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
