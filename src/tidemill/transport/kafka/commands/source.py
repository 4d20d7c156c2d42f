"""The command topic of one stream, read as a member of its consumer group.

Membership only allows an attempt: the database decides about ownership. So nothing flows before the owner sets the
offset. The client's callback only pauses a partition and notifies its owner: no heartbeat runs while a callback
does. The client loses its pauses at every rebalance, so every partition is started again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition

from tidemill.commands.ports import Assignee, OffsetOutOfRange, PartitionError, Unfetchable
from tidemill.domain.lane import InboundRecord
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.transport.kafka.client.client import KafkaConnection, group_consumer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.errors import CLIENT_ERRORS, answering
from tidemill.transport.kafka.client.fetch_buffer import Fault, Fetching
from tidemill.transport.kafka.client.lookup import Lookup
from tidemill.transport.kafka.client.membership import MAX_SILENCE_S, Membership
from tidemill.transport.kafka.client.start import start

T = TypeVar("T")

_log = logger(__name__)

_WAIT_S: Final = 0.2
_PARTITION_BYTES: Final = 512 << 10  # of one poll: many lanes may each exceed their share by this much
_REVOKE_S: Final = (
    12.0  # below half the rebalance time-out, after which other members get the partitions anyway
)
_NOTE_S: Final = 5.0


class KafkaCommandSource:
    """See `CommandSource`. `group`: the stream's consumer group, `PREFIX.AGGREGATE`.

    `max_records`: most records of one poll. `max_silence_s`: how long the group may be silent while Kafka answers.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        topic: str,
        group: str,
        max_records: int = 10_000,
        max_silence_s: float = MAX_SILENCE_S,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._group = group
        self._max_records = max_records
        self._max_silence_s = max_silence_s
        self._lookup = Lookup(connection)
        self._consumer: Any = None
        self._fetching: Any = None
        self._membership: Membership | None = None
        self._ours: set[TopicPartition] = set()  # assigned
        self._ready: set[TopicPartition] = set()  # of these, those with an offset from the owner
        self._flowing: set[TopicPartition] = set()  # of these, those not held back
        self._floor: dict[TopicPartition, int] = {}
        self._faults: deque[PartitionError] = deque()
        self._failure: Exception | None = None
        self._noting: asyncio.Task[None] | None = None

    async def start(self, assignee: Assignee) -> None:
        await self._lookup.partitions(self._topic)  # it would wait silently for a missing topic
        self._consumer = group_consumer(self._connection, group=self._group)
        async with answering(f"joining group {self._group}", self._connection.call_timeout_s):
            await start(self._consumer)
        self._fetching = Fetching(
            self._consumer, max_records=self._max_records, wait_s=_WAIT_S, partition_bytes=_PARTITION_BYTES
        )
        self._membership = Membership(self._consumer, ask=self.partitions, max_silence_s=self._max_silence_s)
        # subscribed only now, or start() would wait for the whole group to rebalance
        self._consumer.subscribe([self._topic], listener=_Listener(self, assignee))

    async def poll(self) -> Mapping[int, Sequence[InboundRecord]]:
        if self._failure is not None:
            raise self._failure
        if self._membership is not None:
            self._membership.check()
        if self._faults:
            raise self._faults.popleft()
        fetched = await self._fetching.fetch(self._flowing)
        arrived = {
            tp.partition: records for tp, records in fetched.records.items() if self._in_place(tp, records)
        }
        for fault in fetched.faults:  # after what could still be read of the partition
            self._hold_back(fault)
        return arrived

    def resume_at(self, offsets: Mapping[int, int]) -> None:
        self._faults = deque(fault for fault in self._faults if fault.partition not in offsets)
        for partition, offset in offsets.items():
            tp = TopicPartition(self._topic, partition)
            if tp in self._ours:
                self._fetching.seek(tp, offset)
                self._floor[tp] = offset
                self._ready.add(tp)
                self._let_flow(tp)

    def pause(self, partitions: frozenset[int]) -> None:
        for tp in self._named(partitions) & self._ours:
            self._hold(tp)

    def resume(self, partitions: frozenset[int]) -> None:
        for tp in self._named(partitions) & self._ready:
            self._let_flow(tp)

    def wake(self) -> None:
        if self._fetching is not None:
            self._fetching.wake()

    async def partitions(self) -> int:
        return await self._lookup.partitions(self._topic)

    async def bounds(self, partitions: frozenset[int]) -> Mapping[int, tuple[int, int]]:
        bounds = await self._lookup.bounds(self._named(partitions))
        return {tp.partition: span for tp, span in bounds.items()}

    async def records_at(
        self, offsets: Mapping[int, int], of: Callable[[InboundRecord], T]
    ) -> Mapping[int, T | None]:
        wanted = {TopicPartition(self._topic, partition): offset for partition, offset in offsets.items()}
        found = await self._lookup.records_at(wanted, of)
        return {tp.partition: value for tp, value in found.items()}

    async def note(self, offsets: Mapping[int, int]) -> None:
        noted = {
            tp: offset
            for p, offset in offsets.items()
            if (tp := TopicPartition(self._topic, p)) in self._ours
        }
        if not noted or (self._noting is not None and not self._noting.done()):
            return  # Kafka is slow or unavailable: the last one is still in flight
        self._noting = asyncio.create_task(self._commit(noted))
        await asyncio.wait({self._noting}, timeout=_NOTE_S)

    async def _commit(self, noted: Mapping[TopicPartition, int]) -> None:
        """Has no deadline: abandoning it would leave the client's own attempt, whose failure would go unnoticed."""
        try:
            await self._consumer.commit(noted)
        except CLIENT_ERRORS as error:
            _log.debug(Log.OFFSETS_NOT_NOTED, group=self._group, error=repr(error))

    async def close(self, *, hurried: bool = False) -> None:
        self._ours = set()
        self._forget()
        within_s = self._connection.close_timeout_s / (2 if hurried else 1)
        watch = [self._membership.close()] if self._membership is not None else []
        await asyncio.gather(*watch, self._lookup.close(), self._leave(within_s))

    async def _leave(self, within_s: float) -> None:
        if self._consumer is not None:
            await hard_close(self._consumer, within_s)
        if self._noting is not None:
            self._noting.cancel()

    def _named(self, partitions: Iterable[int]) -> set[TopicPartition]:
        return {TopicPartition(self._topic, partition) for partition in partitions}

    def _let_flow(self, tp: TopicPartition) -> None:
        self._fetching.resume([tp])
        self._flowing.add(tp)

    def _hold(self, tp: TopicPartition) -> None:
        self._fetching.pause([tp])
        self._flowing.discard(tp)

    def _hold_back(self, fault: Fault) -> None:
        """The other partitions continue; this one waits for its owner to seek."""
        self._hold(fault.partition)
        self._ready.discard(fault.partition)
        kind = OffsetOutOfRange if fault.out_of_range else Unfetchable
        self._faults.append(kind(fault.partition.partition, fault.offset, repr(fault.cause)))

    def _in_place(self, tp: TopicPartition, records: Sequence[ConsumerRecord]) -> bool:
        """Whether records begin where they must; if not, they are dropped and the partition is read again."""
        if tp not in self._flowing:
            return False  # revoked meanwhile
        if records[0].offset < self._floor[tp]:
            self._fetching.seek(tp, self._floor[tp])
            return False
        self._floor[tp] = records[-1].offset + 1
        return True

    # --- callbacks, in a separate task ---------------------------------------------------------------

    def assigned(self, partitions: set[TopicPartition], assignee: Assignee) -> None:
        """Store the new assignment, which replaces the old one completely."""
        self._consumer.pause(*partitions)
        self._ours = set(partitions)
        self._forget()
        assignee.assigned(frozenset(tp.partition for tp in partitions))

    async def revoked(self, partitions: set[TopicPartition], assignee: Assignee) -> None:
        """Stop all partitions at once, then let their owner end what is in flight."""
        self._ours = set()
        self._forget()
        if not partitions:
            return  # the first time round
        async with asyncio.timeout(_REVOKE_S):
            await assignee.revoked(frozenset(tp.partition for tp in partitions))

    def fail(self, error: Exception) -> None:
        """Raise `error` from the next poll: the client would only log it, and continue."""
        _log.error(Log.REBALANCE_CALLBACK_FAILED, group=self._group, error=repr(error))
        self._failure = error

    def _forget(self) -> None:
        self._ready.clear()
        self._flowing.clear()
        self._floor.clear()
        self._faults.clear()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """The client's callbacks. What they raise would be swallowed."""

    def __init__(self, source: KafkaCommandSource, assignee: Assignee) -> None:
        self._source = source
        self._assignee = assignee

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        try:
            self._source.assigned(assigned, self._assignee)
        except Exception as error:  # noqa: BLE001  told by the next poll
            self._source.fail(error)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        try:
            await self._source.revoked(revoked, self._assignee)
        except TimeoutError:
            _log.warning(Log.REBALANCE_CALLBACK_FAILED, error=f"took longer than {_REVOKE_S:g} s")
        except Exception as error:  # noqa: BLE001  told by the next poll
            self._source.fail(error)
