"""Waiting for outcomes: a reply ends a wait at once, and the log is asked for those that none reached.

Replies are best effort, so each wait is looked up 250 ms and 1 s after it began, and at its end. One query serves all
waits that are due. Time passes only in `run`: `look` may be called by hand.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from tidemill.domain.errors import TransientError
from tidemill.domain.messages import Outcome
from tidemill.domain.rejections import RejectionCode
from tidemill.runtime.clock import Clock
from tidemill.runtime.pauses import stopped_within
from tidemill.runtime.service import Health
from tidemill.runtime.telemetry.metrics import SUBMISSION_OUTCOMES, SUBMISSIONS_WAITING
from tidemill.submissions.ports import LoggedOutcome, OutcomeLog

LOOKS_S: Final = (0.25, 1.0)
"""How long after its begin a wait is looked up, besides at its end."""

LOOK_UP_S: Final = 2.0
"""How long a look-up may take: a database that does not answer ends no wait later than that."""

REUSED: Final = "the id was first used for another command"
"""Nothing of the other one, such as its position: it may be another service's."""

_IDLE_S: Final = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOutcome:
    """What became of a record: the outcome, and where the lane was then; `position` 0: that is not known."""

    outcome: Outcome
    original: Outcome | None = None
    code: str | None = None
    message: str | None = None
    rows: int = 0
    sequence: int
    position: int
    seconds: float = 0.0


