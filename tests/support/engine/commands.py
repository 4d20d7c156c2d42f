"""Parts for tests of the way in: a codec of JSON, records that need no broker, lanes that need no topic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.fakes.codecs import JsonCodec, encode
from tidemill.commands.batch import BatchWriter
from tidemill.commands.handlers import handlers_of
from tidemill.commands.ports import CommandCodec, CommandStore
from tidemill.commands.secret_events import RowKeys
from tidemill.commands.validation import Validator
from tidemill.domain.lane import Claim
from tidemill.domain.messages import CommandBase
from tidemill.domain.partitioner import partition_of
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.storage.database.pool import Pool, close_pool, create_pool

HORIZON = timedelta(days=8)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """A record as a Kafka client would give it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass
class Topic:
    """A command topic in memory: puts commands where their key belongs, numbers them."""

    stream: Stream
    ends: dict[int, int] = field(default_factory=dict)

    def record(self, command: CommandBase, **changes: Any) -> FakeRecord:
        """Return the next record of a command; `changes` make it a wrong one."""
        if not {"partition", "key"} <= changes.keys():
            changes = self.place(command) | changes
        return self.raw(
            changes["partition"],
            changes["key"],
            changes.get("value", encode(self.stream, command)),
            changes.get("headers", ()),
        )

    def place(self, command: CommandBase) -> dict[str, Any]:
        """Return the partition and the key where a command belongs."""
        key = self.stream.key(command).encode()
        return {"partition": partition_of(key, self.stream.partitions), "key": key}

    def lane(self, command: CommandBase) -> int:
        """Return the partition where a command belongs."""
        return int(self.place(command)["partition"])

    def again(self, record: FakeRecord) -> FakeRecord:
        """Return the next record of a partition, a copy of an earlier one."""
        return self.raw(record.partition, record.key, record.value, record.headers)

    def raw(
        self,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> FakeRecord:
        """Return the next record of a partition as given."""
        offset = self.ends.get(partition, 0)
        self.ends[partition] = offset + 1
        return FakeRecord(partition, offset, key, value, headers)


def base(service: str = "tests", command_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return the four fields of a command."""
    return {"command_id": command_id or str(uuid4()), "service_name": service, "timestamp": EPOCH} | fields


def uuid7(at: datetime) -> str:
    """Return a UUIDv7 that was made at a time."""
    milliseconds = int(at.timestamp() * 1000)
    return str(UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | uuid4().int & (1 << 62) - 1))


class Harness:
    """A stream's way in without Kafka: screens records and applies them under its claims."""

    def __init__(
        self,
        stream: Stream,
        store: CommandStore,
        *,
        max_event_bytes: int = 1_000_000,
        demand_tables: Callable[[], Awaitable[None]] | None = None,
        row_keys: RowKeys | None = None,
        codec: CommandCodec | None = None,
    ) -> None:
        self.stream = stream
        self.store = store
        self.topic = Topic(stream)
        codec = JsonCodec(stream) if codec is None else codec
        self.validator = Validator(stream, codec)
        self.writer = BatchWriter(
            store,
            handlers_of(stream, codec, max_event_bytes, row_keys),
            SystemClock(),
            horizon=HORIZON,
            demand_tables=demand_tables,
        )
        self.claims: dict[int, Claim] = {}

    async def claim(
        self, partitions: Iterable[int] | None = None, owner: str = "tidemill-tests"
    ) -> list[Claim]:
        """Claim lanes, all of them by default, and note that they were compared, as their owner does."""
        wanted = list(range(self.stream.partitions) if partitions is None else partitions)
        claims = await self.store.claim(self.stream.aggregate, wanted, owner)
        await self.store.compared(claims)
        self.claims |= {claim.lane.id: claim for claim in claims}
        return claims

    def lane_of(self, partition: int) -> int:
        """Return a partition's lane id."""
        (lane,) = [claim.lane.id for claim in self.claims.values() if claim.lane.partition == partition]
        return lane

    async def apply(self, *records: FakeRecord) -> Any:
        """Screen and apply records as one batch."""
        pairs = sorted(
            ((self.lane_of(each.partition), each) for each in records), key=lambda p: (p[0], p[1].offset)
        )
        return await self.writer.apply(self.claims, await self.validator.validate(pairs))

    async def send(self, *commands: CommandBase) -> Any:
        """Apply well-formed commands as one batch."""
        return await self.apply(*(self.topic.record(command) for command in commands))


@asynccontextmanager
async def lanes_pool(database: str, stream: Stream) -> AsyncIterator[Pool]:
    """A pool of a database in which the lanes of a stream are there."""
    pool = await create_pool(database, application_name="tidemill-tests", size=12)
    async with pool.acquire() as connection:
        await create_lanes(connection, stream)
    yield pool
    await close_pool(pool)


async def create_lanes(connection: Any, stream: Stream) -> None:
    """Create a stream's lanes as `tidemill topics create` does, without topics."""
    await connection.execute(
        """
        with made as (
          insert into tm.lane
            (aggregate, partition, partitions, command_topic, event_topic, outcome_topic, dead_letter_topic)
          select $1, p, $2, $3, $4, $5, $6 from generate_series(0, $2 - 1) p returning lane),
        hint as (insert into tm.published (lane, position, sequence) select lane, 0, 0 from made)
        insert into tm.batch
          select lane, gen, 0, 0, 1, 0, 0, null, null, 0, 0, 0, 0, 0, 0, 0, 0, clock_timestamp(), 'created'
          from made, tm.generation where closed_at is null
        """,
        stream.aggregate,
        stream.partitions,
        *stream.topics.named().values(),
    )


def outcomes(done: Any) -> Mapping[str, int]:
    """Return outcome -> count of a batch, without zeros."""
    return {outcome.value: count for outcome, count in done.counts.items() if count}


def codes(done: Any) -> list[str | None]:
    """Return each record's code, in order."""
    return [row.code for _, row in done.outcomes]
