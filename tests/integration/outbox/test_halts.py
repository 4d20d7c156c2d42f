"""Contradictions between real topics and a real database halt their lane, and no other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from tests.support.engine.kafka import MAX_EVENT_BYTES
from tests.support.engine.outbox import Scribe
from tests.support.engine.real_relays import SETTINGS, RealWorld, headers, numbers
from tests.support.waiting import eventually
from tidemill.domain.errors import Unavailable
from tidemill.outbox.lanes import LaneRelays
from tidemill.outbox.ports import Publishers
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord


async def published(world: RealWorld, count: int, *, hinted: bool = True) -> tuple[Scribe, LaneRelays]:
    """Publish that many events of the first lane, and let go of it."""
    scribe = world.scribes[0]
    await world.store(*(scribe.applied().batch() for _ in range(count)))
    relays = await world.process(housekeeping=hinted)
    await world.claim(relays, scribe.lane)
    await world.sent(relays, scribe)
    await (relays.drop([scribe.lane.id]) if hinted else world.crash(relays))
    return scribe, relays


async def set_back(world: RealWorld, scribe: Scribe, position: int) -> Scribe:
    """Restore the database to the moment when `position` was its newest; return who writes there."""
    lane = scribe.lane.id
    for table in ("outbox", "batch"):
        await world.pool.execute(f"delete from tm.{table} where lane = $1 and position > $2", lane, position)
    await world.pool.execute(
        "update tm.published set position = 0, sequence = 0, event_id = null where lane = $1", lane
    )
    return Scribe(scribe.lane, position=position, sequence=position, number=position)


async def test_a_restored_database_is_noticed(world: RealWorld) -> None:
    scribe, relays = await published(world, 8)
    await set_back(world, scribe, 5)
    await world.claim(relays, scribe.lane, epoch=2)
    code, detail = await world.halted(scribe.lane)
    assert code == "HISTORY_BEHIND"
    assert detail == f"{world.topics.events}/0 ends with event 8, the log with 5"
    assert len(await world.read(world.topics.events, 0)) == 8


async def test_a_restored_database_that_went_on_is_noticed(world: RealWorld) -> None:
    scribe, relays = await published(world, 8)
    other = await set_back(world, scribe, 5)
    await world.store(*(other.applied().batch() for _ in range(6)))
    await world.claim(relays, scribe.lane, epoch=2)
    code, detail = await world.halted(scribe.lane)
    assert code == "HISTORY_FORKED"
    assert "event 8 at position 8 is" in detail


async def test_a_reconciled_history_goes_on_behind_the_topics(world: RealWorld) -> None:
    scribe, relays = await published(world, 8)
    other = await set_back(world, scribe, 5)
    await world.store(*(other.applied().batch() for _ in range(6)))
    lane = scribe.lane
    await world.claim(relays, lane, epoch=2)
    assert (await world.halted(lane))[0] == "HISTORY_FORKED"
    done = await world.reconcile(scribe.lane, "restored from last night")
    assert (done.withdrawn, done.lost) == (3, 0)
    epoch = await world.pool.fetchval("select epoch from tm.lane where lane = $1", lane.id)
    await world.claim(relays, lane, epoch=epoch)
    await eventually(lambda: relays.states()[lane.id][1].position == done.position, what="all sent")
    events = await world.read(world.topics.events, 0)
    assert numbers(events, "tm_sequence") == list(range(1, done.sequence + 1))
    assert numbers(events, "tm_timeline") == [1] * 8 + [2] * (done.sequence - 8)


async def test_a_database_set_back_under_a_running_relay_is_noticed(world: RealWorld) -> None:
    scribe = world.scribes[0]
    await world.store(*(scribe.applied().batch() for _ in range(8)))
    relays = await world.process()
    await world.claim(relays, scribe.lane)
    await world.sent(relays, scribe)
    other = await set_back(world, scribe, 5)
    await world.store(*(other.applied().batch() for _ in range(6)))
    relays.wake([scribe.lane.id])
    code, detail = await world.halted(scribe.lane, relays)
    assert code == "HISTORY_FORKED"
    assert detail.startswith("position 9 does not continue position 8")
    assert len(await world.read(world.topics.events, 0)) == 8


async def test_an_event_that_was_altered_is_noticed(world: RealWorld) -> None:
    scribe, relays = await published(world, 4, hinted=False)
    await world.pool.execute(
        "update tm.outbox set command_id = gen_random_uuid() where lane = $1 and position = 4",
        scribe.lane.id,
    )
    await world.claim(relays, scribe.lane, epoch=2)
    assert (await world.halted(scribe.lane))[0] == "HISTORY_FORKED"


async def test_an_event_topic_that_was_emptied_is_noticed(world: RealWorld) -> None:
    scribe, relays = await published(world, 4)
    await world.kafka.trim(world.topics.events, 0, -1)
    await world.claim(relays, scribe.lane, epoch=2)
    code, detail = await world.halted(scribe.lane)
    assert code == "TOPIC_BEHIND"
    assert detail == f"{world.topics.events}/0 acknowledged event 4 and now ends with 0"


async def test_an_event_topic_that_is_created_again_halts_the_lanes_that_do_not_publish(
    world: RealWorld,
) -> None:
    scribe = world.scribes[0]
    await world.store(*(scribe.applied().batch() for _ in range(4)))
    publishers = world.kafka.publishers()
    relays = await world.process(settings=replace(SETTINGS, ends_every_s=0.1), publishers=publishers)
    await world.claim(relays, *world.lanes)
    await world.sent(relays, scribe)
    await published_for_all(world, scribe)
    await eventually(partial(noted, publishers, scribe), what="the end to be noted", retry_on=(Unavailable,))
    await world.kafka.create_again(world.topics.events)
    code, detail = await world.halted(scribe.lane, relays)
    assert code == "TOPIC_BEHIND"
    assert detail == f"{world.topics.events}/0 acknowledged event 4 and now ends with 0"
    done = await world.reconcile(scribe.lane, "the topic was re-created")
    assert (done.withdrawn, done.lost) == (0, 0)


async def published_for_all(world: RealWorld, scribe: Scribe) -> None:
    """Wait until the database says so too, and readers see it: both come behind the acknowledgement.

    A topic that is created again before has lost nothing that anybody knew of, and no lane halts.
    """

    async def hinted() -> bool:
        query = "select position from tm.published where lane = $1"
        return bool(await world.pool.fetchval(query, scribe.lane.id) == scribe.position)

    async def shown() -> bool:
        return len(await world.read(world.topics.events, scribe.lane.partition)) == scribe.sequence

    await eventually(hinted, what="the stored hint")
    await eventually(shown, what="events that readers see")


async def noted(publishers: Publishers, scribe: Scribe) -> bool:
    """Whether the publishers know where the lane's topics end now."""
    return await publishers.shortened([scribe.lane]) == frozenset()


