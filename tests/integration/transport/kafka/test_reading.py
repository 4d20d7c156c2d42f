"""Reading from a real broker what the fake cannot show: fetches over many partitions, codecs, sizes, tails, speed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from tests.support.counting import calls_of
from tests.support.engine.kafka import MAX_COMMAND_BYTES, KafkaWorld, lane_of
from tests.support.waiting import HANGING_S, eventually
from tidemill.admin.records.outgoing import Outgoing
from tidemill.catalog.topics import STOCK_BATCH_BYTES, TopicOptions, plan_topics
from tidemill.commands.ports import PartitionError
from tidemill.domain.errors import Unavailable, UsageError
from tidemill.domain.partitioner import partition_of
from tidemill.outbox.ports import Tail, Tails
from tidemill.transport.kafka import (
    KafkaCommandSource,
    KafkaConnection,
    KafkaEventSource,
    KafkaPublishers,
    KeyedProducer,
    TopicReader,
    Topics,
)
from tidemill.transport.kafka.client.fetch_buffer import Fault
from tidemill.transport.kafka.client.lookup import Lookup
from tidemill.transport.kafka.outbox import tail
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.kafka.outbox.tail import TailReader


class Everything:
    """An owner that lets every partition flow from its start, and keeps what arrives."""

    def __init__(self, source: KafkaCommandSource) -> None:
        self.source = source
        self.read: dict[int, list[Any]] = {}
        self.faults: list[PartitionError] = []

    def assigned(self, partitions: frozenset[int]) -> None:
        self.source.resume_at(dict.fromkeys(partitions, 0))

    async def revoked(self, partitions: frozenset[int]) -> None:
        return

    async def reads(self, check: Callable[[], object]) -> None:
        async def checked() -> bool:
            try:
                for partition, records in (await self.source.poll()).items():
                    self.read.setdefault(partition, []).extend(records)
            except PartitionError as fault:
                self.faults.append(fault)
            return bool(check())

        await self.source.start(self)
        try:
            assert await eventually(checked, what="all records")
        finally:
            await self.source.close()

    def values(self, partition: int) -> list[bytes]:
        return [record.value for record in self.read.get(partition, [])]


def commands(world: KafkaWorld, max_records: int = 10_000) -> Everything:
    topic = world.topics.commands
    return Everything(
        KafkaCommandSource(world.connection, topic=topic, group=f"g-{topic}", max_records=max_records)
    )


class Broken:
    """A stream to a broker that has reset it, as uvloop shows it before the client hears of that."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.transport = writer.transport
        self.close = writer.close

    def write(self, data: bytes) -> None:
        raise RuntimeError(f"{len(data)} bytes for a handler that is closed")


def plain(*values: bytes) -> list[OutboundRecord]:
    return [OutboundRecord(b"k", value, []) for value in values]


@pytest.mark.parametrize("max_records", [7, 10_000])
async def test_nothing_of_other_partitions_is_lost_beside_a_poisoned_one(
    world: KafkaWorld, max_records: int
) -> None:
    """The client moves on from the records of one partition, then raises the fault of the next."""
    numbered = [b"%d" % number for number in range(300)]
    for partition in range(4):
        await world.write(world.topics.commands, partition, *plain(*numbered[:150]))
    poisoned = await world.poison(world.topics.commands, 2)
    for partition in range(4):
        await world.write(world.topics.commands, partition, *plain(*numbered[150:]))
    everything = commands(world, max_records)
    others = [0, 1, 3]
    await everything.reads(
        lambda: everything.faults and all(len(everything.values(partition)) == 300 for partition in others)
    )
    assert [everything.values(partition) for partition in others] == [numbered] * 3
    assert everything.values(2) == numbered[:150]
    assert [(fault.partition, fault.offset) for fault in everything.faults] == [(2, poisoned)]


async def test_a_fault_that_was_not_told_yet_is_void_when_its_owner_seeks(world: KafkaWorld) -> None:
    await world.write(world.topics.commands, 1, *plain(b"a"))
    everything = commands(world)
    source, polls = everything.source, 0

    def polled_twice_since() -> bool:
        nonlocal polls
        if polls == 0 and everything.values(1):
            source._hold_back(Fault(TopicPartition(world.topics.commands, 1), 9, OffsetOutOfRangeError()))
            source.resume_at({1: 1})
        polls += bool(everything.values(1))
        return polls > 2

    await everything.reads(polled_twice_since)
    assert everything.faults == []


