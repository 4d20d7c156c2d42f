"""What every `Replies` promises, asked of the fake and of the real one alike."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.codecs import Answers
from tests.support.engine.kafka import KafkaWorld, World
from tests.support.waiting import HANGING_S, eventually
from tidemill.commands.ports import Replies, Reply
from tidemill.transport.kafka import KafkaConnection, KafkaReplies, ReplyRecord

CAPACITY = 20


@dataclass
class Subject:
    """A way to those who asked; `arrived` returns the numbers of the replies that reached them."""

    replies: Replies
    topic: str
    arrived: Callable[[], Awaitable[list[int]]]


def recipe(asked: Reply) -> ReplyRecord:
    return ReplyRecord(None, b"%d" % int(asked.row), [])  # type: ignore[call-overload]  # a number stands for the row


@pytest.fixture
async def subject(world: World) -> AsyncIterator[Subject]:
    topic = world.topics.outcomes
    if not isinstance(world, KafkaWorld):
        answers = Answers(CAPACITY)

        async def kept() -> list[int]:
            return [int(each.row) for each in answers.sent]  # type: ignore[call-overload]

        yield Subject(answers, topic, kept)
        return
    real = KafkaReplies(world.connection, recipe, allowed=re.compile(".*"), capacity=CAPACITY)

    async def seen() -> list[int]:
        return [int(each.value or b"") for each in await world.visible(topic, 0)]

    await real.start()
    yield Subject(real, topic, seen)
    await real.close()


def replies(topic: str, *numbers: int) -> list[Reply]:
    rows: list[Any] = list(numbers)
    return [Reply(topic, b"c", 0, row) for row in rows]


async def test_replies_arrive_in_the_order_in_which_they_were_sent(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tidemill.transport.kafka.commands.replies._WITHIN_S", HANGING_S
    )  # or a busy broker gets none of them
    subject.replies.send([])
    subject.replies.send(replies(subject.topic, 1, 2, 3))
    subject.replies.send(replies(subject.topic, 4))

    async def all_there() -> bool:
        return len(await subject.arrived()) == 4

    await eventually(all_there, what="four replies")
    assert await subject.arrived() == [1, 2, 3, 4]


async def test_what_is_too_much_at_once_is_dropped_and_nobody_waits(subject: Subject) -> None:
    subject.replies.send(replies(subject.topic, *range(3 * CAPACITY)))

    async def full() -> bool:
        return len(await subject.arrived()) >= CAPACITY

    await eventually(full, what="as many as there is room for")
    assert await subject.arrived() == list(range(CAPACITY))


async def test_without_a_broker_it_neither_waits_nor_raises() -> None:
    nowhere = KafkaConnection(bootstrap="127.0.0.1:1", close_timeout_s=1.0)
    ways: list[Replies] = [Answers(CAPACITY), KafkaReplies(nowhere, recipe, allowed=re.compile(".*"))]
    for way in ways:
        way.send(replies("made-up", *range(100)))
