"""What an operator does by hand: who it is, and an entry of the journal before and after it."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tidemill import __version__
from tidemill.domain.errors import RequestRefused, TidemillError, Unavailable
from tidemill.runtime.clock import Clock
from tidemill.security.journal import MAX_TEXT, Detail, EntryKind, JournalEntry, WriterIdentity, storable_text
from tidemill.security.journal_writer import Journal

T = TypeVar("T")

DONE: Final = "done"
FAILED: Final = "failed"
INTERRUPTED: Final = "interrupted"


@dataclass(frozen=True, slots=True)
class HandAction:
    """A decision of an operator. `name`: the verb. `detail`: what it concerns; texts are cut at 200 characters."""

    name: str
    detail: Mapping[str, str | int | bool | None] = field(default_factory=dict)

    def intent(self, principal: str) -> JournalEntry:
        """Return the entry that is stored before it is done."""
        detail: Detail = {
            name: storable_text(value)[:MAX_TEXT] if isinstance(value, str) else value
            for name, value in self.detail.items()
            if value is not None
        }
        return JournalEntry(kind=EntryKind.INTENT, action=self.name, principal=principal, detail=detail)


def this_process(name: str, clock: Clock) -> WriterIdentity:
    """Return what the anchor of this process's chain says. `name`: such as `http`, or the verb."""
    return WriterIdentity(name, socket.gethostname(), os.getpid(), __version__, clock.now())


def operator() -> str:
    """Return who calls a verb: the user of the operating system, by the process's own id, and the host."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = f"uid-{uid}"
    return f"{user}@{socket.gethostname()}"[:MAX_TEXT]


async def journaled(
    journal: Journal, action: HandAction, principal: str, work: Callable[[], Awaitable[T]]
) -> T:
    """Do `work` between an intent and its outcome; without the intent nothing is done. Raises what `work` raises.

    Raises:
        Unavailable: the intent is not durable in time.
        TidemillError: the database refuses the entry.
    """
    try:
        (ref,) = await journal.intents([action.intent(principal)])
    except RequestRefused as refused:
        fact = f"the journal takes no entry: {refused.detail}; nothing was changed"
        raise journal.problem or Unavailable("database", fact) from refused
    try:
        result = await work()
    except BaseException as error:
        known = isinstance(error, Exception)
        code = error.code if isinstance(error, TidemillError) else type(error).__name__
        await journal.outcome(ref, FAILED if known else INTERRUPTED, code=code)
        raise
    await journal.outcome(ref, DONE)
    return result
