"""The relay on real parts: what an outsider reads, and what a restart leaves."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine.outbox import Scribe
from tests.support.engine.real_relays import RealWorld, headers, numbers
from tidemill.outbox.ports import Published


def some_of_everything(scribe: Scribe, times: int = 1) -> Scribe:
    for _ in range(times):
        scribe.applied(20, correlation="c-1").rejected(3).applied(2, events=3).applied(events=0)
        scribe.parked(b"\x00junk", key=None, headers=[("h", None), ("h", b"\xff")])
    return scribe


@pytest.mark.parametrize("transactional", [True, False])
async def test_a_backlog_of_many_lanes_goes_out(world: RealWorld, transactional: bool) -> None:
    for scribe in world.scribes:
        await world.store(some_of_everything(scribe, times=20).batch())
    relays = await world.process(transactional=transactional)
    await world.claim(relays, *world.lanes)
    await world.sent(relays, *world.scribes)
    await world.check(*world.scribes)
    letters = await world.read(world.topics.dead_letters, 2)
    assert len(letters) == 20


async def test_an_outsider_finds_the_documented_headers(world: RealWorld) -> None:
    scribe = world.scribes[3]
    fields: dict[str, Any] = {"correlation": "order-1", "trace": "00-4bf9-00f0-01", "client_id": "mine-1"}
    written = scribe.applied(events=2, **fields).parked(b"\x00", key=None, headers=[("h", b"\xff")]).batch()
    await world.store(written)
    relays = await world.process()
    await world.claim(relays, scribe.lane)
    await world.sent(relays, scribe)
    command = written.outbox[0].command_id or ""
    _, event = await world.read(world.topics.events, 3)
    assert (event.key(), event.value(), event.partition()) == (b"AAPL", b"event 2", 3)
    assert headers(event) == {
        "ce_specversion": b"1.0",
        "ce_id": f"{command}:2".encode(),
        "ce_type": b"tidemill.market_data.MarketDataRecorded",
        "ce_source": b"/tidemill/market-data",
        "ce_time": b"2026-11-21T07:30:00.000250Z",
        "ce_subject": b"AAPL",
        "ce_correlationid": b"order-1",
        "ce_causationid": b"mine-1",
        "content-type": b"application/avro",
        "traceparent": b"00-4bf9-00f0-01",
        "tm_timeline": b"1",
        "tm_position": b"1",
        "tm_chain": str(written.outbox[1].chain).encode(),
        "tm_sequence": b"2",
    }
    applied, parked = await world.read(world.topics.outcomes, 3)
    assert headers(applied)["ce_id"] == b"market-data/3/1"
    assert headers(applied)["tm_sequence"] == b"2"
    assert "ce_causationid" not in headers(parked)
    (letter,) = await world.read(world.topics.dead_letters, 3)
    assert (letter.key(), letter.value()) == (None, b"\x00")
    assert next(iter(letter.headers() or [])) == ("h", b"\xff")
    assert headers(letter)["__connect.errors.exception.class.name"] == b"MALFORMED"
    assert headers(letter)["__connect.errors.offset"] == b"1"


async def test_a_lone_event_goes_out_at_a_call(world: RealWorld) -> None:
    scribe = world.scribes[0]
    relays = await world.process(housekeeping=False)
    await world.claim(relays, scribe.lane)
    for _ in range(5):
        await world.store(scribe.applied().batch())
        relays.wake([scribe.lane.id])
        await world.sent(relays, scribe)
    await world.check(scribe)


async def test_what_was_acknowledged_is_hinted(world: RealWorld) -> None:
    scribe = world.scribes[0]
    written = scribe.applied(3).rejected().batch()
    await world.store(written)
    relays = await world.process(housekeeping=False)
    await world.claim(relays, scribe.lane)
    await world.sent(relays, scribe)
    await relays.drop([scribe.lane.id])
    row = await world.pool.fetchrow(
        "select position, sequence, event_id from tm.published where lane = $1", scribe.lane.id
    )
    assert row is not None
    assert Published._make(row) == Published(4, 3, f"{written.outbox[2].command_id}:1")


@pytest.mark.parametrize("transactional", [True, False])
async def test_a_crash_between_acknowledgement_and_hint_doubles_nothing(
    world: RealWorld, transactional: bool
) -> None:
    for round_ in range(3):
        for scribe in world.scribes:
            await world.store(some_of_everything(scribe, times=5).batch())
        relays = await world.process(transactional=transactional, housekeeping=False)
        await world.claim(relays, *world.lanes, epoch=round_ + 1)
        await world.sent(relays, *world.scribes)
        await world.crash(relays)
    assert await world.pool.fetchval("select max(position) from tm.published") == 0
    await world.check(*world.scribes)


async def test_a_crash_in_the_middle_doubles_and_loses_nothing(world: RealWorld) -> None:
    for scribe in world.scribes:
        await world.store(some_of_everything(scribe, times=60).batch())
    for epoch in range(1, 6):
        relays = await world.process(housekeeping=epoch % 2 == 0)
        await world.claim(relays, *world.lanes, epoch=epoch)
        await world.crash(relays)  # somewhere in its backlog
    relays = await world.process()
    await world.claim(relays, *world.lanes, epoch=6)
    await world.sent(relays, *world.scribes)
    await world.check(*world.scribes)


async def test_empty_outcome_topics_are_legal(world: RealWorld) -> None:
    scribe = world.scribes[1]
    await world.store(some_of_everything(scribe).batch())
    relays = await world.process()
    await world.claim(relays, scribe.lane)
    await world.sent(relays, scribe)
    await relays.drop([scribe.lane.id])
    gone = scribe.position
    for topic in (world.topics.outcomes, world.topics.dead_letters):
        await world.kafka.trim(topic, 1, -1)
    await world.store(some_of_everything(scribe).batch())
    await world.claim(relays, scribe.lane, epoch=2)
    await world.sent(relays, scribe)
    outcomes = await world.read(world.topics.outcomes, 1)
    assert numbers(outcomes, "tm_position") == list(range(gone + 1, scribe.position + 1))
    events = await world.read(world.topics.events, 1)
    assert numbers(events, "tm_sequence") == list(range(1, scribe.sequence + 1))
    assert len(await world.read(world.topics.dead_letters, 1)) == 1


async def test_two_relays_of_one_lane_end_with_one(world: RealWorld) -> None:
    scribe = world.scribes[0]
    await world.store(some_of_everything(scribe, times=40).batch())
    first, second = await world.process(), await world.process()
    await world.claim(first, scribe.lane)
    await world.claim(second, scribe.lane, epoch=2)
    await world.store(some_of_everything(scribe, times=40).batch())
    second.wake([scribe.lane.id])
    first.wake([scribe.lane.id])
    await world.sent(second, scribe)
    await world.check(scribe)
    await first.drop([scribe.lane.id])
