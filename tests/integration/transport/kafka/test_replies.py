"""Replies reach those who asked, and a topic that a client made up holds up nobody."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.kafka import KafkaWorld
from tests.support.waiting import eventually
from tidemill.commands.ports import Reply
from tidemill.telemetry import REPLIES
from tidemill.transport.kafka import KafkaConnection, KafkaReplies, ReplyRecord
from tidemill.transport.kafka import replies as adapter


def reply(topic: str, number: int, partition: int | None = None) -> Reply:
    row: Any = number  # what is said of it is the recipe's
    return Reply(topic, b"asked %d" % number, partition, row)


def recipe(asked: Reply) -> ReplyRecord:
    return ReplyRecord(b"key", f"answer {asked.row}".encode(), [("ce_type", b"outcome")])


def counted(result: str) -> float:
    return float(REPLIES.labels(result)._value.get())


@pytest.fixture
async def replies(world: KafkaWorld) -> AsyncIterator[KafkaReplies]:
    answers = KafkaReplies(
        world.connection,
        recipe,
        allowed=re.compile(r"tidemill\..*|made-up.*"),
        forbidden={world.topics.events},
        capacity=100,
    )
    await answers.start()
    yield answers
    await answers.close()


async def answers_in(world: KafkaWorld, topic: str, count: int) -> list[bytes | None]:
    async def seen() -> list[Any]:
        found = [one for partition in range(4) for one in await world.visible(topic, partition)]
        return found if len(found) >= count else []

    return sorted((one.value for one in await eventually(seen, what="replies")), key=str)


async def test_an_answer_goes_where_it_was_asked_for(world: KafkaWorld, replies: KafkaReplies) -> None:
    replies.send([reply(world.topics.outcomes, 1, partition=2), reply(world.topics.outcomes, 2, partition=2)])
    await answers_in(world, world.topics.outcomes, 2)
    first, second = await world.visible(world.topics.outcomes, 2)
    assert (first.key, first.value) == (b"key", b"answer 1")
    assert list(first.headers) == [("ce_type", b"outcome"), ("kafka_correlationId", b"asked 1")]
    assert second.value == b"answer 2"


async def test_topics_and_partitions_that_do_not_exist_hold_up_nobody(
    world: KafkaWorld, replies: KafkaReplies
) -> None:
    failed, dropped = counted("failed"), counted("dropped")
    replies.send([reply(f"made-up-{number}", number) for number in range(6)])
    replies.send([reply(world.topics.outcomes, 1, partition=77), reply(world.topics.outcomes, 2)])
    assert await answers_in(world, world.topics.outcomes, 1) == [b"answer 2"]
    await eventually(lambda: counted("dropped") >= dropped + 6, what="topics are given up")
    assert counted("failed") == failed + 1
    replies.send([reply("made-up-3", 3), reply(world.topics.outcomes, 3)])
    assert await answers_in(world, world.topics.outcomes, 2) == [b"answer 2", b"answer 3"]


async def test_our_own_topics_and_those_of_others_are_refused(
    world: KafkaWorld, replies: KafkaReplies
) -> None:
    refused = counted("refused")
    asked = [world.topics.events, "__consumer_offsets", "billing", f"x{world.topics.outcomes}", ""]
    replies.send([reply(topic, number) for number, topic in enumerate(asked)])
    replies.send([reply(world.topics.outcomes, 9)])
    assert await answers_in(world, world.topics.outcomes, 1) == [b"answer 9"]
    assert counted("refused") == refused + len(asked)
    assert await world.visible(world.topics.events, 0) == []


async def test_a_recipe_that_fails_costs_its_own_answer_only(world: KafkaWorld) -> None:
    def moody(asked: Reply) -> ReplyRecord:
        if asked.row == 1:  # type: ignore[comparison-overlap]  # a number stands for the row here
            raise ValueError("no answer to that")
        return recipe(asked)

    answers = KafkaReplies(world.connection, moody, allowed=re.compile(".*"))
    await answers.start()
    answers.send([reply(world.topics.outcomes, 1), reply(world.topics.outcomes, 2)])
    assert await answers_in(world, world.topics.outcomes, 1) == [b"answer 2"]
    await answers.close()


async def test_without_a_broker_nobody_waits_and_the_rest_is_dropped(
    unique_name: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_RECONNECT_S", 0.01)
    dropped = counted("dropped")
    nowhere = KafkaConnection(bootstrap="127.0.0.1:1", close_timeout_s=1.0)
    answers = KafkaReplies(nowhere, recipe, allowed=re.compile(".*"), capacity=10)
    await answers.start()
    answers.send([reply("replies", number) for number in range(25)])
    assert counted("dropped") == dropped + 15
    await answers.close()
    await answers.close()
