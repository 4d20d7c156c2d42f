"""Who is suspected of a transaction that hangs, and when it is ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import TopicPartition

from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.client.lookup import Lookup
from tidemill.transport.kafka.outbox import tail
from tidemill.transport.kafka.outbox.hanging_transactions import HangingWatch

QUIET = TopicPartition("quiet", 0)
BUSY = TopicPartition("busy", 0)


class Publisher:
    def __init__(self, *partitions: TopicPartition) -> None:
        self.partitions = partitions
        self.publications = 0
        self.idle = True
        self.settled: list[set[TopicPartition]] = []

    async def settle(self, hidden: Collection[TopicPartition], publications: int) -> None:
        assert publications == self.publications
        self.settled.append(set(hidden))


class Tails:
    """`answers`: what is hidden at each look; the last one stays true."""

    def __init__(self, *answers: set[TopicPartition] | Exception) -> None:
        self.answers = list(answers)
        self.looks = 0
        self.asked: set[TopicPartition] = set()
        self.before_look: Any = lambda: None

    async def hidden(self, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
        self.before_look()
        self.looks += 1
        self.asked = set(partitions)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def looked(tails: Tails, *publishers: Publisher, times: int = 4) -> None:
    """Let the watch look `times` times."""
    watch = HangingWatch(tails, every_s=0.001)  # type: ignore[arg-type]  # it asks no more of it
    for publisher in publishers:
        watch.add(publisher)
    await eventually(lambda: tails.looks >= times, what="looks")
    await watch.close()


async def test_what_stays_hidden_is_ended_for_the_publisher_it_belongs_to() -> None:
    quiet, other = Publisher(QUIET, TopicPartition("quiet", 1)), Publisher(BUSY)
    await looked(Tails({QUIET}), quiet, other, times=3)
    assert quiet.settled[0] == {QUIET}
    assert other.settled == []


async def test_a_single_look_proves_nothing() -> None:
    publisher = Publisher(QUIET)
    await looked(Tails({QUIET}, set(), {QUIET}, set()), publisher)
    assert publisher.settled == []


async def test_a_publisher_that_goes_on_is_not_disturbed() -> None:
    publisher, tails = Publisher(BUSY), Tails({BUSY})

    def publish() -> None:
        publisher.publications += 1

    tails.before_look = publish
    await looked(tails, publisher)
    assert publisher.settled == []


async def test_a_publisher_is_looked_at_until_nothing_is_hidden_and_again_after_its_next_publication() -> (
    None
):
    one, other, tails = Publisher(QUIET), Publisher(BUSY), Tails(set[TopicPartition]())
    watch = HangingWatch(tails, every_s=1_000)  # type: ignore[arg-type]  # it asks no more of it
    watch.add(one)
    watch.add(other)
    await watch._look()
    assert tails.asked == {QUIET, BUSY}
    await watch._look()
    assert tails.looks == 1
    one.publications += 1
    await watch._look()
    assert (tails.looks, tails.asked) == (2, {QUIET})
    await watch.close()


async def test_a_publication_in_flight_proves_nothing() -> None:
    publisher, tails = Publisher(QUIET), Tails(set[TopicPartition]())
    watch = HangingWatch(tails, every_s=1_000)  # type: ignore[arg-type]  # it asks no more of it
    watch.add(publisher)
    publisher.idle = False  # its records are not in the topic yet, so nothing is hidden
    await watch._look()
    publisher.idle = True
    await watch._look()
    assert tails.looks == 2
    await watch.close()


async def test_all_publishers_are_looked_at_now_and_then_and_after_an_outage() -> None:
    nothing, away = set[TopicPartition](), Unavailable("kafka", "away by the test")
    publisher, tails = Publisher(QUIET), Tails(nothing, away, nothing)
    watch = HangingWatch(tails, every_s=1_000)  # type: ignore[arg-type]  # it asks no more of it
    watch.add(publisher)
    for _ in range(12):
        await watch._look_if_there()
    assert tails.looks == 2  # the first, and the twelfth, during the outage
    await watch._look_if_there()
    assert tails.looks == 3
    await watch.close()


async def test_a_broker_that_is_away_is_asked_again() -> None:
    publisher = Publisher(QUIET)
    away = Unavailable("kafka", "away by the test")
    await looked(Tails({QUIET}, away, {QUIET}, away, {QUIET}), publisher, times=6)
    assert publisher.settled


async def test_the_watch_ends_with_the_last_publisher() -> None:
    publisher, tails = Publisher(QUIET), Tails(set[TopicPartition]())
    before = asyncio.all_tasks()
    watch = HangingWatch(tails, every_s=0.001)  # type: ignore[arg-type]  # it asks no more of it
    watch.add(publisher)
    await eventually(lambda: tails.looks, what="a look")
    watch.discard(publisher)
    await eventually(lambda: asyncio.all_tasks() <= before, what="the end of the watch")
    watch.add(publisher)
    seen = tails.looks
    await eventually(lambda: tails.looks > seen, what="another look")
    await watch.close()


async def test_a_partition_without_a_leader_blinds_the_watch_for_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One broker of three is gone, and a transaction hangs on another."""
    lost = {BUSY}
    questions: list[set[TopicPartition]] = []

    @asynccontextmanager
    async def asking(_: Lookup, doing: str) -> AsyncIterator[str]:
        yield doing

    async def leaderless(_: Any, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
        return lost.intersection(partitions)

    async def hidden_in(_: Any, __: Any, partitions: Collection[TopicPartition]) -> tuple[Any, Any]:
        questions.append(set(partitions))
        return {QUIET}.intersection(partitions), {}

    monkeypatch.setattr(Lookup, "asking", asking)
    monkeypatch.setattr(tail, "leaderless", leaderless)
    monkeypatch.setattr(tail, "hidden_in", hidden_in)
    reader = tail.TailReader(KafkaConnection(bootstrap="127.0.0.1:1"))
    assert await reader.hidden([QUIET, BUSY]) == {QUIET}
    lost.add(QUIET)
    assert await reader.hidden([QUIET, BUSY]) == set()
    assert questions == [{QUIET}], "what has no leader is not asked about"


@pytest.mark.parametrize("closings", [1, 2])
async def test_a_watch_that_never_began_can_be_closed(closings: int) -> None:
    watch = HangingWatch(Tails(set[TopicPartition]()))  # type: ignore[arg-type]  # it asks no more of it
    for _ in range(closings):
        await watch.close()
