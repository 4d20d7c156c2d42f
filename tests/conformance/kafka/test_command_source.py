"""What every `CommandSource` promises, asked of the fake and of the real one alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

import pytest

from tests.support.engine.kafka import World
from tests.support.waiting import eventually
from tidemill.commands.ports import CommandSource, OffsetOutOfRange, PartitionError, Unfetchable
from tidemill.domain.lane import InboundRecord
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord


class Owner:
    """An `Assignee` that remembers what it was told."""

    def __init__(self) -> None:
        self.ours: set[int] = set()
        self.told: list[tuple[str, frozenset[int]]] = []
        self.on_revoked: Callable[[], Awaitable[None]] | None = None

    def assigned(self, partitions: frozenset[int]) -> None:
        self.told.append(("assigned", partitions))
        self.ours |= partitions

    async def revoked(self, partitions: frozenset[int]) -> None:
        self.told.append(("revoked", partitions))
        self.ours -= partitions
        if self.on_revoked is not None:
            await self.on_revoked()


class Member:
    """A source with its owner; whatever it reads is kept."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.source: CommandSource = world.commands()
        self.owner = Owner()
        self.read: dict[int, list[InboundRecord]] = {}
        self.faults: list[PartitionError] = []

    async def poll(self) -> Mapping[int, list[InboundRecord]]:
        try:
            polled = await self.source.poll()
        except PartitionError as fault:
            self.faults.append(fault)
            return {}
        for partition, records in polled.items():
            self.read.setdefault(partition, []).extend(records)
        return {partition: list(records) for partition, records in polled.items()}

    async def until(self, check: Callable[[], object], what: str) -> None:
        async def checked() -> bool:
            await self.poll()
            return bool(check())

        reached: bool = await eventually(checked, what=what)
        assert reached

    async def quiet(self, polls: int = 3) -> None:
        """Poll a few times; nothing may come."""
        assert [await self.poll() for _ in range(polls)] == [{}] * polls

    def values(self, partition: int) -> list[bytes | None]:
        return [record.value for record in self.read.get(partition, [])]


Join = Callable[[], Coroutine[Any, Any, Member]]


@pytest.fixture
async def join(world: World) -> AsyncIterator[Join]:
    members: list[Member] = []

    async def joined() -> Member:
        member = Member(world)
        members.append(member)
        await member.source.start(member.owner)
        return member

    yield joined
    for member in members:
        await member.source.close()


@pytest.fixture
async def member(world: World, join: Join) -> Member:
    """The only member of the group, which has all partitions."""
    alone = await join()
    await alone.until(lambda: alone.owner.ours == {0, 1, 2, 3}, "all partitions")
    return alone


def commands(*values: bytes) -> list[OutboundRecord]:
    return [OutboundRecord(b"key", value, ()) for value in values]


async def test_nothing_flows_before_its_owner_says_from_where(world: World, member: Member) -> None:
    await world.write(world.topics.commands, 0, *commands(b"a", b"b", b"c"))
    await member.quiet()
    member.source.resume(frozenset({0}))
    await member.quiet()
    member.source.resume_at({0: 1})
    await member.until(lambda: len(member.read.get(0, [])) >= 2, "records")
    assert member.values(0) == [b"b", b"c"]
    assert [record.offset for record in member.read[0]] == [1, 2]
    assert {record.partition for record in member.read[0]} == {0}


async def test_records_arrive_as_they_were_written(world: World, member: Member) -> None:
    odd: list[tuple[str, bytes | None]] = [("same", b"1"), ("same", b"2"), ("none", None), ("", b"")]
    await world.write(
        world.topics.commands,
        3,
        OutboundRecord(None, None, []),
        OutboundRecord(b"", b"", odd),
        OutboundRecord(b"key", None, []),
    )
    member.source.resume_at({3: 0})
    await member.until(lambda: len(member.read.get(3, [])) >= 3, "records")
    seen = [(record.key, record.value, tuple(record.headers)) for record in member.read[3]]
    assert seen == [(None, None, ()), (b"", b"", tuple(odd)), (b"key", None, ())]