async def test_a_client_that_cannot_learn_of_new_leaders_any_more_says_so(world: KafkaWorld) -> None:
    """Reading went on until a leader moved; then it waited indefinitely, in silence."""
    source = KafkaEventSource(world.connection, topic=world.topics.events, partitions=4)
    await source.start({})
    try:
        assert await source.poll() == {}
        source._consumer._client._sync_task.cancel()  # as an error would that the client does not expect
        with pytest.raises(Unavailable, match="a task of the client has ended"):
            await source.poll()
    finally:
        await source.close()


async def test_a_client_goes_on_when_a_connection_breaks_under_its_search_for_leaders(
    world: KafkaWorld,
) -> None:
    source = KafkaEventSource(world.connection, topic=world.topics.events, partitions=4)
    await source.start({})
    try:
        assert await source.poll() == {}
        client = source._consumer._client
        for connection in client._conns.values():
            connection._writer = Broken(connection._writer)
        await asyncio.wait_for(client.force_metadata_update(), HANGING_S)
        await world.write(world.topics.events, 2, *plain(b"no event, but it arrives"))
        while not source.foreign():
            await asyncio.wait_for(source.poll(), HANGING_S)
    finally:
        await source.close()


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_every_codec_can_be_read(world: KafkaWorld, codec: str | None) -> None:
    values = [b"%d-" % number + b"x" * 200 for number in range(50)]
    async with AIOKafkaProducer(
        bootstrap_servers=world.connection.bootstrap, compression_type=codec, linger_ms=50
    ) as producer:
        for answer in [
            await producer.send(world.topics.commands, value, key=b"k", partition=1) for value in values
        ]:
            await answer
    everything = commands(world)
    await everything.reads(lambda: len(everything.values(1)) == 50)
    assert everything.values(1) == values


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
async def test_a_batch_that_unpacks_to_too_much_stops_its_partition_and_no_process(
    world: KafkaWorld, codec: str
) -> None:
    topic = world.topics.commands
    await world.write(topic, 0, *plain(b"before"))
    async with AIOKafkaProducer(
        bootstrap_servers=world.connection.bootstrap, compression_type=codec, max_batch_size=1 << 30
    ) as producer:
        batch = producer.create_batch()
        for _ in range(80):
            batch.append(timestamp=None, key=None, value=bytes(1 << 20))
        bomb = await (await producer.send_batch(batch, topic, partition=0))
    for partition in range(4):
        await world.write(topic, partition, *plain(b"after"))
    everything = commands(world)
    await everything.reads(
        lambda: everything.faults and all(everything.values(partition) for partition in range(4))
    )
    assert [everything.values(partition) for partition in range(4)] == [[b"before"], *[[b"after"]] * 3]
    (fault,) = everything.faults
    assert (fault.partition, fault.offset) == (0, bomb.offset)
    assert "unpacks to more than" in fault.detail


async def test_a_batch_larger_than_a_fetch_arrives_and_does_not_hold_up_the_rest(
    connection: KafkaConnection, unique_name: Callable[[str], str]
) -> None:
    world = KafkaWorld(connection, unique_name("large"), 4)
    settings = TopicOptions(max_command_bytes=6 << 20, max_event_bytes=8 << 20)
    await Topics(connection).create(plan_topics(world.topics, 4, settings))
    async with AIOKafkaProducer(
        bootstrap_servers=connection.bootstrap, max_request_size=6 << 20, max_batch_size=6 << 20
    ) as producer:
        for partition in range(4):
            await producer.send_and_wait(world.topics.commands, b"x" * (5 << 20), partition=partition)
            await producer.send_and_wait(world.topics.commands, b"small", partition=partition)
    everything = commands(world)
    await everything.reads(lambda: all(len(everything.values(partition)) == 2 for partition in range(4)))
    assert not everything.faults
    lookup = Lookup(connection)
    places = {TopicPartition(world.topics.commands, p): 0 for p in range(4)}
    found = await lookup.records_at(places, lambda record: len(record.value))
    await lookup.close()
    assert list(found.values()) == [5 << 20] * 4
    await world.close()