@dataclass(eq=False, slots=True)
class PendingOutcome:
    """A record whose outcome is awaited. `offset`: once it is acknowledged. `answer` is None at the end of the wait."""

    identity: str
    digest: int
    aggregate: str
    partition: int
    correlation: bytes
    ends_s: float
    looks: list[float]
    offset: int | None = None
    answer: asyncio.Future[KnownOutcome | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def due_s(self) -> float:
        """Return when it is looked up next."""
        return min(self.looks[0], self.ends_s) if self.looks else self.ends_s

    def settle(self, answer: KnownOutcome | None) -> None:
        """End the wait, unless it has ended."""
        if not self.answer.done():
            self.answer.set_result(answer)


class OutcomeWaits:
    """The waits of a process: a `Service`, whose `run` looks when waits are due."""

    def __init__(self, log: OutcomeLog, clock: Clock, *, look_up_s: float = LOOK_UP_S) -> None:
        """`look_up_s`: how long one look-up may take."""
        self._log = log
        self._clock = clock
        self._look_up_s = look_up_s
        self._waits: dict[bytes, PendingOutcome] = {}
        self._process = os.urandom(8)
        self._numbers = count()
        self._news = asyncio.Event()
        self._stopping = False
        self._latest_s = float("inf")
        self._wakes_at_s = float("inf")
        """When `run` looks next; what is due later need not wake it."""
        self.over = asyncio.Event()
        """Set once the time that `end_within` left is over."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waits)

    def begin(self, identity: str, digest: int, lane: tuple[str, int], wait_s: float) -> PendingOutcome:
        """Begin a wait, before its record is sent. `lane`: aggregate and partition."""
        now = self._clock.monotonic_s()
        wait = PendingOutcome(
            identity=identity,
            digest=digest,
            aggregate=lane[0],
            partition=lane[1],
            correlation=self._process + next(self._numbers).to_bytes(8, "big"),
            ends_s=min(now + wait_s, self._latest_s),
            looks=[now + after_s for after_s in LOOKS_S if after_s < wait_s],
        )
        self._waits[wait.correlation] = wait
        wait.answer.add_done_callback(lambda _: self._forget(wait))
        SUBMISSIONS_WAITING.set(len(self._waits))
        if wait.due_s < self._wakes_at_s:
            self._news.set()
        return wait

    def reply(self, correlation: bytes, fields: Mapping[str, Any]) -> None:
        """Take a reply; one for another process, or for a wait that has ended, is left out."""
        wait = self._waits.get(correlation)
        if wait is None or wait.answer.done():
            return
        SUBMISSION_OUTCOMES.labels("reply").inc()
        wait.settle(_of_reply(fields))

    def end_within(self, seconds: float) -> None:
        """Let no wait last longer than this from now, nor any that begins later."""
        self._latest_s = min(self._latest_s, self._clock.monotonic_s() + seconds)
        for wait in self._waits.values():
            wait.ends_s = min(wait.ends_s, self._latest_s)
        self._news.set()

    async def look(self) -> None:
        """Look up what is due, and end the waits whose time is over."""
        now = self._clock.monotonic_s()
        if now >= self._latest_s:
            self.over.set()
        due = [wait for wait in self._waits.values() if wait.due_s <= now]
        if not due:
            return
        logged = await self._ask(sorted({wait.identity for wait in due}))
        for wait in due:
            wait.looks = [at_s for at_s in wait.looks if at_s > now]
            entry = logged.get(wait.identity)
            if entry is not None and not wait.answer.done():
                SUBMISSION_OUTCOMES.labels("log").inc()
                wait.settle(answer_of(entry, wait))
            elif wait.ends_s <= now:
                wait.settle(None)

    async def start(self) -> None:
        """Nothing to prepare."""

    async def run(self) -> None:
        """Look when waits are due, until `stop`."""
        while not self._stopping:
            self._news.clear()
            await self.look()
            pause_s = self._pause_s()
            self._wakes_at_s = self._clock.monotonic_s() + pause_s
            await stopped_within(self._news, pause_s)

    async def stop(self) -> None:
        """Let `run` end, and every wait without an outcome."""
        self._stopping = True
        self.over.set()
        self._news.set()
        for wait in tuple(self._waits.values()):
            wait.settle(None)

    def health(self) -> Health:
        """Return how many wait."""
        return Health(ok=True, detail={"waiting": len(self._waits)})

    def _pause_s(self) -> float:
        latest_s = float("inf") if self.over.is_set() else self._latest_s
        due_s = min((wait.due_s for wait in self._waits.values()), default=latest_s)
        return min(_IDLE_S, max(0.0, min(due_s, latest_s) - self._clock.monotonic_s()))

    async def _ask(self, identities: Sequence[str]) -> dict[str, LoggedOutcome]:
        try:
            async with asyncio.timeout(self._look_up_s):
                return await self._log.outcomes(identities)
        except (TransientError, TimeoutError):
            return {}

    def _forget(self, wait: PendingOutcome) -> None:
        self._waits.pop(wait.correlation, None)
        SUBMISSIONS_WAITING.set(len(self._waits))


def answer_of(entry: LoggedOutcome, wait: PendingOutcome) -> KnownOutcome:
    """Return what an entry of the log says of a record: it is its own, that of an equal one, or of another command."""
    place = entry.aggregate, entry.partition, entry.record_offset
    if wait.offset is not None and place == (wait.aggregate, wait.partition, wait.offset):
        return _answer(entry)
    if entry.digest != wait.digest:
        return KnownOutcome(
            outcome=Outcome.REJECTED, code=RejectionCode.ID_REUSE, message=REUSED, sequence=0, position=0
        )
    if wait.offset is None and entry.record_offset is not None:
        return _answer(entry)  # not acknowledged yet: it may be its own, and the outcome is the same
    return _answer(entry, outcome=Outcome.DUPLICATE, original=entry.outcome)


def _answer(entry: LoggedOutcome, **other: Any) -> KnownOutcome:
    fields: dict[str, Any] = {
        "outcome": entry.outcome,
        "code": entry.code,
        "message": entry.detail,
        "rows": entry.rows,
        "sequence": entry.sequence,
        "position": entry.position,
        "seconds": entry.seconds,
    }
    return KnownOutcome(**{**fields, **other})


def _of_reply(fields: Mapping[str, Any]) -> KnownOutcome:
    original = fields["original"]
    reused = fields["code"] == RejectionCode.ID_REUSE and original is None
    return KnownOutcome(
        outcome=Outcome(fields["outcome"]),
        original=None if original is None else Outcome(original),
        code=fields["code"],
        message=REUSED if reused else fields["error_message"],
        rows=fields["affected_rows"],
        sequence=fields["sequence"],
        position=fields["position"],
        seconds=fields["execution_time"],
    )