async def test_only_what_is_committed_is_read(world: World, member: Member) -> None:
    topic = world.topics.commands
    await world.write(topic, 1, *commands(b"a"))
    await world.write(topic, 1, *commands(b"never"), record_state="aborted")
    await world.write(topic, 1, *commands(b"b"))
    await world.write(topic, 1, *commands(b"pending"), record_state="open")
    await world.write(topic, 1, *commands(b"behind"))
    member.source.resume_at({1: 0})
    await member.until(lambda: len(member.read.get(1, [])) >= 2, "records")
    await member.quiet()
    assert member.values(1) == [b"a", b"b"]
    assert [record.offset for record in member.read[1]] == [0, 3]
    assert await member.source.bounds(frozenset({1, 2})) == {1: (0, 4), 2: (0, 0)}


async def test_a_paused_partition_waits_and_others_do_not(world: World, member: Member) -> None:
    member.source.resume_at({0: 0, 1: 0})
    member.source.pause(frozenset({0, 2}))
    for partition in (0, 1):
        await world.write(world.topics.commands, partition, *commands(b"a", b"b"))
    await member.until(lambda: member.values(1) == [b"a", b"b"], "the other partition")
    await member.quiet()
    assert member.values(0) == []
    member.source.resume(frozenset({0}))
    await member.until(lambda: member.values(0) == [b"a", b"b"], "the resumed partition")


async def test_resuming_at_an_earlier_offset_reads_again_and_no_further_back(
    world: World, member: Member
) -> None:
    await world.write(world.topics.commands, 0, *commands(b"a", b"b", b"c"))
    member.source.resume_at({0: 0})
    await member.until(lambda: len(member.values(0)) == 3, "records")
    member.source.resume_at({0: 1})
    await member.until(lambda: len(member.values(0)) >= 5, "records again")
    assert member.values(0) == [b"a", b"b", b"c", b"b", b"c"]


async def test_a_partition_that_cannot_be_unpacked_stops_alone_and_exactly_there(
    world: World, member: Member
) -> None:
    topic = world.topics.commands
    await world.write(topic, 0, *commands(b"a", b"b"))
    at = await world.poison(topic, 0)
    await world.write(topic, 0, *commands(b"c"))
    await world.write(topic, 1, *commands(b"x"))
    member.source.resume_at({0: 0, 1: 0})
    await member.until(
        lambda: member.faults and member.values(1) == [b"x"], "the fault and the other partition"
    )
    (fault,) = member.faults
    assert isinstance(fault, Unfetchable)
    assert (fault.partition, fault.offset) == (0, at)
    assert member.values(0) == [b"a", b"b"]
    member.source.resume(frozenset({0}))  # a queue that has room again must not wake it
    await world.write(topic, 1, *commands(b"y"))
    await member.until(lambda: member.values(1) == [b"x", b"y"], "the other partition")
    assert len(member.faults) == 1
    member.source.resume_at({0: at + 1})
    await member.until(lambda: member.values(0) == [b"a", b"b", b"c"], "what stands behind")


@pytest.mark.parametrize("offset", [1, 9])
async def test_an_offset_that_the_topic_does_not_have_is_told(
    world: World, member: Member, offset: int
) -> None:
    topic = world.topics.commands
    await world.write(topic, 2, *commands(b"a", b"b", b"c", b"d"))
    await world.write(topic, 3, *commands(b"x"))
    await world.trim(topic, 2, 2)
    member.source.resume_at({2: offset, 3: 0})
    await member.until(
        lambda: member.faults and member.values(3) == [b"x"], "the fault and the other partition"
    )
    assert [(type(fault), fault.partition, fault.offset) for fault in member.faults] == [
        (OffsetOutOfRange, 2, offset)
    ]
    await member.quiet()
    assert await member.source.bounds(frozenset({2})) == {2: (2, 4)}
    member.source.resume_at({2: 2})
    await member.until(lambda: member.values(2) == [b"c", b"d"], "what is there")


