"""Real servers for one test run.

All workers of a run share one stack, named after the run, so that two runs at once do not meet. It
comes up when a test first asks for it and goes down, data and all, when the run ends. A run that was
killed leaves its stack behind: the next run on this machine takes it down.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from tests.support.servers import containers
from tests.support.servers.databases import Databases, drop_databases
from tidemill.storage.migrations.migrate import upgrade
from tidemill_devkit import stack as devstack
from tidemill_devkit.stack.cache import cache_folder, locked
from tidemill_devkit.stack.processes import ProcessId
from tidemill_devkit.stack.progress import PlainLines
from tidemill_devkit.stack.state import default_name

PREFIX = "TIDEMILL_TEST_"


def prepare_template(url: str) -> None:
    """Make of the empty database at `url` what every test's database shall be at its start.

    Called once per run and server, in a thread without an event loop. Whatever the schema needs
    belongs here: every test's database is then a clone, made in about 0.1 s.
    """
    asyncio.run(upgrade(url))


@dataclass(frozen=True)
class Run:
    """One test run as one of its processes sees it; `uid` is the same in all of them."""

    uid: str
    worker: str

    @property
    def name(self) -> str:
        """What the stack of this run is called; other stacks of the run begin with it."""
        return default_name().replace("dev-", "test-") + f"-{self.uid}"

    def shared_stack(self) -> devstack.Stack:
        """The stack of this run; the first who asks brings it up."""
        return self.stack(self.name, prefix=PREFIX)

    def breakable_stack(self) -> devstack.Stack:
        """A stack of this worker alone that devstack owns, with every server running."""
        return self.stack(f"{self.name}-{self.worker}", prefix=None)

    def stack(self, name: str, *, prefix: str | None, brief: bool = True) -> devstack.Stack:
        """A stack that goes down with this run, by its name, which begins with the run's."""
        with _noted(name):
            says = PlainLines(sys.__stderr__ or sys.stderr)
            return devstack.up(name, prefix=prefix, progress=says, containers=containers, brief=brief)

    @contextmanager
    def native_stack(self, name: str) -> Iterator[str]:
        """Take down what the block starts as the stack `name`, which begins with the run's: however the run ends."""
        with _noted(name):
            pass
        try:
            yield name
        finally:
            _take_down(_notes() / f"{name}.json")

    def databases(self, stack: devstack.Stack) -> Databases:
        """Fresh databases on the server of `stack`."""
        # a server that may be killed has all its files to go through when it comes back
        keep = stack.owned and stack.name == self.name
        return Databases(stack.database_url, f"t{self.uid}_", self.worker, prepare_template, keep)

    def names(self) -> Iterator[str]:
        """Endings that no other test on any server ever gets."""
        return (f"{self.uid}{self.worker}n{number}" for number in count(1))

    def finish(self) -> None:
        """Take down whatever the run has brought up; called when its last process ends."""
        notes = sorted(_notes().glob(f"{self.name}*.json"))
        for note in notes:
            _take_down(note)
        given = os.environ.get(f"{PREFIX}DATABASE_URL")
        if notes and given:
            drop_databases(given, f"t{self.uid}_")


@contextmanager
def _noted(name: str) -> Iterator[None]:
    """Note that this process uses the stack `name`, which nobody takes down during the block."""
    sweep_abandoned_stacks()
    note = _notes() / f"{name}.json"
    with locked(f"note-{name}", cache=cache_folder()):
        _add_user(note)
        yield


def sweep_abandoned_stacks() -> None:
    """Take down the stacks of runs whose every process is gone."""
    for note in sorted(_notes().glob("*.json")):
        if not _users_alive(note):
            with locked(f"note-{note.stem}", cache=cache_folder()):
                if note.exists() and not _users_alive(note):
                    _take_down(note)


def _notes() -> Path:
    """Where each test stack has a note of the processes that use it."""
    folder = cache_folder() / "test-runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _users(note: Path) -> list[ProcessId]:
    try:
        return [ProcessId(**user) for user in json.loads(note.read_text())]
    except FileNotFoundError:
        return []


def _users_alive(note: Path) -> bool:
    return any(user.life() != "gone" for user in _users(note))


def _add_user(note: Path) -> None:
    ourselves = ProcessId.of(os.getpid())
    users = {user for user in (*_users(note), ourselves) if user is not None}
    temporary = note.with_suffix(".new")
    temporary.write_text(json.dumps([asdict(user) for user in users]))
    temporary.replace(note)


def _take_down(note: Path) -> None:
    devstack.down(note.stem, purge=True, containers=containers)
    note.unlink(missing_ok=True)
