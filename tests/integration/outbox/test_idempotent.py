"""The relay without Kafka transactions: a replaced owner is not fenced there, so what it sends late is what counts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

import pytest

from tests.support.engine.outbox import Scribe
from tests.support.engine.real_relays import RealWorld, numbers
from tests.support.waiting import eventually
from tidemill.domain.lane import Lane
from tidemill.outbox.lanes import LaneRelays
from tidemill.outbox.ports import NOTHING_ACCEPTED, EncodedRecord, LanePublisher, Publishers, Slab, Tails


class Late:
    """Publishers whose publications wait for `let`, one each: an owner that stands still in the middle of its work."""

    def __init__(self, publishers: Publishers) -> None:
        self.let = asyncio.Semaphore(0)
        self.waiting = 0
        self._publishers = publishers

    def of(self, lane: Lane, accepted: Mapping[str, int] = NOTHING_ACCEPTED) -> LatePublisher:
        return LatePublisher(self, self._publishers.of(lane, accepted))

    async def shortened(self, lanes: Collection[Lane]) -> frozenset[int]:
        return await self._publishers.shortened(lanes)


class LatePublisher:
    """One of them."""

    def __init__(self, late: Late, publisher: LanePublisher) -> None:
        self._late = late
        self._publisher = publisher

    async def start(self) -> Tails:
        return await self._publisher.start()

    async def publish(self, batches: Mapping[str, Sequence[EncodedRecord | Slab]]) -> None:
        self._late.waiting += 1
        await self._late.let.acquire()
        await self._publisher.publish(batches)

    async def close(self) -> None:
        await self._publisher.close()


async def replaced(world: RealWorld, scribe: Scribe) -> tuple[Late, LaneRelays, LaneRelays]:
    """Return an owner that holds back the first three events, and the next owner, which has sent six."""
    late = Late(world.kafka.publishers(transactional=False))
    one = await world.process(publishers=late, housekeeping=False)
    await world.store(scribe.applied(3).batch())
    await world.claim(one, scribe.lane)
    await eventually(lambda: late.waiting == 1, what="a batch on its way")
    await world.store(scribe.applied(3).batch())
    two = await world.process(transactional=False, housekeeping=False)
    await world.claim(two, scribe.lane, epoch=2)
    await world.sent(two, scribe)
    await world.check(scribe)
    return late, one, two


async def events(world: RealWorld, scribe: Scribe) -> list[int]:
    return numbers(await world.read(world.topics.events, scribe.lane.partition), "tm_sequence")


def kept(sequences: Sequence[int]) -> list[int]:
    """Return what a reader keeps that obeys the rule: drop what is not greater than the last one."""
    taken: list[int] = []
    for sequence in sequences:
        if not taken or sequence > taken[-1]:
            taken.append(sequence)
    return taken


async def test_what_a_replaced_owner_sends_late_is_dropped_by_its_number(world: RealWorld) -> None:
    scribe = world.scribes[0]
    late, one, two = await replaced(world, scribe)
    late.let.release()
    await eventually(lambda: late.waiting == 2, what="the late batch acknowledged, the next one on its way")
    await world.store(scribe.applied(4).batch())
    two.wake([scribe.lane.id])
    await world.sent(two, scribe)
    assert await events(world, scribe) == [1, 2, 3, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10]
    await world.crash(one)
    await two.drop([scribe.lane.id])
    await world.store(scribe.applied(2).batch())
    three = await world.process(transactional=False)
    await world.claim(three, scribe.lane, epoch=3)
    await world.sent(three, scribe)
    assert kept(await events(world, scribe)) == list(range(1, 13))


@pytest.mark.parametrize("hinted", [False, True])
async def test_a_late_batch_at_the_end_of_a_topic_is_resolved_or_named(
    world: RealWorld, hinted: bool
) -> None:
    """What is known to be sent says whether events are missing, or were merely sent before: nothing is guessed."""
    scribe = world.scribes[0]
    lane = scribe.lane
    late, one, two = await replaced(world, scribe)
    late.let.release()
    await eventually(lambda: late.waiting == 2, what="the late batch acknowledged, the next one on its way")
    await world.crash(one)
    await (two.drop([lane.id]) if hinted else world.crash(two))
    assert await events(world, scribe) == [1, 2, 3, 4, 5, 6, 1, 2, 3]
    three = await world.process(transactional=False)
    await world.claim(three, lane, epoch=3)
    if hinted:
        told = f"{world.topics.events}/0 acknowledged event 6 and now ends with 3"
        assert await world.halted(lane, three) == ("TOPIC_BEHIND", told)
        done = await world.reconcile(lane, "a replaced owner's batch came late")
        assert (done.again, done.withdrawn, done.lost) == (3, 0, 0)
        epoch = await world.pool.fetchval("select epoch from tm.lane where lane = $1", lane.id)
        await world.claim(three, lane, epoch=epoch)
    await world.sent(three, scribe)
    assert await events(world, scribe) == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]
    assert kept(await events(world, scribe)) == list(range(1, 7))