async def test_single_records_can_be_looked_at_while_others_flow(world: World, member: Member) -> None:
    topic = world.topics.commands
    await world.write(topic, 0, *commands(b"a", b"b"))
    await world.write(topic, 0, *commands(b"never"), record_state="aborted")
    await world.write(topic, 0, *commands(b"c"))
    await world.write(topic, 1, *commands(b"x"))
    await world.trim(topic, 0, 1)
    member.source.resume_at({1: 0})
    seen = {}
    for offset in range(7):
        found = await member.source.records_at(
            {0: offset, 1: 0, 2: 0}, lambda record: (record.offset, record.value)
        )
        assert (found[1], found[2]) == ((0, b"x"), None)
        seen[offset] = found[0]
    assert seen == {0: None, 1: (1, b"b"), 2: None, 3: None, 4: (4, b"c"), 5: None, 6: None}
    await member.until(lambda: member.values(1) == [b"x"], "the flowing partition")


async def test_what_is_not_ours_is_ignored(member: Member) -> None:
    member.source.resume_at({77: 0})
    member.source.pause(frozenset({77}))
    member.source.resume(frozenset({77}))
    await member.source.note({77: 5})
    await member.quiet()


async def test_a_noted_offset_lets_nothing_flow(world: World, join: Join) -> None:
    first = await join()
    await first.until(lambda: first.owner.ours, "partitions")
    await world.write(world.topics.commands, 0, *commands(b"a", b"b"))
    await first.source.note({0: 1})
    await first.source.close()
    second = await join()
    await second.until(lambda: second.owner.ours == {0, 1, 2, 3}, "all partitions")
    await second.quiet(8)
    second.source.resume_at({0: 0})
    await second.until(lambda: second.values(0) == [b"a", b"b"], "records")


async def test_two_members_share_and_every_partition_starts_anew(
    world: World, member: Member, join: Join
) -> None:
    for partition in range(4):
        await world.write(world.topics.commands, partition, *commands(b"a"))
    member.source.resume_at(dict.fromkeys(range(4), 0))
    await member.until(lambda: len(member.read) == 4, "all partitions")
    other = await join()
    polls = asyncio.create_task(other.until(lambda: other.owner.ours, "a share"))
    await member.until(lambda: len(member.owner.ours) == 2, "the smaller share")
    await polls
    assert {frozenset(member.owner.ours), frozenset(other.owner.ours)} == {
        frozenset({0, 1}),
        frozenset({2, 3}),
    }
    assert ("revoked", frozenset(range(4))) in member.owner.told
    kept, gone = min(member.owner.ours), min(other.owner.ours)
    await world.write(world.topics.commands, kept, *commands(b"b"))
    member.source.resume(frozenset({kept}))  # not before its owner has claimed it again
    await member.quiet()
    await other.quiet()
    member.source.resume_at({kept: 1, gone: 0})
    other.source.resume_at({gone: 0})
    await member.until(lambda: member.values(kept) == [b"a", b"b"], "the next record")
    await other.until(lambda: other.values(gone) == [b"a"], "its own record")
    assert member.values(gone) == [b"a"]
    await member.source.close()
    await other.until(lambda: other.owner.ours == {0, 1, 2, 3}, "what the other one left")


async def test_partitions_are_taken_only_after_their_owner_has_released(member: Member, join: Join) -> None:
    released = asyncio.Event()
    order: list[str] = []

    async def let_go() -> None:
        await released.wait()
        order.append("let go")

    member.owner.on_revoked = let_go
    joining = asyncio.create_task(join())
    polls = asyncio.create_task(member.until(lambda: member.owner.ours, "a share"))
    await eventually(lambda: ("revoked", frozenset(range(4))) in member.owner.told, what="revoked")
    released.set()
    other = await joining
    await other.until(lambda: other.owner.ours, "a share")
    order.append("taken")
    await polls
    assert order == ["let go", "taken"]