async def test_no_clock_of_a_client_gets_a_command_refused_or_deleted(world: KafkaWorld) -> None:
    years_ms = 10 * 365 * 24 * 3600 * 1000
    about_now_ms = 1_800_000_000_000
    async with AIOKafkaProducer(bootstrap_servers=world.connection.bootstrap) as producer:
        for timestamp in (0, about_now_ms - years_ms, about_now_ms + years_ms):
            await producer.send_and_wait(world.topics.commands, b"v", partition=0, timestamp_ms=timestamp)
    everything = commands(world)
    await everything.reads(lambda: len(everything.values(0)) == 3)
    assert {record.timestamp_type for record in everything.read[0]} == {1}


async def test_the_first_question_about_a_topic_is_asked_without_the_clients_pause(world: KafkaWorld) -> None:
    def unforgiving(connection: KafkaConnection) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=connection.bootstrap, retry_backoff_ms=600_000, auto_offset_reset="none"
        )

    events = TopicPartition(world.topics.events, 0)
    await world.write(world.topics.events, 0, *plain(b"v"))  # a topic that is being made may ask for patience
    lookup = Lookup(world.connection, make=unforgiving)
    _, end = (await lookup.bounds([events]))[events]
    assert end > 0
    await lookup.close()


async def test_a_tail_behind_thousands_of_aborted_records_is_found_in_a_few_steps(
    world: KafkaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = world.topics.events
    headers: list[tuple[str, bytes | None]] = [("tm_position", b"5"), ("tm_sequence", b"4"), ("ce_id", b"e")]
    await world.write(topic, 0, OutboundRecord(b"k", b"v", headers))
    for _ in range(4):
        await world.write(topic, 0, *plain(*[b"x" * 20] * 800), record_state="aborted")
    reader = TailReader(world.connection)
    steps = calls_of(monkeypatch, tail, "_last_between")
    looks = await reader.look([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    await reader.close()
    record = looks[TopicPartition(topic, 0)].record
    assert record is not None
    assert record.offset == 0
    assert looks[TopicPartition(topic, 1)].record is None
    assert steps() <= 5, "each step is eight times as long as the one before"


async def test_all_lanes_of_a_stream_start_together(
    connection: KafkaConnection, unique_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 lanes, 192 tails: what is asked at once is answered by one look."""
    world = KafkaWorld(connection, unique_name("wide"), 64)
    await world.open()
    publishers = KafkaPublishers(connection, batch_bytes=MAX_COMMAND_BYTES)
    for expected in (None, Tail(1, 1, "e")):
        lanes = [publishers.of(lane_of(world, partition)) for partition in range(64)]
        tails = await asyncio.gather(*(lane.start() for lane in lanes))
        assert tails == [Tails(expected, None, None)] * 64
        headers: list[tuple[str, bytes | None]] = [
            ("tm_position", b"1"),
            ("tm_sequence", b"1"),
            ("ce_id", b"e"),
        ]
        sent = {world.topics.events: [OutboundRecord(b"k", b"v", headers)]}
        await asyncio.gather(*(lane.publish(sent) for lane in lanes))
        await asyncio.gather(*(lane.close() for lane in lanes))
    await publishers.close()
    reader, looks = TailReader(connection), calls_of(monkeypatch, tail, "look_at")
    topics = (world.topics.events, world.topics.outcomes, world.topics.dead_letters)
    tails_of = [[TopicPartition(topic, partition) for topic in topics] for partition in range(64)]
    found = await asyncio.gather(*(reader.look(tails) for tails in tails_of))
    assert sum(map(len, found)) == 192
    assert looks() == 1
    await reader.close()
    await world.close()


async def test_a_topic_that_does_not_exist_is_told_at_once_and_how_to_make_it(
    connection: KafkaConnection,
) -> None:
    world = KafkaWorld(connection, "missing-for-ever", 4)
    publishers = KafkaPublishers(connection)
    publisher, source = publishers.of(lane_of(world, 0)), world.commands()
    for start in (publisher.start(), source.start(Everything(commands(world).source))):
        with pytest.raises(Unavailable, match="a topic or partition does not exist, or"):
            await start
    for part in (publisher, source, publishers):
        await part.close()


async def test_a_partition_that_does_not_exist_is_told(world: KafkaWorld) -> None:
    events = KafkaEventSource(world.connection, topic=world.topics.events, partitions=5)
    with pytest.raises(Unavailable, match="does not exist"):
        await events.start({})
    await events.close()
    publishers = KafkaPublishers(world.connection)
    publisher = publishers.of(lane_of(world, 4))
    with pytest.raises(Unavailable, match="does not exist"):
        await publisher.start()
    await publisher.close()
    await publishers.close()


async def test_what_hands_publish_lies_where_its_key_belongs_and_can_be_read_back(world: KafkaWorld) -> None:
    topic = world.topics.commands
    sent = [Outgoing(b"key %d" % (n % 7), b"value %d" % n, [("n", b"%d" % n)]) for n in range(500)]
    async with KeyedProducer(world.connection, topic, batch_bytes=MAX_COMMAND_BYTES) as producer:
        await producer.open()
        places = await producer.send(sent)
        (forced,) = await producer.send([Outgoing(b"key 0", None, partition=3)])
    assert [place.partition for place in places] == [partition_of(record.key, 4) for record in sent]
    assert forced.partition == 3
    async with TopicReader(world.connection, topic) as reader:
        await reader.open()
        found = {(one.partition, one.offset): one async for one in reader.records()}
    assert len(found) == 501
    for record, place in zip(sent, places, strict=True):
        one = found[place]
        assert (one.key, one.value, list(one.headers)) == (record.key, record.value, record.headers)


async def test_names_of_headers_that_are_no_text_are_read_as_they_came(world: KafkaWorld) -> None:
    """Any client may send them, and what stands behind them is not out of reach."""
    topic = world.topics.commands
    names = [b"\xff\xfe", b"half \xed\xa0\xbd", b"whole \xf0\x9f\x99\x82", b"nul \x00", b"plain"]
    sent = [
        OutboundRecord(b"k", b"%d" % number, [(name.decode(errors="surrogateescape"), b"\xff"), ("x", None)])
        for number, name in enumerate(names)
    ]
    await world.write(topic, 0, *plain(b"before"), *sent, *plain(b"behind"))
    await world.write(topic, 0, *sent, record_state="open")
    assert await world.visible(topic, 0) == [*plain(b"before"), *sent, *plain(b"behind")]


async def test_a_record_that_is_too_large_is_refused_by_name(world: KafkaWorld) -> None:
    async with KeyedProducer(world.connection, world.topics.commands, batch_bytes=4 << 20) as producer:
        await producer.open()
        with pytest.raises(UsageError, match="larger than"):
            await producer.send([Outgoing(b"k", b"x" * (STOCK_BATCH_BYTES + 1))])
        with pytest.raises(Unavailable, match="has failed before"):
            await producer.send([Outgoing(b"k", b"small")])


async def test_a_reader_shows_the_last_records_and_those_that_come(world: KafkaWorld) -> None:
    topic = world.topics.events
    for number in range(10):
        await world.write(topic, 0, *plain(b"%d" % number))
        await world.write(topic, 0, *plain(b"never"), record_state="aborted")
    await world.write(topic, 1, *plain(b"other"))
    async with TopicReader(world.connection, topic) as reader:
        await reader.open(last=3)
        assert [one.value async for one in reader.records()] == [b"7", b"8", b"9", b"other"]
    async with TopicReader(world.connection, topic, partition=0) as reader:
        await reader.open(last=0)
        following = reader.records(follow=True)
        await world.write(topic, 1, *plain(b"elsewhere"))
        await world.write(topic, 0, *plain(b"new"))
        async with asyncio.timeout(HANGING_S):
            assert (await anext(following)).value == b"new"
    async with TopicReader(world.connection, topic, partition=4) as reader:
        with pytest.raises(UsageError, match="partitions 0 to 3"):
            await reader.open()


async def test_a_reader_says_where_it_cannot_read_on(world: KafkaWorld) -> None:
    await world.write(world.topics.events, 0, *plain(b"a"))
    at = await world.poison(world.topics.events, 0)
    async with TopicReader(world.connection, world.topics.events, partition=0) as reader:
        await reader.open()
        with pytest.raises(UsageError, match=f"offset {at}"):
            assert [one.value async for one in reader.records()] == []
