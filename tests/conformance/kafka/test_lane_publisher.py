"""What `Publishers` and every `LanePublisher` promise, asked of the fake and of the real one alike."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.engine.kafka import MAX_EVENT_BYTES, World, lane_of, shown
from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.outbox.ports import ForeignTail, PublisherFenced, RecordRefused, Tail, Tails
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord


def record(number: int, value: bytes | None = b"v", *, sequence: int | None = None) -> OutboundRecord:
    headers: list[tuple[str, bytes | None]] = [
        ("ce_id", b"event-%d" % number),
        ("tm_position", b"%d" % number),
        ("tm_sequence", b"%d" % (number if sequence is None else sequence)),
    ]
    return OutboundRecord(b"key-%d" % number, value, headers)


def plain(records: list[OutboundRecord]) -> list[tuple[object, ...]]:
    return [(one.key, one.value, tuple(one.headers)) for one in records]


async def tails_of(world: World, partition: int = 0) -> Tails:
    publisher = world.publishers().of(lane_of(world, partition))
    try:
        return await publisher.start()
    finally:
        await publisher.close()


@pytest.mark.parametrize("transactional", [True, False])
async def test_what_is_acknowledged_is_there_in_order_and_untouched(
    world: World, transactional: bool
) -> None:
    publisher = world.publishers(transactional=transactional).of(lane_of(world, 0))
    assert await publisher.start() == Tails(None, None, None)
    odd = OutboundRecord(
        None, None, (("same", b"1"), ("same", b"2"), ("none", None), ("", b""), *record(2).headers)
    )
    sent = [record(1), odd, record(3, b"")]
    await publisher.publish({world.topics.events: sent[:2], world.topics.outcomes: sent})
    await publisher.publish({world.topics.events: sent[2:]})
    await publisher.close()
    assert plain(await shown(world, world.topics.events, 0, 3)) == plain(sent)
    assert plain(await shown(world, world.topics.outcomes, 0, 3)) == plain(sent)
    assert await world.visible(world.topics.events, 1) == []


@pytest.mark.parametrize("transactional", [True, False])
async def test_more_than_one_batch_stays_in_order(world: World, transactional: bool) -> None:
    publisher = world.publishers(transactional=transactional).of(lane_of(world, 2))
    await publisher.start()
    sent = [record(number, b"x" * 1_000) for number in range(1, 501)]
    await publisher.publish({world.topics.events: sent, world.topics.dead_letters: sent[:250]})
    await publisher.close()
    assert plain(await shown(world, world.topics.events, 2, 500)) == plain(sent)
    assert plain(await shown(world, world.topics.dead_letters, 2, 250)) == plain(sent[:250])


async def test_the_next_publisher_learns_the_tails(world: World) -> None:
    first = world.publishers().of(lane_of(world, 1))
    await first.start()
    await first.publish({world.topics.events: [record(1), record(4, sequence=3)]})
    await first.publish({world.topics.outcomes: [record(5, sequence=3)]})
    await first.close()
    assert await tails_of(world, 1) == Tails(Tail(4, 3, "event-4"), Tail(5, 3, "event-5"), None)
    assert await tails_of(world, 0) == Tails(None, None, None)


async def test_headers_that_a_dead_letter_brought_along_do_not_count(world: World) -> None:
    first = world.publishers().of(lane_of(world, 0))
    await first.start()
    borrowed = record(900).headers
    await first.publish(
        {world.topics.dead_letters: [OutboundRecord(None, b"", [*borrowed, *record(7).headers])]}
    )
    await first.close()
    assert (await tails_of(world)).dead_letters == Tail(7, 7, "event-7")


async def test_a_tail_is_found_behind_aborted_records_and_after_retention(world: World) -> None:
    publisher = world.publishers().of(lane_of(world, 0))
    await publisher.start()
    await publisher.publish({world.topics.events: [record(1)], world.topics.outcomes: [record(1)]})
    await publisher.close()
    for _ in range(3):
        await world.write(
            world.topics.events, 0, *(record(n) for n in range(100, 150)), record_state="aborted"
        )
    await world.trim(world.topics.outcomes, 0, 2)
    assert await tails_of(world) == Tails(Tail(1, 1, "event-1"), None, None)


async def test_a_later_publisher_fences_the_earlier_one(world: World) -> None:
    publishers = world.publishers()
    first, second = publishers.of(lane_of(world, 0)), publishers.of(lane_of(world, 0))
    await first.start()
    await first.publish({world.topics.events: [record(1)]})
    assert (await second.start()).events == Tail(1, 1, "event-1")
    with pytest.raises(PublisherFenced):
        await first.publish({world.topics.events: [record(2)]})
    await second.publish({world.topics.events: [record(2, b"second")]})
    with pytest.raises(Unavailable):
        await first.publish({world.topics.events: [record(3)]})
    await first.close()
    await second.close()
    assert [one.value for one in await shown(world, world.topics.events, 0, 2)] == [b"v", b"second"]


async def test_lanes_do_not_fence_each_other(world: World) -> None:
    publishers = world.publishers()
    first, second = publishers.of(lane_of(world, 0)), publishers.of(lane_of(world, 1))
    await first.start()
    await second.start()
    await first.publish({world.topics.events: [record(1)]})
    await second.publish({world.topics.events: [record(1)]})
    await first.close()
    await second.close()


async def test_a_refused_record_takes_its_publication_with_it(world: World) -> None:
    publishers = world.publishers()
    first = publishers.of(lane_of(world, 0))
    await first.start()
    await first.publish({world.topics.events: [record(1)], world.topics.outcomes: [record(1)]})
    huge = record(3, b"x" * (MAX_EVENT_BYTES + 1))
    with pytest.raises(RecordRefused):
        await first.publish(
            {world.topics.outcomes: [record(2), record(3)], world.topics.events: [record(2), huge, record(4)]}
        )
    with pytest.raises(Unavailable):
        await first.publish({world.topics.events: [record(2)]})
    await first.close()
    assert await tails_of(world) == Tails(Tail(1, 1, "event-1"), Tail(1, 1, "event-1"), None)
    second = publishers.of(lane_of(world, 0))
    await second.start()
    await second.publish({world.topics.events: [record(2)]})
    await second.close()
    assert [one.key for one in await shown(world, world.topics.events, 0, 2)] == [b"key-1", b"key-2"]
    assert [one.key for one in await shown(world, world.topics.outcomes, 0, 1)] == [b"key-1"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="none of ours"),
        pytest.param([("tm_position", b"one"), ("tm_sequence", b"1")], id="no number"),
        pytest.param([("tm_position", b"1"), ("tm_sequence", None)], id="empty"),
    ],
)
async def test_a_record_of_somebody_else_at_the_tail_is_named(
    world: World, headers: list[tuple[str, bytes | None]]
) -> None:
    await world.write(world.topics.outcomes, 0, record(1))
    await world.write(world.topics.outcomes, 0, OutboundRecord(b"k", b"v", headers))
    with pytest.raises(ForeignTail) as found:
        await tails_of(world)
    assert (found.value.topic, found.value.partition, found.value.offset) == (world.topics.outcomes, 0, 1)


async def test_records_of_somebody_else_that_were_accepted_are_passed_over(world: World) -> None:
    strange = OutboundRecord(b"k", b"v", [("who", b"me")])
    await world.write(world.topics.events, 0, record(1), record(2), *[strange] * 30)
    await world.write(world.topics.outcomes, 0, strange)
    accepted = {world.topics.events: 31, world.topics.outcomes: 0}
    publisher = world.publishers().of(lane_of(world, 0), accepted)
    assert await publisher.start() == Tails(Tail(2, 2, "event-2"), None, None)
    await publisher.publish({world.topics.events: [record(3)]})
    await publisher.close()
    publisher = world.publishers().of(lane_of(world, 0), accepted)
    assert (await publisher.start()).events == Tail(3, 3, "event-3")
    await publisher.close()
    await world.write(world.topics.events, 0, strange)
    publisher = world.publishers().of(lane_of(world, 0), accepted)
    with pytest.raises(ForeignTail, match="was not written by the relay"):
        await publisher.start()
    await publisher.close()


async def test_records_of_somebody_else_may_not_hide_what_stands_behind_them(world: World) -> None:
    await world.write(world.topics.outcomes, 0, record(1), record_state="open")
    with pytest.raises(Unavailable):
        await tails_of(world)


async def test_a_publisher_can_be_closed_at_any_time(world: World) -> None:
    never_started = world.publishers().of(lane_of(world, 0))
    await never_started.close()
    await never_started.close()


@pytest.mark.parametrize("records", [1, 40])
async def test_what_cannot_be_unpacked_at_a_tail_halts_that_lane_alone_until_it_is_accepted(
    world: World, records: int
) -> None:
    """Relays of all lanes ask at once, and one of them is answered so; its own way on is known, too."""
    events, publishers = world.topics.events, world.publishers()
    first = publishers.of(lane_of(world, 0))
    await first.start()
    await first.publish({events: [record(number) for number in range(1, 6)]})
    await first.close()
    last = await world.poison(events, 0, records) + records - 1
    lanes = [publishers.of(lane_of(world, partition)) for partition in range(3)]
    found, *others = await asyncio.gather(*(each.start() for each in lanes), return_exceptions=True)
    assert isinstance(found, ForeignTail)
    assert (found.topic, found.partition, found.offset) == (events, 0, last)
    assert others == [Tails(None, None, None)] * 2
    for tail in (5, 6, 7):
        publisher = publishers.of(lane_of(world, 0), {events: last})
        assert (await publisher.start()).events == Tail(tail, tail, f"event-{tail}")
        await publisher.publish({events: [record(tail + 1)]})
        await publisher.close()
    for each in lanes:
        await each.close()
    again = await world.poison(events, 0)
    publisher = publishers.of(lane_of(world, 0), {events: last})
    with pytest.raises(ForeignTail, match=f"offset {again} "):
        await publisher.start()
    await publisher.close()


async def test_ours_is_found_between_what_cannot_be_unpacked_and_what_somebody_else_wrote(
    world: World,
) -> None:
    events = world.topics.events
    first = world.publishers().of(lane_of(world, 0))
    await first.start()
    await first.publish({events: [record(1)]})
    await world.poison(events, 0, 20)
    second = world.publishers().of(lane_of(world, 0), {events: 1_000})
    assert (await second.start()).events == Tail(1, 1, "event-1")
    await second.publish({events: [record(2)]})
    await world.write(events, 0, *(OutboundRecord(b"k", b"theirs", ()) for _ in range(3)))
    third = world.publishers().of(lane_of(world, 0), {events: 1_000})
    assert (await third.start()).events == Tail(2, 2, "event-2")
    for each in (first, second, third):
        await each.close()


async def test_a_topic_that_was_created_again_is_shorter_than_before(world: World) -> None:
    lanes, publishers = [lane_of(world, partition) for partition in range(3)], world.publishers()
    publisher = publishers.of(lanes[0])
    await publisher.start()
    assert await publishers.shortened(lanes) == frozenset()
    await publisher.publish({world.topics.events: [record(1)]})
    await publisher.close()
    await shown(world, world.topics.events, 0, 1)
    assert await publishers.shortened(lanes) == frozenset()
    await world.trim(world.topics.events, 0, 1)
    assert await publishers.shortened(lanes) == frozenset(), "retention leaves the end"
    await world.create_again(world.topics.events)

    async def shorter() -> frozenset[
        int
    ]:  # a topic that has just been created is left out while nobody leads it
        return await publishers.shortened(lanes)

    assert await eventually(shorter, what="the new topic", retry_on=(Unavailable,)) == {lanes[0].id}
    assert await publishers.shortened(lanes) == frozenset()
