"""Internal commands: the service's own decisions about a lane that it owns, written to the lane like a command.

An internal command takes a position and a row of the log, and its events take numbers of the lane; its ledger row
consumes no record. So an announcement is written in the transaction that makes it true, and the relay, the
audit and the subscribers need not know the difference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from tidemill.commands.decide_fold import AppliedRows, EncodedEvent, HandlerResult
from tidemill.commands.numbering import BatchRows, LaneNumbering
from tidemill.commands.ports import CommandStore, Decoded, Locked, UnitOfWork
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.errors import GenerationClosed, NotCompared, TransientError
from tidemill.domain.lane import NO_OFFSET, Claim, Progress
from tidemill.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class InternalCommand:
    """One decision. `name`: its type in the log. `command_id`: a canonical UUID text, unique among them.

    `rows`: how many it changed, where that is counted.
    """

    name: str
    command_id: str
    service: str
    key: bytes | None
    events: Sequence[EncodedEvent]
    rows: int | None = None

    @property
    def result(self) -> HandlerResult:
        """Return what a handler would have answered."""
        events = list(self.events)
        return events if self.rows is None else AppliedRows(events, self.rows)


@dataclass
class InternalCommandNumbering:
    """The internal commands of one transaction. `work` is that transaction, `at` the server's clock in it.

    `locked`: what it read under the lock of the lane.
    """

    work: UnitOfWork
    at: datetime
    locked: Locked
    orders: list[InternalCommand] = field(default_factory=list)


class InternalCommandWriter:
    """Writes internal commands to lanes."""

    def __init__(self, store: CommandStore, clock: Clock, *, silent: bool = False) -> None:
        """`clock` measures how long an internal command took.

        `silent`: lanes are only locked, nothing is written, so a halted lane is accepted.
        """
        self._store = store
        self._clock = clock
        self._silent = silent
        self._reached: dict[int, int] = {}

    @asynccontextmanager
    async def transaction(self, claim: Claim) -> AsyncIterator[InternalCommandNumbering]:
        """Open a transaction that locks the lane; the `orders` that it holds at its end are written to the lane.

        Raises:
            Fenced: another process has claimed the lane.
            LaneHalted: the lane must not be written to until an operator decides.
            NotCompared: it must first be compared with its topics, or the database was restored after the claim.
            RepeatedIds: nothing was written: an internal command with this id exists.
            CommitUnknown: the answer to the commit was lost; check whether it happened, then repeat it if not.
            TransientError: nothing was written, it may succeed later.
        """
        try:
            async with self._transaction(claim) as numbering:
                yield numbering
        except GenerationClosed as rolled:
            raise TransientError(f"{rolled}: try again") from rolled

    @asynccontextmanager
    async def _transaction(self, claim: Claim) -> AsyncIterator[InternalCommandNumbering]:
        started_s = self._clock.monotonic_s()
        async with self._store.unit_of_work() as work:
            locked = await work.lock([claim])
            progress = locked.progress[claim.lane.id]
            if not self._silent:
                self._check_not_set_back(claim, progress)
                await work.demand_going(claim)
            numbering, batch_rows = InternalCommandNumbering(work, locked.now, locked), BatchRows()
            yield numbering
            if numbering.orders:
                assert not self._silent, "it was not checked that the lane may be written to"
                seconds, at = self._clock.monotonic_s() - started_s, locked.at(claim.lane.id)
                lane = LaneNumbering(batch_rows, claim, progress, locked.gen, at, seconds)
                for order in numbering.orders:
                    lane.enter(_arrival(claim, order), order.result)
                lane.close(
                    None, reason=f"ordered: {', '.join(sorted({each.name for each in numbering.orders}))}"
                )
                await work.log(batch_rows.log)
                await work.send(batch_rows.outbox)
                await work.append_ledger(batch_rows.ledger)
        self._reached |= {row.lane: row.position for row in batch_rows.ledger}

    def _check_not_set_back(self, claim: Claim, progress: Progress) -> None:
        """Raise `NotCompared` if the database was restored to before what the claim or a command has seen."""
        lane_id = claim.lane.id
        if progress.position < max(claim.progress.position, self._reached.get(lane_id, 0)):
            raise NotCompared(lane_id, "since the database was restored", name=claim.lane.name)


def _arrival(claim: Claim, order: InternalCommand) -> IncomingCommand:
    """Return the internal command in the form of a record, without an offset.

    With an offset, the sender of the record there would take this outcome for its own.
    """
    record = NotSent(claim.lane.partition, NO_OFFSET, order.key)
    fields = {"command_id": order.command_id, "service_name": order.service}
    decoded = Decoded(order.name, fields, b"", None)
    return IncomingCommand(claim.lane.id, record, decoded=decoded, command_id=order.command_id)


@dataclass(frozen=True, slots=True)
class NotSent:
    """A record that was not sent."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
