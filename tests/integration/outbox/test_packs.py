"""Packs on real servers: a subscriber reads the same records as of an outbox in rows, whatever happens to its lane.

Each test does the same to two deployments, one of which writes rows and the other packs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.support.engine.kafka import KafkaWorld, unhurried
from tests.support.engine.outbox import Scribe, Written
from tests.support.engine.real_relays import RealWorld
from tests.support.engine.streams import MARKET_DATA, messages_of
from tests.support.engine.twins import Twin, Twins
from tests.support.seeds import sample
from tidemill.runtime.clock import SystemClock
from tidemill.storage.admin.outbox_form import OutboxFormDatabase
from tidemill.storage.database.pool import close_pool, create_pool
from tidemill.transport.avro.outcome import AvroOutcomeCodec
from tidemill_devkit.stack import Stack

NewDatabase = Callable[[], AbstractContextManager[str]]


@asynccontextmanager
async def real_world(database: str, stack: Stack, name: str) -> AsyncIterator[RealWorld]:
    outcomes = await AvroOutcomeCodec.open(MARKET_DATA.topics, messages_of("outcome"), clock=SystemClock())
    pool = await create_pool(database, application_name="tidemill-tests", size=6)
    kafka = KafkaWorld(unhurried(stack.kafka_bootstrap), name, 1)
    await kafka.open()
    made = RealWorld(pool, kafka, outcomes)
    await made.open()
    yield made
    await made.close()
    await kafka.close()
    await close_pool(pool)


@pytest.fixture
async def twins(
    stack: Stack, new_database: NewDatabase, unique_name: Callable[[str], str]
) -> AsyncIterator[Twins]:
    async with AsyncExitStack() as opened:
        worlds = [
            await opened.enter_async_context(
                real_world(opened.enter_context(new_database()), stack, unique_name(name))
            )
            for name in ("rows", "packs")
        ]
        in_rows, in_packs = worlds
        assert in_rows.lanes[0].id == in_packs.lanes[0].id
        await OutboxFormDatabase(in_packs.pool).use(packs=True)
        yield Twins(Twin(in_rows, packs=False), Twin(in_packs, packs=True), Scribe(in_rows.lanes[0]))


def some_of_everything(scribe: Scribe) -> Scribe:
    """Add 12 commands with 13 events, of every outcome."""
    shared: dict[str, Any] = {"correlation": "c-1", "trace": "00-4bf9-00f0-01"}
    scribe.applied(2, **shared).applied(events=3).rejected().applied(rows=40).applied(events=0)
    scribe.parked(b"\x00junk", key=None, headers=[("h", None), ("h", b"\xff")])
    scribe.applied(2, key=b"MSFT", client_id="mine").applied(events=4).applied(record_offset=900)
    return scribe.rejected(key=b"k" * 300)


def many(times: int, scribe: Scribe) -> Scribe:
    """Add that so many times."""
    for _ in range(times):
        some_of_everything(scribe)
    return scribe


def begin_as(scribe: Scribe, written: Written, count: int) -> Scribe:
    """Add the first commands of a batch again: after a restore they are read anew."""
    places = range(scribe.position + 1, scribe.position + count + 1)
    scribe._outbox += [row for row in written.outbox if row.position in places]
    scribe._parked += [row for row in written.parked if row.position in places]
    last = scribe._outbox[-1]
    scribe.position, scribe.sequence, scribe.chained = last.position, last.sequence, last.chain
    return scribe


async def forked_within_a_pack(twins: Twins, common: int) -> None:
    """Send a history, then restore both databases and write another, with so many of its last batch in common."""
    await twins.write(some_of_everything(twins.scribe))
    before = twins.scribe.fork()
    written = await twins.write(many(2, twins.scribe))
    await twins.send()
    await twins.restore(before)
    restored = begin_as(before, written, common)
    await twins.write(many(3, restored))
    await twins.halted("HISTORY_FORKED")


async def test_a_subscriber_reads_the_same_records(twins: Twins) -> None:
    for _ in range(3):
        await twins.write(some_of_everything(twins.scribe))
    await twins.send()
    read = await twins.check()
    assert (len(read["events"]), len(read["outcomes"]), len(read["letters"])) == (39, 36, 3)


async def test_a_relay_continues_in_the_middle_of_a_pack(twins: Twins) -> None:
    before = twins.scribe.fork()
    written = await twins.write(some_of_everything(twins.scribe))
    await twins.send()
    await twins.restore(before)
    await twins.write(some_of_everything(begin_as(before, written, 12)))
    await twins.send()
    read = await twins.check()
    assert len(read["outcomes"]) == 24


async def test_topics_that_lost_their_end_are_sent_it_again_from_the_middle_of_a_pack(twins: Twins) -> None:
    await twins.write(some_of_everything(twins.scribe))
    await twins.write(many(2, twins.scribe))
    await twins.send()
    await twins.hint()
    await twins.truncate(events=20, outcomes=18, letters=1)
    await twins.halted("TOPIC_BEHIND")
    done = await twins.reconcile()
    assert (done.moved, done.withdrawn, done.lost) == (False, 0, 0)
    await twins.write(some_of_everything(twins.scribe))
    await twins.send()
    read = await twins.check()
    assert len(read["events"]) == twins.scribe.sequence
    assert len(read["letters"]) == 4


async def test_topics_that_were_created_again_are_filled_from_packs(twins: Twins) -> None:
    await twins.write(some_of_everything(twins.scribe))
    await twins.write(some_of_everything(twins.scribe))
    await twins.send()
    await twins.hint()
    await twins.truncate(events=0, outcomes=0, letters=0)
    await twins.halted("TOPIC_BEHIND")
    done = await twins.reconcile()
    assert (done.moved, done.withdrawn, done.lost) == (False, 0, 0)
    await twins.send()
    read = await twins.check()
    assert [dict(headers)["tm_timeline"] for _, _, headers in read["events"]] == [b"2"] * 26


@pytest.mark.parametrize(("common", "events"), [(4, 5), (7, 6), (9, 8)])
async def test_a_history_that_forked_within_a_pack_is_continued(
    twins: Twins, common: int, events: int
) -> None:
    await forked_within_a_pack(twins, common)
    done = await twins.reconcile()
    assert done.moved
    assert done.withdrawn == 26 - events
    await twins.write(some_of_everything(twins.scribe))
    await twins.send()
    read = await twins.check()
    last = dict(read["events"][-1][2])
    assert last["tm_timeline"] == b"2"
    assert last["tm_withdrawn"]
    assert (len(read["events"]), len(read["outcomes"])) == (twins.scribe.sequence, twins.scribe.position)


@pytest.mark.parametrize("kept", sample([1, 5, 9], 1))
async def test_what_was_moved_can_lose_its_end_in_the_topics(twins: Twins, kept: int) -> None:
    """The common history ends within a pack that an earlier reconciliation has split and moved."""
    await forked_within_a_pack(twins, 9)
    first = await twins.reconcile()
    await twins.send()
    await twins.hint()
    read = await twins.check()
    events = first.sequence - 13 + kept
    place = int(dict(read["events"][events - 1][2])["tm_position"])
    await twins.truncate(events=events, outcomes=place, letters=len(read["letters"]))
    await twins.halted("TOPIC_BEHIND")
    done = await twins.reconcile()
    assert (done.withdrawn, done.lost, done.moved) == (0, 0, False)
    await twins.write(some_of_everything(twins.scribe))
    await twins.send()
    read = await twins.check()
    assert len(read["events"]) == twins.scribe.sequence


async def test_a_history_forks_again_within_what_was_moved(twins: Twins) -> None:
    await forked_within_a_pack(twins, 9)
    await twins.reconcile()
    before = twins.scribe.fork()
    written = await twins.write(some_of_everything(twins.scribe))
    await twins.send()
    await twins.restore(before)
    await twins.write(many(2, begin_as(before, written, 5)))
    await twins.halted("HISTORY_FORKED")
    done = await twins.reconcile()
    assert done.moved
    assert done.withdrawn == 13 - 6, "what both have had been moved before, and is kept"
    await twins.write(some_of_everything(twins.scribe))
    await twins.send()
    read = await twins.check()
    assert (len(read["events"]), len(read["outcomes"])) == (twins.scribe.sequence, twins.scribe.position)
