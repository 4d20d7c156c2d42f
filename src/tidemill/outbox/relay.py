"""The relay of one lane: sends the rows of its outbox, in order, once, as long as the claim is valid.

    publisher starts (fences its predecessors) -> tails compared with the database -> read, check, publish, store ...

Every fault of the publisher ends it, and the next one starts from the tails again: the broker's records are
authoritative, `tm.published` is a hint that saves reads. A contradiction halts the lane until an operator has cleared
it.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final

from tidemill.domain.errors import Fenced, LaneHalted, TransientError
from tidemill.domain.lane import Claim
from tidemill.domain.rejections import HaltCode
from tidemill.outbox.ports import (
    NOTHING_PUBLISHED,
    ForeignTail,
    LaneEnd,
    LanePublisher,
    Published,
    PublisherFenced,
    RecordRefused,
)
from tidemill.outbox.send_loop import RelayParts, Sending, SendPace
from tidemill.outbox.tail_check import ResumePoint, find_resume_point
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import PUBLISHERS_STARTED

CLOSE_WITHIN_S: Final = 6.0
"""How long `stop` waits for the publisher to close; the lane's next owner fences one that hangs."""

_log = logger(__name__)


class RelayState(StrEnum):
    """The state of a relay."""

    STARTING = "starting"
    SENDING = "sending"
    HALTED = "halted"
    ENDED = "ended"


class LaneRelay:
    """One lane's relay; it runs from its construction.

    `published`: how far the broker has acknowledged, for the stored hint. `failures`: attempts in a row that failed.
    `history`: the lane's end in the database when it was last compared, None before.
    """

    def __init__(self, claim: Claim, parts: RelayParts, pace: SendPace) -> None:
        self.claim = claim
        self.state = RelayState.STARTING
        self.failures = 0
        self.published = NOTHING_PUBLISHED
        self.history: LaneEnd | None = None
        self._parts = parts
        self._pace = pace
        self._news = asyncio.Event()
        self._cleared = asyncio.Event()
        self._compared = asyncio.Event()
        self._sending: Sending | None = None
        self._stopping = False
        self._task = asyncio.create_task(self._live(), name=f"relay of lane {claim.lane.id}")

    @property
    def lane_id(self) -> int:
        """Return the lane's id."""
        return self.claim.lane.id

    @property
    def waiting(self) -> bool:
        """Return whether everything that it knows of was sent."""
        return self._sending is not None and self._sending.waiting

    async def compared(self) -> None:
        """Return when the topics were compared with the log for the first time, or the relay has ended."""
        await self._compared.wait()

    def wake(self) -> None:
        """Say that the outbox may hold more."""
        self._news.set()

    def clear(self) -> None:
        """Say that the lane's halt was lifted."""
        self._cleared.set()

    def compare_again(self) -> None:
        """Say that the topics are not as they were: the next publisher compares them with the log."""
        if self._sending is not None:
            self._sending.finish()
            self._news.set()

    async def stop(self, within_s: float) -> bool:
        """End it; a publication in flight has `within_s` seconds to be acknowledged. Return whether it has ended."""
        self._stopping = True
        try:
            if self._sending is not None and self._sending.publishing:
                self._sending.finish()
                await asyncio.wait({self._task}, timeout=within_s)
        finally:  # also if the caller's time is over
            self._task.cancel()
        _, left = await asyncio.wait({self._task}, timeout=CLOSE_WITHIN_S)
        return not left

    # --- life ---

    async def _live(self) -> None:
        try:
            while not self._stopping:
                await self._attempt()
        except Fenced:
            _log.info(Log.LANES_LOST, lanes=self.claim.lane.name)
        finally:
            self.state = RelayState.ENDED
            self._parts.forget(self.claim.lane)
            self._compared.set()

    async def _attempt(self) -> None:
        """Work with one publisher until it fails; then wait as the failure requires."""
        self.state = RelayState.STARTING
        try:
            await self._work()
        except Fenced:
            raise
        except LaneHalted as halt:
            await self._stand_still(halt)
        except ForeignTail as found:
            await self._stand_still(LaneHalted(self.lane_id, HaltCode.FOREIGN_TAIL, str(found)))
        except RecordRefused as refused:
            self._note(refused)  # and at once again, with fewer records
        except (TransientError, PublisherFenced) as error:
            self._note(error)
            await self._pause()
        except Exception as error:  # noqa: BLE001  a mistake of ours must be loud, and not stop other lanes
            if self._note(error):
                _log.exception(Log.RELAY_FAILED, lane=self.claim.lane.name)
            await self._pause()

    async def _work(self) -> None:
        """Start a publisher, compare, and send until a failure."""
        # First of all, since a publisher fences: a process without the claim must not fence the owner's.
        end = await self._parts.with_retries(self.claim.lane, lambda: self._parts.reader.end(self.claim))
        publisher = self._parts.publishers.of(self.claim.lane, end.accepted)
        PUBLISHERS_STARTED.labels(self.claim.lane.aggregate).inc()
        try:
            place = await self._start(publisher)
            self._sending = Sending(
                self.claim.lane,
                place,
                publisher,
                parts=self._parts,
                pace=self._pace,
                news=self._news,
                progressed=self._progressed,
            )
            await self._sending.run()
        finally:
            self._sending = None
            await _close(publisher)

    async def _start(self, publisher: LanePublisher) -> ResumePoint:
        tails = await publisher.start()
        place = await self._parts.with_retries(
            self.claim.lane, lambda: find_resume_point(self._parts.reader, self.claim, tails)
        )
        self.published = place.published
        self.history = place.end
        self.state = RelayState.SENDING
        self._compared.set()
        return place

    def _progressed(self, published: Published) -> None:
        self.published = published
        self.failures = 0
        self._parts.restarts.over(self.claim.lane)

    async def _stand_still(self, halt: LaneHalted) -> None:
        await self._parts.with_retries(
            self.claim.lane, lambda: self._parts.reader.halt(self.claim, halt.code, halt.detail)
        )
        name = self.claim.lane.name
        next_step = f"tidemill lanes show {name}"
        _log.error(Log.LANE_HALTED, lane=name, code=halt.code, reason=halt.detail, next=next_step)
        self._cleared.clear()
        self.state = RelayState.HALTED
        self.failures = 0  # no further attempts: it waits for an operator
        self._compared.set()
        await self._cleared.wait()
        _log.info(Log.LANE_RESUMED, lane=name)

    async def _pause(self) -> None:
        await asyncio.sleep(self._parts.backoff.pause_s(self.failures))

    def _note(self, error: Exception) -> bool:
        """Count it; return whether it is the first one of its kind since the lane worked."""
        self.failures += 1
        return self._parts.restarts.failed(self.claim.lane, error)


async def _close(publisher: LanePublisher) -> None:
    """Close it even if this task is cancelled; it has its own deadline."""
    closing = asyncio.create_task(publisher.close())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait({closing})
        raise