async def test_somebody_elses_record_is_noticed(world: RealWorld) -> None:
    scribe, relays = await published(world, 4)
    await world.kafka.write(world.topics.events, 0, OutboundRecord(b"k", b"v", [("who", b"me")]))
    await world.claim(relays, scribe.lane, epoch=2)
    code, detail = await world.halted(scribe.lane)
    assert code == "FOREIGN_TAIL"
    assert f"{world.topics.events}/0 offset" in detail


async def test_a_deleted_row_halts_its_lane_until_it_is_back(world: RealWorld) -> None:
    scribe, other = world.scribes[:2]
    await world.store(scribe.applied(600).batch(), other.applied(600).batch())
    lost = await world.pool.fetchrow(
        "delete from tm.outbox where lane = $1 and position = 450 returning *", scribe.lane.id
    )
    assert lost is not None
    relays = await world.process()
    await world.claim(relays, scribe.lane, other.lane)
    code, detail = await world.halted(scribe.lane, relays)
    assert code == "OUTBOX_GAP"
    assert detail.startswith("expected position 450 with event 450")
    await world.sent(relays, other)
    await world.check(other)
    columns = ", ".join(lost.keys())
    places = ", ".join(f"${number}" for number in range(1, len(lost) + 1))
    await world.pool.execute(f"insert into tm.outbox ({columns}) values ({places})", *lost.values())
    await world.lift(scribe.lane)
    await world.sent(relays, scribe)
    await world.check(scribe)


