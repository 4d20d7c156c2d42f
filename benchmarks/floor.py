"""The floor: the least code that moves the same bytes through the same servers.

It validates nothing, rejects nothing, recognises duplicates only within the time range of a batch, and handles no
failure: what is left to lose.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import asyncpg
import fastavro
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.arena import Arena
from benchmarks.data import PARTITIONS
from benchmarks.meter import Meter, Reading
from tidemill.runtime.resources import schemas_dir

Begin = Callable[[], Meter]
"""Begins to measure. Connecting and taking leave are not counted: Tidemill's are not, either."""

_FRAME_BYTES = 10
_BATCH = 5_000

_TABLES = """
create extension if not exists timescaledb;
create table market_data (time timestamptz not null, symbol text not null, price float8, volume float8, source text,
                          command_id uuid not null);
select create_hypertable('market_data', by_range('time', interval '1 day'), create_default_indexes => false);
create index on market_data (symbol, time desc);
create table lane (partition int primary key, next_offset bigint not null, next_sequence bigint not null);
insert into lane select p, 0, 1 from generate_series(0, 3) p;
create table log (partition int not null, sequence bigint not null, issued timestamptz not null,
                  command_id uuid not null, outcome "char" not null, key bytea, payload bytea);
select create_hypertable('log', by_range('issued', interval '1 day'), create_default_indexes => false);
create unique index on log (command_id, issued);
create index on log (partition, sequence);
create table latest_quote (symbol text primary key, time timestamptz, price float8, volume float8, n bigint);
create table checkpoint (partition int primary key, sequence bigint);
insert into checkpoint select p, 0 from generate_series(0, 3) p;
"""
_CLAIM = """
update lane set next_offset = $3, next_sequence = next_sequence + $4 where partition = $1 and next_offset = $2
returning next_sequence - $4
"""
_REPEATED = "select command_id from log where command_id = any($1::uuid[]) and issued between $2 and $3"
_UNSENT = """
select sequence, issued, command_id, key, payload from log
where partition = $1 and sequence > $2 order by sequence limit $3
"""
_FOLD = """
insert into latest_quote
  select * from unnest($1::text[], $2::timestamptz[], $3::float8[], $4::float8[], $5::bigint[])
on conflict (symbol) do update set
  time = greatest(latest_quote.time, excluded.time), volume = latest_quote.volume + excluded.volume,
  price = case when excluded.time >= latest_quote.time then excluded.price else latest_quote.price end,
  n = latest_quote.n + excluded.n
"""


async def prepare(where: Arena) -> None:
    """Make its tables."""
    connection = await asyncpg.connect(where.database_url)
    await connection.execute(_TABLES)
    await connection.close()


def _reader() -> Any:
    path = schemas_dir() / "market_data" / "commands" / "RecordMarketData.avsc"
    schema = fastavro.schema.load_schema(str(path))
    return lambda value: fastavro.schemaless_reader(io.BytesIO(value[_FRAME_BYTES:]), schema, None)


async def _consumer(where: Arena, topic: str) -> tuple[Any, list[TopicPartition]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=where.kafka,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_bytes=16 << 20,
    )
    await consumer.start()
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    for partition in partitions:
        consumer.seek(partition, 0)
    return consumer, partitions


async def work(where: Arena, count: int, begin: Begin) -> Reading:
    """Commands to rows and log, the lanes concurrently: while one is in the database, another one decodes."""
    pool = await asyncpg.create_pool(where.database_url, min_size=PARTITIONS, max_size=PARTITIONS)
    consumer, partitions = await _consumer(where, where.topic("floor-commands"))
    read = _reader()
    left = count

    async def lane(partition: TopicPartition) -> None:
        nonlocal left
        while left > 0:
            records = (await consumer.getmany(partition, timeout_ms=300, max_records=_BATCH)).get(partition)
            if records:
                await _apply(pool, read, records)
                left -= len(records)

    meter = begin()
    await asyncio.gather(*map(lane, partitions))
    reading = meter.read(count)
    await consumer.stop()
    await pool.close()
    return reading


