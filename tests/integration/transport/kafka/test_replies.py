"""Replies reach those who asked, and a topic that a client made up holds up nobody."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.engine.kafka import KafkaWorld
from tests.support.waiting import eventually
from tidemill.commands.ports import Reply
from tidemill.runtime.telemetry.metrics import REPLIES
from tidemill.transport.kafka import KafkaConnection, KafkaReplies, ReplyRecord, Topics
from tidemill.transport.kafka.commands import replies as adapter


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
    world: KafkaWorld, replies: KafkaReplies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ones are looked up without an end here, and the other topic's replies are sent meanwhile."""
    failed, dropped, within_s = counted("failed"), counted("dropped"), adapter._WITHIN_S
    await eventually(lambda: replies._producer is not None, what="a connection")
    monkeypatch.setattr(adapter, "_WITHIN_S", 600)
    monkeypatch.setattr(replies._producer.client, "_request_timeout_ms", 600_000)
    replies.send([reply(f"made-up-{number}", number) for number in range(6)])
    replies.send([reply(world.topics.outcomes, 1, partition=77), reply(world.topics.outcomes, 2)])
    assert await answers_in(world, world.topics.outcomes, 1) == [b"answer 2"]
    assert counted("failed") == failed + 1
    assert counted("dropped") == dropped
    monkeypatch.setattr(adapter, "_WITHIN_S", within_s)
    replies.send([reply(f"made-up-{number}", number) for number in range(6, 12)])
    await eventually(lambda: counted("dropped") >= dropped + 6, what="topics are given up")
    replies.send([reply("made-up-9", 9), reply(world.topics.outcomes, 3)])
    assert await answers_in(world, world.topics.outcomes, 2) == [b"answer 2", b"answer 3"]


async def test_a_topic_that_was_deleted_holds_up_no_other(
    world: KafkaWorld, replies: KafkaReplies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead one is waited for without an end here, and the other one's replies are all sent meanwhile."""
    dead, live = world.topics.dead_letters, world.topics.outcomes
    replies.send([reply(dead, 0), reply(live, 0)])
    await answers_in(world, dead, 1)
    await answers_in(world, live, 1)
    await Topics(world.connection).delete([dead])
    client = replies._producer.client

    async def forgotten() -> bool:
        await client.force_metadata_update()
        return client.cluster.partitions_for_topic(dead) is None

    await eventually(forgotten, what="the client to learn that a topic is gone")
    monkeypatch.setattr(adapter, "_WITHIN_S", 600)
    monkeypatch.setattr(client, "_request_timeout_ms", 600_000)
    replies.send([reply(dead, number) for number in range(1, 11)])
    replies.send([reply(live, number) for number in range(1, 4)])
    assert await answers_in(world, live, 4) == [b"answer 0", b"answer 1", b"answer 2", b"answer 3"]
    assert set(replies._queues) == {dead}, "it is still being waited for"


async def test_a_topic_that_takes_no_reply_in_time_is_given_up_with_all_that_waits_for_it(
    world: KafkaWorld, replies: KafkaReplies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is where nobody leads a partition, and the client's batch for it is full."""
    stuck, live = world.topics.dead_letters, world.topics.outcomes
    replies.send([reply(stuck, 0), reply(live, 0)])
    await answers_in(world, stuck, 1)
    await answers_in(world, live, 1)
    asked: list[str] = []
    send = replies._producer.send

    async def leaderless(topic: str, *given: Any, **options: Any) -> Any:
        asked.append(topic)
        if topic == stuck:
            await asyncio.Event().wait()
        return await send(topic, *given, **options)

    monkeypatch.setattr(replies._producer, "send", leaderless)
    monkeypatch.setattr(adapter, "_WITHIN_S", 0.05)
    failed, dropped = counted("failed"), counted("dropped")
    replies.send([reply(stuck, number) for number in range(1, 11)])
    await eventually(lambda: counted("dropped") == dropped + 9, what="what waits to be given up")
    assert counted("failed") == failed + 1
    replies.send([reply(stuck, 11), reply(live, 1)])
    await answers_in(world, live, 2)
    assert (counted("dropped"), asked.count(stuck)) == (dropped + 10, 1), "it is left alone for a while"
    monkeypatch.setattr(replies._producer, "send", send)
    monkeypatch.setattr(adapter, "_WITHIN_S", 20)
    replies._unknown[stuck] = 0.0  # the while is over
    replies.send([reply(stuck, 12)])
    assert await answers_in(world, stuck, 2) == [b"answer 0", b"answer 12"]


async def test_made_up_topics_are_not_remembered(world: KafkaWorld, replies: KafkaReplies) -> None:
    dropped = counted("dropped")
    replies.send([reply(f"made-up-{number}", number) for number in range(6)])
    await eventually(lambda: counted("dropped") >= dropped + 6, what="topics to be given up")
    assert not [topic for topic in replies._producer.client._topics if topic.startswith("made-up")]
    assert replies._held == 0


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
