"""The program, killing itself as kill -9 does at a point of its work: `python -m tests.support.faults.deaths serve ...`

Or one of its verbs: `python -m tests.support.faults.deaths retention ...`.

The file that TIDEMILL_TEST_DIES_AT names holds the point's label while the trap is set. Nothing of this is in the
program itself: it is patched from here.

    ACTION:stored       a step is written to the registry, its transaction is open
    ACTION:committed    the transaction of that step is committed, nobody was told
    POINT               one of those that `main` sets below
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

LABEL_FILE: Final = "TIDEMILL_TEST_DIES_AT"
FREEZE: Final = "freeze "
"""In front of a label: the process is stopped there, and can be woken."""


def die_at(label: str) -> None:
    """End this process at once if the trap is set for this point."""
    trap = Path(os.environ[LABEL_FILE])
    told = trap.read_text() if trap.exists() else ""
    if told.removeprefix(FREEZE) == label:
        trap.unlink()
        os.kill(os.getpid(), signal.SIGSTOP if told.startswith(FREEZE) else signal.SIGKILL)


def _around(owner: Any, name: str, *, before: str | None = None, after: str | None = None) -> None:
    """Set points around a plain method."""
    original: Callable[..., Any] = getattr(owner, name)

    def patched(*args: Any, **told: Any) -> Any:
        if before is not None:
            die_at(before)
        found = original(*args, **told)
        if after is not None:
            die_at(after)
        return found

    setattr(owner, name, patched)


def _around_async(owner: Any, name: str, point: Callable[..., tuple[str | None, str | None]]) -> None:
    """Set points around a coroutine method; `point` gives the labels before and after it."""
    original: Callable[..., Any] = getattr(owner, name)

    async def patched(*args: Any, **told: Any) -> Any:
        before, after = point(*args, **told)
        if before is not None:
            die_at(before)
        found = await original(*args, **told)
        if after is not None:
            die_at(after)
        return found

    setattr(owner, name, patched)


def _transitions() -> None:
    """Points at every step that is stored, and behind the commit of each."""
    from tidemill.storage.commands.command_store import CommandDatabase
    from tidemill.storage.retention.archive import Registry, SliceRows

    stored: dict[int, list[str]] = {}  # by connection: transactions of a process overlap
    store, unit_of_work = Registry.store, CommandDatabase.unit_of_work

    async def storing(self: Registry, step: Any) -> None:
        await store(self, step)
        stored[id(self._borrowed)].append(step.action.value)
        die_at(f"{step.action.value}:stored")

    @asynccontextmanager
    async def working(self: CommandDatabase) -> AsyncIterator[Any]:
        async with unit_of_work(self) as work:
            actions: list[str] = []
            stored[work.join(id)] = actions
            yield work
        for action in actions:
            die_at(f"{action}:committed")

    Registry.store = storing  # type: ignore[method-assign]
    CommandDatabase.unit_of_work = working  # type: ignore[method-assign]
    _around_async(SliceRows, "drop_rows", lambda *_: ("drop:locked", None))


def _service() -> None:
    """Points where retention is between the registry, the lake and Kafka."""
    from tidemill.lakehouse.copy_reader import LakeCopies
    from tidemill.transport.kafka.outbox.publisher import KafkaLanePublisher

    _around(LakeCopies, "measure", before="copy:to be read", after="copy:read")
    _around_async(KafkaLanePublisher, "publish", lambda *_: ("event:to be published", "event:published"))


def _archiver() -> None:
    """Points where an archiver is between Kafka, the database and the lake."""
    from tidemill.archiver.read_pace import Pace
    from tidemill.domain.archive.messages import ArchivalStatus
    from tidemill.lakehouse.parquet import LakeWriter
    from tidemill.lakehouse.uncommitted_files import PendingFile
    from tidemill.transport.kafka.retention.archival import KafkaConfirmations, KafkaRequests

    def replying(_: Any, answer: Any) -> tuple[str, str]:
        name = "beginning" if answer.status is ArchivalStatus.IN_PROGRESS else "answer"
        return f"{name}:to be sent", f"{name}:sent"

    through, commit = Pace.through, PendingFile.commit

    def passing(self: Pace, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in through(self, batches):
            yield batch
            die_at("rows:half read")

    def committing(self: PendingFile) -> None:
        kind = "file" if self.place.path.endswith(".parquet") else "manifest"
        die_at(f"{kind}:written")
        commit(self)
        die_at(f"{kind}:in place")

    Pace.through = passing  # type: ignore[method-assign]
    PendingFile.commit = committing  # type: ignore[method-assign]
    _around(LakeWriter, "publish", after="copy:published")
    _around_async(KafkaConfirmations, "send", replying)
    _around_async(KafkaRequests, "done", lambda *_: (None, "request:done"))


def _writes_over_http() -> None:
    """Points where a write over HTTP is between its client, the journal and Kafka."""
    from tidemill.submissions.journal import JournalledIntents
    from tidemill.submissions.writes import Writes
    from tidemill.transport.kafka.submissions.producer import KafkaCommandSender

    _around_async(JournalledIntents, "intents", lambda *_: ("write:to be journalled", "write:journalled"))
    _around_async(KafkaCommandSender, "send", lambda *_: (None, "write:sent"))
    _around_async(Writes, "write", lambda *_: (None, "write:decided"))


def main() -> None:
    """Set the points, and run the program."""
    from tidemill.__main__ import main as program

    _transitions()
    if "serve" in sys.argv:
        _service()
        _archiver()
        _writes_over_http()
    program()


if __name__ == "__main__":
    main()
