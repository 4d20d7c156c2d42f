"""Transactions that the broker did not end.

A commit is answered when it is decided; the partitions are notified later. A broker that is killed in between must
notify them when it is back, and one that does not know their leaders at that moment gives up: seen with Kafka 4.3.0,
once in four kills of a single broker right after a commit. Then the records are acknowledged and stay hidden, with
everything after them, permanently.

The next transaction of the same producer in that partition ends it, even an empty one. It is committed,
never aborted: the hanging records were written in order by a publisher of that lane from its outbox, and
may have been acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final, Protocol

from aiokafka import TopicPartition

from tidemill.domain.errors import Unavailable
from tidemill.runtime.pauses import every
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.transport.kafka.outbox.tail import TailReader

_log = logger(__name__)

_EVERY_S: Final = 5.0
_LOOKS_UNTIL_ALL: Final = 12


async def end_hanging(producer: Any, partitions: Collection[TopicPartition]) -> None:
    """Commit an empty transaction over `partitions`. `producer`: started, transactional, in no transaction."""
    names = sorted(f"{tp.topic}/{tp.partition}" for tp in partitions)
    await producer.begin_transaction()
    for tp in partitions:
        producer._txn_manager.maybe_add_partition_to_txn(tp)  # the public method needs a record
    await producer.commit_transaction()
    _log.warning(Log.HANGING_TRANSACTION_ENDED, partitions=names)


class Watched(Protocol):
    """A watched publisher."""

    @property
    def partitions(self) -> Collection[TopicPartition]:
        """What it writes to."""
        ...

    @property
    def publications(self) -> int:
        """How many it has begun."""
        ...

    @property
    def idle(self) -> bool:
        """Whether all publications that it has begun are acknowledged."""
        ...

    async def settle(self, hidden: Collection[TopicPartition], publications: int) -> None:
        """End hanging transactions in `hidden`, unless a publication after number `publications` has begun."""
        ...


class HangingWatch:
    """Watches idle publishers: whatever stays hidden in their partitions hangs.

    A publisher whose partitions hid nothing after its last publication is left out until it publishes again, since
    every question lists three partitions for each lane. Now and then, and after an outage, all are looked at.
    """

    def __init__(self, tails: TailReader, *, every_s: float = _EVERY_S) -> None:
        self._tails = tails
        self._every_s = every_s
        self._watched: set[Watched] = set()
        self._hiding: dict[Watched, int] = {}
        self._clean: dict[Watched, int] = {}
        self._looks = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, publisher: Watched) -> None:
        """Start to watch a started publisher."""
        self._watched.add(publisher)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(every(self._every_s, self._look_if_there))

    def discard(self, publisher: Watched) -> None:
        """Stop watching it; with the last one the watch ends."""
        self._watched.discard(publisher)
        self._clean.pop(publisher, None)
        if not self._watched and self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _look_if_there(self) -> None:
        try:
            await self._look()
        except Unavailable as error:
            self._hiding.clear()
            self._clean.clear()
            _log.debug(Log.DEPENDENCY_LOST, dependency=error.server, error=str(error))

    async def _look(self) -> None:
        """A transaction hangs if a publisher hides records twice in a row and has begun nothing in between."""
        begun = self._due()
        idle = {publisher for publisher in begun if publisher.idle}
        if not begun:
            return
        hidden = await self._tails.hidden([tp for publisher in begun for tp in publisher.partitions])
        guilty = {one: count for one, count in begun.items() if not hidden.isdisjoint(one.partitions)}
        confirmed = [one for one, count in guilty.items() if self._hiding.get(one) == count]
        self._hiding = guilty
        self._clean |= {one: begun[one] for one in idle & self._watched - guilty.keys()}
        for publisher in confirmed:
            await publisher.settle(hidden.intersection(publisher.partitions), guilty[publisher])

    def _due(self) -> dict[Watched, int]:
        """Return the publishers to look at, and how many publications they have begun."""
        self._looks += 1
        begun = {publisher: publisher.publications for publisher in self._watched}
        if self._looks % _LOOKS_UNTIL_ALL == 0:
            return begun
        return {one: count for one, count in begun.items() if self._clean.get(one) != count}
