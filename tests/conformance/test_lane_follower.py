"""What every `LaneFollower` promises, asked of the fake and of the relays alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest

from tests.fakes.followers import MemoryFollower
from tests.support.engine.outbox import Scribe, claim_of, lane_of
from tests.support.engine.relays import World
from tests.support.waiting import HANGING_S
from tidemill.commands.expiry import FlowingLanes
from tidemill.commands.ports import LaneFollower
from tidemill.domain.lane import Claim
from tidemill.retention.stream import ArchiveLane

LANE, OTHER = lane_of(1, 0), lane_of(2, 1)


class Subject:
    """A follower in memory, and what is outside of it."""

    def __init__(self) -> None:
        self.memory = MemoryFollower()
        self.follower: LaneFollower = self.memory

    def claim(self, epoch: int = 1) -> list[Claim]:
        return [claim_of(LANE, epoch), claim_of(OTHER)]

    def silence(self) -> None:
        self.memory.silent |= {LANE.id, OTHER.id}

    def speak(self) -> None:
        for lane in (LANE, OTHER):
            self.memory.speak(lane.id)

    def commit(self) -> None:
        """Commit something in `LANE`."""

    async def worked(self) -> int:
        """Return how often something of `LANE` was worked, when that is at an end."""
        return self.memory.woken.count(LANE.id)


class Relays(Subject):
    """The relays, without the housekeeping that looks for what nobody told of."""

    def __init__(self) -> None:
        self.world = World()
        self.follower = self.world.relays
        self.scribe = Scribe(LANE)
        for lane in (LANE, OTHER):
            self.world.outbox.create(lane.id)

    def claim(self, epoch: int = 1) -> list[Claim]:
        self.world.outbox.epochs[LANE.id] = epoch
        return super().claim(epoch)

    def silence(self) -> None:
        self.world.outbox.away = True

    def speak(self) -> None:
        self.world.outbox.away = False

    def commit(self) -> None:
        self.world.outbox.store(self.scribe.applied().batch())

    async def worked(self) -> int:
        if LANE.id in self.world.relays.states():
            await self.world.published(self.scribe.position, LANE)
        return len(self.world.topics.log(LANE.topics.events, LANE.partition))


class Archive(Subject):
    """The archive's lane, which stands before its relays and hears what they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.follower = ArchiveLane().before(self.memory)


class Flowing(Subject):
    """The lanes that a sweeper may write to, which stand before their relays likewise."""

    def __init__(self) -> None:
        super().__init__()
        self.follower = FlowingLanes(self.memory)


STANDING_BEFORE = {"archive": Archive, "flowing": Flowing}


@pytest.fixture(params=["memory", "archive", "flowing", "relays"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield Subject()
        return
    if request.param in STANDING_BEFORE:
        yield STANDING_BEFORE[request.param]()
        return
    relays = Relays()
    yield relays
    await relays.world.relays.stop()


async def soon(waiting: Awaitable[None]) -> None:
    await asyncio.wait_for(waiting, HANGING_S)


async def waits(waiting: asyncio.Future[None]) -> bool:
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    return not done


async def test_it_says_when_a_lane_was_compared(subject: Subject) -> None:
    subject.silence()
    await subject.follower.take(subject.claim())
    comparing = asyncio.gather(*(subject.follower.compared(lane.id) for lane in (LANE, OTHER)))
    assert await waits(comparing)  # type: ignore[arg-type]
    subject.speak()
    await asyncio.wait_for(comparing, HANGING_S)
    await soon(subject.follower.compared(LANE.id))


async def test_a_lane_that_was_dropped_is_waited_for_no_longer(subject: Subject) -> None:
    subject.silence()
    await subject.follower.take(subject.claim())
    comparing = asyncio.ensure_future(subject.follower.compared(LANE.id))
    other = asyncio.ensure_future(subject.follower.compared(OTHER.id))
    assert await waits(comparing)
    await soon(subject.follower.drop([LANE.id]))
    await soon(comparing)
    assert await waits(other)
    subject.speak()
    await soon(other)


async def test_a_later_claim_replaces_the_earlier_one(subject: Subject) -> None:
    subject.silence()
    await subject.follower.take(subject.claim())
    earlier = asyncio.ensure_future(subject.follower.compared(LANE.id))
    assert await waits(earlier)
    await soon(subject.follower.take(subject.claim(2)))
    await soon(earlier)
    later = asyncio.ensure_future(subject.follower.compared(LANE.id))
    assert await waits(later)
    subject.speak()
    await soon(later)


async def test_a_lane_that_it_does_not_follow_holds_up_nobody(subject: Subject) -> None:
    await soon(subject.follower.compared(LANE.id))
    await soon(subject.follower.drop([LANE.id]))
    subject.follower.wake([LANE.id])
    assert await subject.worked() == 0


async def test_it_works_what_it_is_told_of_until_it_is_dropped(subject: Subject) -> None:
    for epoch, worked in ((1, 1), (2, 2)):
        await subject.follower.take(subject.claim(epoch))
        await soon(subject.follower.compared(LANE.id))
        subject.commit()
        subject.follower.wake([LANE.id])
        assert await subject.worked() == worked
        await soon(subject.follower.drop([LANE.id]))
    subject.commit()
    subject.follower.wake([LANE.id])
    assert await subject.worked() == 2
