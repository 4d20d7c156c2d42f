"""What a consumer has fetched, handed out one partition at a time.

`getmany()` over several partitions moves on from the records of one and then raises the fault of the next: those
records are never seen again. It does not say either which partition the fault belongs to, and it withholds the good
records before the bad one. So partitions are asked singly, and one with a fault is read again record by record: what
can be read is delivered, and the fault has an exact offset.

Reaches into aiokafka's fetcher, as nothing public tells what is buffered or waits for it without taking it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError, TopicAuthorizationFailedError

from tidemill.transport.kafka.errors import CLIENT_ERRORS, unavailable

Records = dict[TopicPartition, list[ConsumerRecord]]


class Fault(NamedTuple):
    """Why a partition cannot be read on at `offset`: its batch cannot be unpacked, or there is no such offset."""

    partition: TopicPartition
    offset: int
    cause: Exception

    @property
    def out_of_range(self) -> bool:
        """Whether the topic does not have the offset."""
        return isinstance(self.cause, OffsetOutOfRangeError)


class Harvest(NamedTuple):
    """Records by partition, and faults of partitions that must be held back until somebody seeks."""

    records: Records
    faults: list[Fault]


_NOTHING: Final = Harvest({}, [])


class Fetching:
    """Takes records out of a started consumer.

    `harvest` is to be called in a loop, also with nothing to take: it is the sign of life that keeps the consumer in
    its group. `max_records`: most records of one harvest. `wait_s`: how long to wait if there are none.
    """

    def __init__(self, consumer: Any, *, max_records: int, wait_s: float) -> None:
        self._consumer = consumer
        self._max_records = max_records
        self._wait_s = wait_s
        self._stepping: set[TopicPartition] = set()

    async def harvest(self, flowing: Collection[TopicPartition]) -> Harvest:
        """Return what arrived for the partitions in `flowing`, waiting a moment if nothing did.

        Raises `Unavailable` if the client is broken for good or lacks a right: close it, make a new one.
        """
        subscription, fetcher = self._consumer._subscription, self._consumer._fetcher
        try:
            self._consumer._coordinator.check_errors()
            with subscription.fetch_context():
                if subscription.reassignment_in_progress:
                    await self._wait(subscription.wait_for_assignment())
                    return _NOTHING
                harvest = await self._take(flowing)
                if not harvest.records and not harvest.faults:
                    await self._wait(fetcher._create_fetch_waiter())
                    harvest = await self._take(flowing)
        except CLIENT_ERRORS as error:
            raise unavailable("reading", error) from error
        if fetcher.error_future.done() or self._consumer._client._sync_task.done():
            raise unavailable("reading", AssertionError("a task of the client has ended"))
        return harvest

    async def _wait(self, arrival: asyncio.Future[None]) -> None:
        await asyncio.wait({arrival}, timeout=self._wait_s)
        if arrival.done():
            arrival.result()  # errors of the group arrive here too
        else:
            arrival.cancel()

    async def _take(self, flowing: Collection[TopicPartition]) -> Harvest:
        """Nothing in here really waits: the answers are in the buffer, or there are none."""
        if self._consumer._subscription.reassignment_in_progress:  # it began while we waited
            return _NOTHING
        records: Records = {}
        faults: list[Fault] = []
        left = self._max_records
        for partition in [one for one in self._consumer._fetcher._records if one in flowing]:
            taken, fault = await self._take_from(partition, left)
            if taken:
                records[partition] = taken
                left -= len(taken)
            if fault is not None:
                faults.append(fault)
            if left <= 0:
                break
        return Harvest(records, faults)

    async def _take_from(
        self, partition: TopicPartition, limit: int
    ) -> tuple[list[ConsumerRecord], Fault | None]:
        if partition in self._stepping:
            return await self._step(partition, limit)
        try:
            taken = await self._consumer.getmany(partition, timeout_ms=0, max_records=limit)
        except TopicAuthorizationFailedError:
            raise
        except OffsetOutOfRangeError as error:
            return [], await self._fault(partition, error)
        except Exception:  # noqa: BLE001  whatever unpacking raises; the second time it counts
            self._stepping.add(partition)
            await self._refetch(partition)
            return [], None
        return taken.get(partition, []), None

    async def _step(self, partition: TopicPartition, limit: int) -> tuple[list[ConsumerRecord], Fault | None]:
        """Take record by record, so that the position stands at the bad one when it is reached."""
        steps: list[ConsumerRecord] = []
        try:
            while len(steps) < limit:
                taken = await self._consumer.getmany(partition, timeout_ms=0, max_records=1)
                if not taken:
                    self._stepping.discard(partition)
                    break
                steps += taken[partition]
        except Exception as error:  # noqa: BLE001  anything: only an operator can decide to skip a record
            self._stepping.discard(partition)
            return steps, await self._fault(partition, error)
        return steps, None

    async def _fault(self, partition: TopicPartition, error: Exception) -> Fault:
        return Fault(partition, await self._refetch(partition), error)

    async def _refetch(self, partition: TopicPartition) -> int:
        """Forget what is buffered of a partition and return where it stands; it is fetched again from there."""
        position: int = await self._consumer.position(partition)
        self._consumer.seek(partition, position)
        return position