async def test_an_event_that_kafka_refuses_halts_its_lane_and_no_other(world: RealWorld) -> None:
    scribe, other = world.scribes[:2]
    scribe.applied(120).applied(payload=b"x" * (MAX_EVENT_BYTES + 100_000)).applied(50)
    await world.store(scribe.batch(), other.applied(300).batch())
    relays = await world.process()
    await world.claim(relays, scribe.lane, other.lane)
    code, detail = await world.halted(scribe.lane, relays)
    assert code == "EVENT_REFUSED"
    assert detail.startswith("position 121, largest record about 300")
    assert f"for {world.topics.events}:" in detail
    await world.sent(relays, other)
    await world.check(other)
    assert numbers(await world.read(world.topics.events, 0), "tm_sequence") == list(range(1, 121))
    assert numbers(await world.read(world.topics.outcomes, 0), "tm_position") == list(range(1, 121))


@pytest.mark.parametrize("known", [True, False], ids=["the limit is known", "the limit is learned"])
async def test_a_dead_letter_that_kafka_would_refuse_goes_out_without_its_value(
    world: RealWorld, known: bool
) -> None:
    scribe = world.scribes[0]
    large, many = b"x" * (MAX_EVENT_BYTES + 100_000), [("own", b"h" * MAX_EVENT_BYTES)]
    scribe.applied(30).parked(large, headers=[("own", b"1")]).applied(30).parked(b"x", headers=many)
    await world.store(scribe.applied(5).parked(b"small").batch())
    settings = replace(SETTINGS, max_letter_bytes=MAX_EVENT_BYTES - 1000) if known else SETTINGS
    relays = await world.process(settings=settings)
    await world.claim(relays, scribe.lane)
    await world.sent(relays, scribe)
    await world.check(scribe)
    assert await world.pool.fetchval("select count(*) from tm.halt") == 0
    without_value, bare, whole = await world.read(world.topics.dead_letters, 0)
    assert (without_value.key(), without_value.value()) == (b"AAPL", None)
    told = headers(without_value)
    assert (told["own"], told["tm_value"], told["tm_value_bytes"]) == (b"1", b"omitted", b"300000")
    assert told["tm_kept"] == f"tidemill dead-letters show {scribe.lane.name} 31".encode()
    assert (bare.key(), bare.value(), headers(bare)["tm_headers"]) == (None, None, b"omitted")
    assert whole.value() == b"small"
    kept = await OutboxDatabase(world.pool).parked(scribe.lane.id, [31], 8 << 20)
    assert kept[31].value == large


async def test_an_emptied_event_topic_goes_on_with_the_numbers_it_had(world: RealWorld) -> None:
    scribe, relays = await published(world, 4)
    lane = scribe.lane
    await world.kafka.trim(world.topics.events, 0, -1)
    await world.pool.execute("delete from tm.outbox where lane = $1 and position <= 2", lane.id)
    await world.claim(relays, lane, epoch=2)
    assert (await world.halted(lane))[0] == "TOPIC_BEHIND"
    done = await world.reconcile(scribe.lane, "retention was set by mistake")
    assert (done.sequence, done.again, done.withdrawn, done.lost) == (4, 2, 0, 2)
    epoch = await world.pool.fetchval("select epoch from tm.lane where lane = $1", lane.id)
    await world.claim(relays, lane, epoch=epoch)
    await eventually(lambda: relays.states()[lane.id][1].position == 4, what="what the outbox still had")
    events = await world.read(world.topics.events, 0)
    assert numbers(events, "tm_sequence") == [3, 4]
