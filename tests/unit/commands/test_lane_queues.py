"""Which records a batch takes, and when a lane is held back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.fakes.commands import MemoryCommandStore
from tests.fakes.events import START
from tests.support.engine.commands import FakeRecord
from tidemill.commands.lane_queues import LargeRecords, Queues
from tidemill.commands.waits import Newer, Wait
from tidemill.contexts.market_data import context
from tidemill.domain.stream import Stream

STREAM = Stream.of(replace(context, partitions=8))


@pytest.fixture
async def queues() -> Queues:
    store = MemoryCommandStore(STREAM)
    made = Queues(batch_records=10, batch_bytes=1 << 20, waiting_bytes=2 << 20)
    made.add(await store.claim(STREAM.aggregate, range(8), "tests"))
    return made


def records(partition: int, count: int, size: int = 10) -> list[FakeRecord]:
    return [FakeRecord(partition, offset, None, b"x" * size) for offset in range(count)]


async def test_a_lone_record_is_taken_at_once(queues: Queues) -> None:
    assert queues.take(2) is None
    queues.put(3, records(3, 1))
    batch_input = queues.take(2)
    assert batch_input is not None
    assert [record.offset for _, record in batch_input.records] == [0]
    assert queues.take(1) is None, "its lane is busy"
    assert not queues.ready()


async def test_the_lanes_with_backlog_are_shared_among_the_workers(queues: Queues) -> None:
    for partition in range(8):
        queues.put(partition, records(partition, 30))
    first, second = queues.take(2), queues.take(1)
    assert first is not None
    assert second is not None
    assert not queues.ready(), "each lane is in one of them"
    assert {queue.lane_id for queue in first.queues}.isdisjoint(queue.lane_id for queue in second.queues)
    lanes = [lane for lane, _ in first.records]
    assert lanes == sorted(lanes)
    assert len(first.records) <= 10


async def test_what_a_short_lane_leaves_of_a_batch_is_for_the_others(queues: Queues) -> None:
    for partition, count in enumerate((30, 1, 30)):
        queues.put(partition, records(partition, count))
    batch_input = queues.take(1)
    assert batch_input is not None
    assert Counter(lane for lane, _ in batch_input.records) == {1: 4, 2: 1, 3: 5}
    assert [lane for lane, _ in batch_input.records] == [1] * 4 + [2] + [3] * 5


async def test_a_batch_is_bounded_in_bytes_and_never_empty(queues: Queues) -> None:
    queues.put(0, records(0, 10, size=400_000))
    batch_input = queues.take(1)
    assert batch_input is not None
    assert len(batch_input.records) == 3
    queues.done(batch_input)
    queues.put(0, records(0, 1, size=2 << 20))
    sizes = []
    while (batch_input := queues.take(1)) is not None:
        sizes.append(sum(len(record.value or b"") for _, record in batch_input.records))
        queues.done(batch_input)
    assert max(sizes) <= (1 << 20) + (2 << 20)


async def test_headers_weigh_what_they_become(queues: Queues) -> None:
    headers = [("", b"")] * 1_000
    bare = records(0, 6)
    many = queues.put(0, [replace(each, headers=headers) for each in bare])
    few = queues.put(1, records(1, 6))
    assert many is not None
    assert few is not None
    assert queues.overfull(many)
    assert not queues.overfull(few)


async def test_large_records_find_room_one_after_the_other_in_all_lanes_of_a_process() -> None:
    room, store = LargeRecords(max_bytes=4 << 20), MemoryCommandStore(STREAM)
    one, other = (Queues(batch_records=10, room=room) for _ in range(2))
    claims = await store.claim(STREAM.aggregate, range(8), "tests")
    for queues in (one, other):
        queues.add(claims)
        for partition in range(4):
            queues.put(partition, [*records(partition, 1), *records(partition, 3, size=3 << 20)[1:]])
    waiting = [queue for queues in (one, other) for queue in queues.all() if queue.come_back_at is not None]
    assert len(waiting) == 8, "no lane has room for its second one"
    assert sum(len(queue.records) for queues in (one, other) for queue in queues.all()) == 8 + 1
    assert one.out_of_room() is None
    assert all(not queues.drained(queue) for queues in (one, other) for queue in queues.all()[:4])
    while (batch_input := one.take(1)) is not None:
        one.done(batch_input)
    freed = one.out_of_room()
    assert freed is not None
    assert (freed.partition, freed.come_back_at) == (0, 2), "who was refused first comes first"
    waiting_elsewhere = other.out_of_room()
    assert waiting_elsewhere is not None
    assert (waiting_elsewhere.partition, waiting_elsewhere.come_back_at) == (0, 1)


async def test_room_is_given_back_with_the_lane_also_by_a_batch_in_flight(queues: Queues) -> None:
    room, store = LargeRecords(max_bytes=1), MemoryCommandStore(STREAM)
    made = Queues(batch_records=1, room=room)
    claims = await store.claim(STREAM.aggregate, range(8), "tests")
    made.add(claims)
    made.put(0, records(0, 1, size=1 << 20))
    assert not room.is_empty()
    made.remove([0])
    assert room.is_empty()
    made.add(claims)
    made.put(0, records(0, 1, size=1 << 20))
    batch_input = made.take(1)
    assert batch_input is not None
    made.add(claims)
    assert not room.is_empty(), "it is in flight"
    made.done(batch_input)
    assert room.is_empty()


async def test_a_lane_that_waits_for_a_newer_version_keeps_no_room_from_the_others() -> None:
    room, store = LargeRecords(), MemoryCommandStore(STREAM)
    made = Queues(batch_records=1, room=room)
    made.add(await store.claim(STREAM.aggregate, range(8), "tests"))
    queue = made.put(0, [*records(0, 1), *records(0, 2, size=1 << 20)[1:]])
    batch_input = made.take(1)
    assert queue is not None
    assert batch_input is not None
    assert not room.is_empty()
    made.done(batch_input)
    newer = Newer(offset=0, schema="7", type_name="x", service=None, detail="d")
    made.wait(queue, Wait(newer, since=START, until=START), [record for _, record in batch_input.records])
    assert room.is_empty()
    assert ([record.offset for record, _ in queue.records], queue.come_back_at) == ([0], 1)
    assert made.overfull(queue)
    assert made.out_of_room() is None, "nothing is read for it while it waits"
    made.put(0, records(0, 3)[2:])
    assert len(queue.records) == 1, "what is behind the large record is read again with it"
    queue.waits = None
    assert made.out_of_room() is queue


async def test_a_lane_is_held_back_by_count_or_by_bytes(queues: Queues) -> None:
    many = queues.put(0, records(0, 20))
    assert many is not None
    assert queues.overfull(many)
    large = queues.put(1, records(1, 3, size=400_000))
    assert large is not None
    assert queues.overfull(large)
    assert not queues.drained(large)
    batch_input = queues.take(2)
    assert batch_input is not None
    assert queues.drained(many)


async def test_what_arrives_for_a_lane_that_is_gone_is_dropped(queues: Queues) -> None:
    (gone,) = queues.remove([5])
    assert gone.partition == 5
    assert queues.put(5, records(5, 1)) is None