async def _apply(pool: Any, read: Any, records: list[Any]) -> None:
    commands = [read(record.value) for record in records]
    ids = [command["command_id"] for command in commands]
    issued = [command["timestamp"] for command in commands]
    rows = [(c["time"], c["symbol"], c["price"], c["volume"], c["source"], c["command_id"]) for c in commands]
    partition, first, last = records[0].partition, records[0].offset, records[-1].offset
    async with pool.acquire() as connection, connection.transaction():
        sequence = await connection.fetchval(_CLAIM, partition, first, last + 1, len(ids))
        assert sequence is not None
        assert not await connection.fetch(_REPEATED, ids, min(issued), max(issued))
        columns = ["time", "symbol", "price", "volume", "source", "command_id"]
        await connection.copy_records_to_table("market_data", records=rows, columns=columns)
        log = [
            (partition, sequence + at, issued[at], ids[at], b"a", record.key, record.value)
            for at, record in enumerate(records)
        ]
        columns = ["partition", "sequence", "issued", "command_id", "outcome", "key", "payload"]
        await connection.copy_records_to_table("log", records=log, columns=columns)


async def relay(where: Arena, count: int, begin: Begin) -> Reading:
    """Log rows to events, idempotent, one record per command."""
    pool = await asyncpg.create_pool(where.database_url, min_size=PARTITIONS, max_size=PARTITIONS)
    producer = AIOKafkaProducer(
        bootstrap_servers=where.kafka,
        acks="all",
        enable_idempotence=True,
        max_batch_size=512 * 1024,
        max_request_size=4 << 20,
    )
    await producer.start()
    meter = begin()
    sent = await asyncio.gather(*(_send_lane(where, pool, producer, number) for number in range(PARTITIONS)))
    reading = meter.read(count)
    assert sum(sent) == count
    await producer.stop()
    await pool.close()
    return reading


async def _send_lane(where: Arena, pool: Any, producer: Any, partition: int) -> int:
    at = 0
    topic = where.topic("floor-events")
    async with pool.acquire() as connection:
        while rows := await connection.fetch(_UNSENT, partition, at, _BATCH):
            batch, answers = producer.create_batch(), []
            for sequence, issued, command_id, key, payload in rows:
                headers = [
                    ("ce_id", str(command_id).encode()),
                    ("ce_type", b"MarketDataRecorded"),
                    ("ce_source", b"tidemill"),
                    ("ce_specversion", b"1.0"),
                    ("ce_time", issued.isoformat().encode()),
                    ("content-type", b"application/avro"),
                    ("tm_sequence", b"%d" % sequence),
                ]
                if batch.append(key=key, value=payload, timestamp=None, headers=headers) is None:
                    answers.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(key=key, value=payload, timestamp=None, headers=headers)
            answers.append(await producer.send_batch(batch, topic, partition=partition))
            await asyncio.gather(*answers)
            at = rows[-1][0]
    return at


async def project(where: Arena, count: int, begin: Begin) -> Reading:
    """Events to one read model: a keyed fold, one statement per batch."""
    connection = await asyncpg.connect(where.database_url)
    consumer, _ = await _consumer(where, where.topic("floor-events"))
    read, last, left = _reader(), dict.fromkeys(range(PARTITIONS), 0), count
    meter = begin()
    while left > 0:
        for partition, records in (await consumer.getmany(timeout_ms=1000, max_records=_BATCH)).items():
            quotes: dict[str, list[Any]] = {}
            for record in records:
                sequence = int(record.headers[-1][1])
                assert sequence == last[partition.partition] + 1
                last[partition.partition] = sequence
                _fold(quotes, read(record.value))
            async with connection.transaction():
                await connection.execute(
                    "update checkpoint set sequence = $2 where partition = $1",
                    partition.partition,
                    last[partition.partition],
                )
                keys = sorted(quotes)
                await connection.execute(_FOLD, keys, *([quotes[k][at] for k in keys] for at in range(4)))
            left -= len(records)
    reading = meter.read(count)
    await consumer.stop()
    await connection.close()
    return reading


def _fold(quotes: dict[str, list[Any]], event: dict[str, Any]) -> None:
    quote = quotes.get(event["symbol"])
    if quote is None:
        quotes[event["symbol"]] = [event["time"], event["price"], event["volume"], 1]
        return
    quote[3] += 1
    quote[2] += event["volume"]
    if event["time"] >= quote[0]:
        quote[0], quote[1] = event["time"], event["price"]
