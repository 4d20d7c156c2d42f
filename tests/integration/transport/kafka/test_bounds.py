"""What a few bytes of Kafka may become is taken in pieces: of records, of headers, over all partitions."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from tests.support.clients.crowds import crowd, empty_records, framed, send_crowd
from tests.support.engine.kafka import KafkaWorld
from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.headers import MAX_HEADERS
from tidemill.domain.lane import weight
from tidemill.transport.kafka import KafkaConnection
from tidemill.transport.kafka.client import fetch_buffer
from tidemill.transport.kafka.client.client import manual_consumer
from tidemill.transport.kafka.client.close import hard_close
from tidemill.transport.kafka.client.fetch_buffer import MAX_BYTES, MAX_HELD_BYTES, Fetching
from tidemill.transport.kafka.client.lookup import assign
from tidemill.transport.kafka.client.start import start
from tidemill.transport.wire.varint import encode_varint

MEBIBYTE = 1 << 20
LARGE = MEBIBYTE - 100
FETCH_S = HANGING_S


@pytest.fixture
async def producer(connection: KafkaConnection) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(
        bootstrap_servers=connection.bootstrap,
        compression_type="zstd",
        max_batch_size=64 * MEBIBYTE,
        max_request_size=64 * MEBIBYTE,
    ) as made:
        yield made


@pytest.fixture
async def consumer(connection: KafkaConnection) -> AsyncIterator[Any]:
    made = manual_consumer(connection)
    await start(made)
    yield made
    await hard_close(made, 5)


async def send_large(producer: AIOKafkaProducer, topic: str, partition: int, records: int) -> None:
    """One batch of a few hundred bytes that unpacks to so many MiB."""
    batch = producer.create_batch()
    for _ in range(records):
        assert batch.append(timestamp=None, key=b"k", value=bytes(LARGE)) is not None
    await (await producer.send_batch(batch, topic, partition=partition))


async def test_a_fetch_ends_at_some_bytes_and_nothing_is_left_out(
    world: KafkaWorld, producer: AIOKafkaProducer, consumer: Any
) -> None:
    topic = world.topics.commands
    tp = TopicPartition(topic, 0)
    for _ in range(3):
        await send_large(producer, topic, 0, 28)
    fetching = assign(consumer, {tp: 0})
    offsets: list[int] = []
    while len(offsets) < 3 * 28:
        records = (await fetching.fetch({tp})).records.get(tp, [])
        offsets += [record.offset for record in records]
        assert sum(map(weight, records)) <= MAX_BYTES + 2 * MEBIBYTE
    assert offsets == list(range(3 * 28))


async def test_a_partition_has_its_share_of_a_fetch(
    world: KafkaWorld, producer: AIOKafkaProducer, consumer: Any
) -> None:
    topic = world.topics.commands
    partitions = [TopicPartition(topic, partition) for partition in range(4)]
    for tp in partitions:
        await send_large(producer, topic, tp.partition, 20)
    consumer.assign(partitions)
    for tp in partitions:
        consumer.seek(tp, 0)
    fetching = Fetching(consumer, max_records=10_000, wait_s=0.2, partition_bytes=2 * MEBIBYTE)
    await eventually(lambda: len(consumer._fetcher._records) == 4, FETCH_S, "all to be fetched")
    records = (await fetching.fetch(partitions)).records
    assert [len(records[tp]) for tp in partitions] == [2] * 4


async def test_what_is_held_of_partitions_that_do_not_flow_is_bounded_and_comes_again(
    world: KafkaWorld, producer: AIOKafkaProducer, consumer: Any
) -> None:
    topic = world.topics.commands
    partitions = [TopicPartition(topic, partition) for partition in range(4)]
    for tp in partitions:
        await send_large(producer, topic, tp.partition, 28)
    fetching = assign(consumer, dict.fromkeys(partitions, 0), max_records=1)
    taken: dict[TopicPartition, list[int]] = {tp: [] for tp in partitions}

    async def take(flowing: set[TopicPartition]) -> None:
        for tp, records in (await fetching.fetch(flowing)).records.items():
            taken[tp] += [record.offset for record in records]

    for tp in partitions:  # each is half unpacked, and then held back
        while not taken[tp]:
            await take({tp})
        consumer.pause(tp)
    await take(set())
    held = [each for each in consumer._fetcher._records.values() if fetch_buffer._held_bytes(each) > MEBIBYTE]
    assert sum(map(fetch_buffer._held_bytes, held)) <= MAX_HELD_BYTES
    assert len(held) == 1, "one of 28 MiB, which counts twice, for the record that is in hand"
    consumer.resume(*partitions)
    while any(len(offsets) < 28 for offsets in taken.values()):
        await take(set(partitions))
    assert all(offsets == list(range(28)) for offsets in taken.values())


async def test_what_is_half_unpacked_is_freed_when_its_partition_is_held_back(
    world: KafkaWorld, producer: AIOKafkaProducer, consumer: Any
) -> None:
    tp = TopicPartition(world.topics.commands, 0)
    await send_large(producer, tp.topic, 0, 28)
    fetching = assign(consumer, {tp: 0}, max_records=1)
    while not (await fetching.fetch({tp})).records:
        pass
    held = weakref.ref(consumer._fetcher._records[tp]._partition_records._records)
    fetching.pause([tp])
    assert held() is None, "without the collector"
    consumer.resume(tp)
    found: list[Any] = []
    while not found:
        found = (await fetching.fetch({tp})).records.get(tp, [])
    assert found[0].offset == 1


async def test_a_million_headers_arrive_as_a_thousand(
    world: KafkaWorld, producer: AIOKafkaProducer, consumer: Any
) -> None:
    topic, tp = world.topics.commands, TopicPartition(world.topics.commands, 0)
    await send_crowd(producer, topic, 0, crowd(records=16, headers=1_000_000))
    fetching = assign(consumer, {tp: 0})
    found: list[Any] = []
    while len(found) < 16:
        found += (await fetching.fetch({tp})).records.get(tp, [])
    assert [len(record.headers) for record in found] == [MAX_HEADERS + 1] * 16
    assert not (await fetching.fetch({tp})).faults


async def test_too_many_records_are_a_fault_of_their_partition(
    world: KafkaWorld, producer: AIOKafkaProducer, consumer: Any
) -> None:
    topic, tp = world.topics.commands, TopicPartition(world.topics.commands, 0)
    await send_crowd(producer, topic, 0, empty_records(100_001))
    fetching = assign(consumer, {tp: 0})
    faults: list[Any] = []
    while not faults:
        faults += (await fetching.fetch({tp})).faults
    assert (faults[0].partition, faults[0].offset) == (tp, 0)
    assert "100001 records" in str(faults[0].cause)


async def test_a_broker_takes_no_record_that_lies_about_its_headers(
    world: KafkaWorld, producer: AIOKafkaProducer
) -> None:
    """That is what lets us look at large records only."""
    lying = framed(0, b"\x02k\x01" + encode_varint(1_000_000))
    with pytest.raises(KafkaError):
        await send_crowd(producer, world.topics.commands, 0, [lying, b"\0" * 2_000_000])
