"""What every `CommandSender` and every `ReplyInbox` promises, asked of the fakes and of a broker alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.submissions import MemoryInbox, MemorySender
from tests.support.engine.kafka import MAX_COMMAND_BYTES, KafkaWorld, World, unhurried
from tests.support.waiting import HANGING_S, eventually
from tidemill.domain.errors import Unavailable, Unreadable, UsageError
from tidemill.submissions.ports import CommandRecord, CommandSender, ReplyAddress
from tidemill.transport.kafka import KafkaConnection
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.kafka.submissions.producer import KafkaCommandSender
from tidemill.transport.kafka.submissions.replies import KafkaReplyInbox
from tidemill_devkit.stack import Stack


@pytest.fixture
async def sender(world: World) -> AsyncIterator[CommandSender]:
    if not isinstance(world, KafkaWorld):
        yield MemorySender(max_bytes=MAX_COMMAND_BYTES)
        return
    real = KafkaCommandSender(world.connection, batch_bytes=MAX_COMMAND_BYTES, timeout_s=HANGING_S)
    yield real
    await real.close()


def record(world: World, number: int, size: int = 10) -> CommandRecord:
    value = b"%d " % number + bytes(size)
    return CommandRecord(world.topics.commands, 1, b"k", value, [("h", b"v")])


async def seen(world: World, sender: CommandSender) -> list[tuple[bytes | None, bytes | None, Any]]:
    if isinstance(sender, MemorySender):
        return [
            (each.key, each.value, tuple(each.headers)) for each in sender.records[world.topics.commands, 1]
        ]
    return [
        (each.key, each.value, tuple(each.headers)) for each in await world.visible(world.topics.commands, 1)
    ]


async def test_a_record_arrives_as_it_is_and_its_offset_is_told(world: World, sender: CommandSender) -> None:
    records = [record(world, number) for number in range(3)]
    assert [await sender.send(each) for each in records] == [0, 1, 2]
    assert await seen(world, sender) == [(each.key, each.value, tuple(each.headers)) for each in records]


async def test_many_are_sent_at_once(world: World, sender: CommandSender) -> None:
    offsets = await asyncio.gather(*(sender.send(record(world, number)) for number in range(200)))
    assert sorted(offsets) == list(range(200))
    assert len(await seen(world, sender)) == 200


async def test_what_is_too_large_is_refused_and_holds_up_nobody(world: World, sender: CommandSender) -> None:
    with pytest.raises(UsageError):
        await sender.send(record(world, 1, size=2 * MAX_COMMAND_BYTES))
    assert await sender.send(record(world, 2)) == 0


async def test_without_a_broker_nothing_is_acknowledged() -> None:
    nowhere = KafkaConnection(bootstrap="127.0.0.1:1", call_timeout_s=1.0, close_timeout_s=1.0)
    real = KafkaCommandSender(nowhere, batch_bytes=MAX_COMMAND_BYTES, timeout_s=0.5)
    senders: list[CommandSender] = [MemorySender(away=True), real]
    for each in senders:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await each.send(CommandRecord("made-up", 0, b"k", b"v", ()))
    await real.close()


# --- replies ---


class Inbox:
    """An inbox, and those who reply."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.memory = MemoryInbox()
        self.memory.address = None
        self.got: list[tuple[bytes, Mapping[str, Any]]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ReplyAddress]:
        self.memory.listen(lambda correlation, fields: self.got.append((correlation, fields)))
        self.memory.address = ReplyAddress(self.world.topics.outcomes, 0)
        yield self.memory.address
        self.memory.address = None

    @property
    def address(self) -> ReplyAddress | None:
        return self.memory.address

    async def reply(self, address: ReplyAddress, *correlations: bytes | None) -> None:
        for correlation in correlations:
            if correlation is not None:
                self.memory.give(correlation, {"value": correlation.decode()})


class KafkaInbox(Inbox):
    """The same on a broker."""

    def __init__(self, world: KafkaWorld) -> None:
        super().__init__(world)
        self.real = KafkaReplyInbox(
            world.connection, world.topics.outcomes, process="tests", decode=decoded, again_s=0.01
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ReplyAddress]:
        self.real.listen(lambda correlation, fields: self.got.append((correlation, fields)))
        await self.real.start()
        running = asyncio.create_task(self.real.run())
        await eventually(lambda: self.real.address is not None, what="an address")
        assert self.real.address is not None
        yield self.real.address
        await self.real.stop()
        await asyncio.wait_for(running, HANGING_S)

    @property
    def address(self) -> ReplyAddress | None:
        return self.real.address

    async def reply(self, address: ReplyAddress, *correlations: bytes | None) -> None:
        headers: list[Sequence[tuple[str, bytes]]] = [
            [] if one is None else [("kafka_correlationId", one)] for one in correlations
        ]
        records = [OutboundRecord(None, one, each) for one, each in zip(correlations, headers, strict=True)]
        await self.world.write(address.topic, address.partition, *records)


def decoded(value: bytes) -> Mapping[str, Any]:
    if value == b"unreadable":
        raise Unreadable("MALFORMED", "by design")
    return {"value": value.decode()}


@pytest.fixture
def inbox(world: World) -> Inbox:
    return KafkaInbox(world) if isinstance(world, KafkaWorld) else Inbox(world)


async def test_replies_are_received_from_when_there_is_an_address(inbox: Inbox) -> None:
    assert inbox.address is None
    async with inbox.open() as address:
        await inbox.reply(address, b"one", b"two")
        await eventually(lambda: len(inbox.got) == 2, what="two replies")
        assert inbox.got == [(b"one", {"value": "one"}), (b"two", {"value": "two"})]
    assert inbox.address is None


async def test_what_is_no_reply_is_left_out(inbox: Inbox) -> None:
    async with inbox.open() as address:
        if isinstance(inbox, KafkaInbox):
            await inbox.reply(address, None, b"unreadable")
        await inbox.reply(address, b"last")
        await eventually(lambda: inbox.got, what="a reply")
    assert [correlation for correlation, _ in inbox.got] == [b"last"]


async def test_an_inbox_whose_topic_comes_later_begins_then(
    stack: Stack, unique_name: Callable[[str], str]
) -> None:
    world = KafkaWorld(unhurried(stack.kafka_bootstrap), unique_name("goods"), 2)
    connection = replace(world.connection, call_timeout_s=2.0)
    inbox = KafkaReplyInbox(connection, world.topics.outcomes, process="tests", decode=decoded, again_s=0.01)
    running = asyncio.create_task(inbox.run())
    await eventually(lambda: inbox.health().detail["problem"], what="a problem")
    assert inbox.address is None
    assert inbox.health().ok
    await world.open()
    await eventually(lambda: inbox.address is not None, what="an address")
    await inbox.stop()
    await asyncio.wait_for(running, HANGING_S)
    await world.close()
