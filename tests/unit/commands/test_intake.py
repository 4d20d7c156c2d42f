"""The intake on a broker and a database in memory: claims, hand-over, halts, faults, suspects, replies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.fakes.codecs import encode
from tests.fakes.kafka_ports import MemoryCommandSource
from tests.support.engine.commands import base
from tests.support.engine.intakes import STREAM, TOPIC, World
from tests.support.waiting import HANGING_S, eventually
from tidemill.commands import lane_lifecycle
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile
from tidemill.domain.context import DecideSpec
from tidemill.domain.errors import Unavailable
from tidemill.domain.lane import Anchor, Claim
from tidemill.domain.partitioner import partition_of
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord


@pytest.fixture
def world() -> World:
    return World()


async def test_what_arrives_is_applied_and_the_relay_is_woken(world: World) -> None:
    for number in range(25):
        world.send(f"p{number}")
    async with world.running() as intake:
        await world.until_logged(25)
        assert intake.health().ok
        assert intake.health().detail["lanes"] == 3
    assert world.logged() == [(b"a", None)] * 25
    assert set(world.follower.woken) == {1, 2, 3}
    assert sorted(world.follower.dropped) == [1, 2, 3]
    assert all(held.owner is None for held in world.store.lanes.values())


async def test_the_lanes_move_to_whoever_joins_and_nothing_is_applied_twice(world: World) -> None:
    async with world.running("one"):
        for number in range(10):
            world.send(f"a{number}")
        await world.until_logged(10)
        async with world.running("two"):
            for number in range(20):
                world.send(f"b{number}")
            await world.until_logged(30)
            owners = {held.owner for held in world.store.lanes.values()}
            assert owners == {"one", "two"}
        for number in range(10):
            world.send(f"c{number}")
        await world.until_logged(40)
    assert len(world.logged()) == 40
    assert len(world.store.tables.states["connector_profiles"]) == 40


async def test_a_database_that_goes_away_pauses_and_resumes_by_itself(world: World) -> None:
    async with world.running() as intake:
        world.store.away = True
        world.send("p1")
        await eventually(lambda: not intake.health().ok, what="trouble in the health")
        assert "database" in str(intake.health().detail["trouble"])
        world.store.away = False
        await world.until_logged(1)
        await eventually(lambda: intake.health().ok, what="health")
    assert world.logged() == [(b"a", None)]


async def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_repeated(world: World) -> None:
    world.store.lose_commits = 2
    for number in range(6):
        world.send(f"p{number}")
    async with world.running():
        await world.until_logged(6)
    assert world.logged() == [(b"a", None)] * 6
    assert world.store.lose_commits == 0


async def test_a_topic_that_was_created_anew_halts_its_lane_by_name(world: World) -> None:
    world.send("p1")
    async with world.running():
        await world.until_logged(1)
    partition = partition_of(b"p1", 3)
    held = world.store.lanes[partition + 1]
    held.progress = replace(held.progress, anchor=Anchor(0, 12345))
    async with world.running() as intake:
        await world.until_halted("TOPIC_CHANGED")
        await eventually(
            lambda: intake.health().detail == {"lanes": 2, "halted": 1, "claiming": 0}, what="counts"
        )


async def test_an_offset_that_retention_took_or_that_never_was_halts_the_lane(world: World) -> None:
    for number in range(30):
        world.send(f"p{number}")
    world.broker.trim(TOPIC, 0, 1)
    held = world.store.lanes[2]
    held.progress = replace(held.progress, next_offset=99)
    async with world.running():
        await eventually(lambda: len(world.store.halts) == 2, what="two halts")
    assert {lane: code for lane, (code, _) in world.store.halts.items()} == {
        1: "OFFSET_LOST",
        2: "OFFSET_AHEAD",
    }


async def test_a_batch_that_cannot_be_unpacked_halts_and_goes_on_behind_it_when_an_operator_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.commands.intake._HALT_WATCH_S", 0.02)
    world.send("p1")
    partition = partition_of(b"p1", 3)
    bad = world.broker.poison(TOPIC, partition)
    world.send("p1", command_id="again")
    async with world.running():
        await world.until_halted("UNFETCHABLE")
        await world.until_logged(1)
        held = world.store.lanes[partition + 1]
        held.progress = replace(held.progress, next_offset=bad + 1, anchor=None)
        world.store.halts.clear()
        await world.until_logged(2)
    assert [code for _, code in world.logged()] == [None, "ALREADY_EXISTS"]


async def test_a_lane_that_somebody_else_claims_is_dropped_and_claimed_again_if_nobody_works_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_lifecycle, "_RECLAIM_AFTER_S", 0.05)
    async with world.running():
        world.send("p1")
        await world.until_logged(1)
        await world.store.claim(STREAM.aggregate, [0, 1, 2], "an operator's verb")
        world.send("p1", command_id="again")
        await world.until_logged(2)
    assert {held.epoch for held in world.store.lanes.values()} >= {3}


async def test_a_record_that_ends_the_process_is_tried_alone_and_then_parked(world: World) -> None:
    """Claims without progress make a lane cautious; the record that two attempts did not survive is not touched."""
    world.send("p1")
    world.send("p1", command_id="next")
    held = world.store.lanes[partition_of(b"p1", 3) + 1]
    held.claimed_offset, held.claims_without_progress, held.attempt = 0, 4, (0, 2)
    async with world.running():
        await world.until_logged(2)
    assert world.logged() == [(b"p", "CRASHED"), (b"a", None)]
    assert world.store.tables.parked[0].key == b"p1"


async def test_an_isolated_record_is_not_blamed_for_a_database_that_is_away(world: World) -> None:
    """Trials count deaths: a batch that is tried again has ended nobody."""
    world.send("p1")
    held = world.store.lanes[partition_of(b"p1", 3) + 1]
    held.claimed_offset, held.claims_without_progress = 0, 4
    real, refusals = world.store.unit_of_work, 5

    def refusing() -> Any:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise Unavailable("database", "switched off by the test")
        return real()

    world.store.unit_of_work = refusing  # type: ignore[method-assign]
    async with world.running():
        await world.until_logged(1)
    assert refusals < 0
    assert world.logged() == [(b"a", None)]


async def test_a_lane_without_a_culprit_is_trusted_again(world: World) -> None:
    held = world.store.lanes[partition_of(b"p1", 3) + 1]
    held.claimed_offset, held.claims_without_progress = 0, 5
    for number in range(5):
        world.send("p1", command_id=str(number))
    async with world.running():
        await world.until_logged(5)
        before = world.store.transactions
        for number in range(8):
            world.send("p1", command_id=f"later {number}")
        await world.until_logged(13)
        assert world.store.transactions - before < 8
    assert [code for _, code in world.logged()] == [None] + ["ALREADY_EXISTS"] * 12


async def test_a_rule_that_raises_parks_its_record_and_nothing_else() -> None:
    (name,) = [full for full, spec in STREAM.commands.items() if spec.model is RegisterConnectorProfile]
    spec = STREAM.commands[name]
    assert isinstance(spec, DecideSpec)
    real_rule = spec.rule

    def broken(profile: Any, command: Any) -> Any:
        if command.profile_id == "bad":
            raise KeyError("a bug")
        return real_rule(profile, command)

    world = World(replace(STREAM, commands=dict(STREAM.commands) | {name: replace(spec, rule=broken)}))
    for key in ("bad", *(f"p{number}" for number in range(6))):
        world.send(key)
    async with world.running():
        await world.until_logged(7)
    assert sorted(world.logged()) == [(b"a", None)] * 6 + [(b"p", "CRASHED")]


async def test_replies_go_only_where_they_are_allowed(world: World) -> None:
    asks = [("kafka_replyTopic", b"replies.tests"), ("kafka_correlationId", b"\x01\x02")]
    world.send("p1", headers=[*asks, ("kafka_replyPartition", b"\x00\x00\x00\x07")])
    world.send("p2", headers=[("kafka_replyTopic", TOPIC.encode()), *asks[1:]])
    world.send("p3", headers=[("kafka_replyTopic", None), ("kafka_replyPartition", b"short")])
    async with world.running(reply_topics=re.compile(r"replies\..*")):
        await world.until_logged(3)
    (reply,) = world.answers.sent
    assert (reply.topic, reply.correlation, reply.partition) == ("replies.tests", b"\x01\x02", 7)
    assert reply.row.outcome == b"a"


async def test_a_registry_that_is_away_pauses(world: World) -> None:
    refusals = [Unavailable("registry", "switched off by the test")] * 3

    async def prepare(values: Sequence[bytes | None]) -> None:
        if refusals:
            raise refusals.pop()

    world.codec.prepare = prepare  # type: ignore[method-assign]
    world.send("p1")
    async with world.running():
        await world.until_logged(1)
    assert refusals == []


async def test_a_lane_with_two_batches_waiting_is_held_back_and_released(world: World) -> None:
    for number in range(120):
        world.send("p1", command_id=str(number))
    async with world.running():
        await world.until_logged(120)
    assert len(world.logged()) == 120


async def test_a_halt_that_somebody_else_records_stops_the_lane_until_it_is_cleared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidemill.commands.intake._HALT_WATCH_S", 0.02)
    lane = partition_of(b"p1", 3) + 1
    async with world.running() as intake:
        await eventually(lambda: intake.health().detail["lanes"] == 3, what="three lanes")
        world.store.halts[lane] = ("HISTORY_FORKED", "recorded by the relay")
        await eventually(lambda: intake.health().detail["halted"] == 1, what="a halted lane")
        world.send("p1")
        world.store.halts.clear()
        await world.until_logged(1)
        assert intake.health().detail["halted"] == 0


async def test_a_lane_that_the_relay_halts_at_its_claim_never_flows(world: World) -> None:
    async def take(claims: Sequence[Claim]) -> None:
        for claim in claims:
            if claim.lane.id == 1:
                await world.store.halt(claim, "HISTORY_BEHIND", "seen by the relay")

    world.follower.take = take  # type: ignore[method-assign]
    for number in range(12):
        world.send(f"p{number}")
    async with world.running() as intake:
        await eventually(lambda: intake.health().detail["lanes"] == 2, what="two lanes")
        await eventually(
            lambda: {row.lane for row in world.store.tables.log[1]} == {2, 3}, what="their records"
        )
    assert world.store.lanes[1].progress.batch == 0


async def test_a_position_that_retention_overtakes_halts_by_what_the_topic_has(world: World) -> None:
    async with world.running() as intake:
        await eventually(lambda: intake.health().detail["lanes"] == 3, what="three lanes")
        world.broker.mark(TOPIC, 0)
        world.broker.mark(TOPIC, 0)
        world.broker.trim(TOPIC, 0, 2)
        await world.until_halted("OFFSET_LOST")


async def test_lanes_are_given_back_when_the_database_is_away_too(world: World) -> None:
    async with world.running() as intake:
        await eventually(lambda: intake.health().detail["lanes"] == 3, what="three lanes")
        world.store.away = True
    assert sorted(world.follower.dropped) == [1, 2, 3]
    world.store.away = False
    assert {held.owner for held in world.store.lanes.values()} == {"one"}


async def test_a_batch_that_a_stop_leaves_is_said_and_the_next_owner_applies_it(world: World) -> None:
    with capture_logs() as lines:
        async with world.running() as intake:
            await eventually(lambda: intake.health().detail["lanes"] == 3, what="three lanes")
            world.store.away = True
            world.send("p1")
            await eventually(lambda: intake.health().detail.get("trouble"), what="a batch in flight")
    left = [(line["lanes"], line["records"]) for line in lines if line["event"] == "batch_left"]
    assert left == [([partition_of(b"p1", STREAM.partitions) + 1], 1)]
    world.store.away = False
    async with world.running("two"):
        await world.until_logged(1)
    assert world.logged() == [(b"a", None)]


async def test_a_database_that_was_set_back_under_a_running_intake_leaves_nothing_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a look at what was committed, the records between the backup and now would be skipped unseen."""
    monkeypatch.setattr(lane_lifecycle, "_RECLAIM_AFTER_S", 0.05)
    held = world.store.lanes[partition_of(b"p1", 3) + 1]
    async with world.running():
        for number in range(3):
            world.send("p1", command_id=str(number))
        await world.until_logged(3)
        held.progress, world.store.tables.log[1] = replace(held.progress, next_offset=1, batch=0), []
        world.send("p1", command_id="after the restore")
        await world.until_logged(3)
    assert [row.type for row in world.store.tables.log[1]] == [world.logged_type()] * 3


async def test_context_code_that_raises_parks_its_record_and_the_lane_goes_on(world: World) -> None:
    def key(command: Any) -> str:
        if command.profile_id == "bad":
            raise ZeroDivisionError
        return str(command.profile_id)

    world = World(replace(STREAM, key=key))
    partition = partition_of(b"bad", 3)
    value = encode(STREAM, RegisterConnectorProfile(**base(profile_id="bad", name="x", profile_data="{}")))
    world.broker.write(TOPIC, partition, OutboundRecord(b"bad", value, ()))
    world.broker.write(TOPIC, partition, OutboundRecord(b"k" * 5000, value, ()))
    world.send("p1")
    async with world.running():
        await world.until_logged(3)
    assert sorted(world.logged()) == [(b"a", None), (b"p", "CRASHED"), (b"p", "TOO_BIG")]
    assert [row.key for row in world.store.tables.outbox if row.code == "TOO_BIG"] == [None]


async def test_kafka_that_does_not_answer_at_a_claim_isolates_no_lane(world: World) -> None:
    world.broker.write(TOPIC, 0, OutboundRecord(b"k", b"garbage", ()))
    source = MemoryCommandSource(world.broker, topic=TOPIC, group="g")
    real, failures = source.bounds, [Unavailable("kafka", "no answer")] * 5

    async def bounds(partitions: frozenset[int]) -> Any:
        if failures:
            raise failures.pop()
        return await real(partitions)

    source.bounds = bounds  # type: ignore[method-assign]
    intake = world.intake()
    intake._source = intake._ownership._source = source
    await intake.start()
    running = asyncio.create_task(intake.run())
    await world.until_logged(1)
    assert {held.epoch for held in world.store.lanes.values()} == {1}
    await intake.stop()
    await running


@pytest.mark.parametrize("slow", ["", "relays", "a batch"])
async def test_a_stop_that_has_taken_long_leaves_the_group_in_a_hurry(
    world: World, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """A stop has one deadline for all: with no server answering, relays and source take theirs one behind the other."""
    monkeypatch.setattr("tidemill.commands.intake._RELEASE_FIRST_S", 0.05 if slow else HANGING_S)
    intake, hurries, left = world.intake(), [], asyncio.Event()
    let_go = intake._ownership.release_all

    async def letting_go() -> None:
        if slow == "relays":
            await left.wait()
        await let_go()

    async def close(*, hurried: bool) -> None:
        hurries.append(hurried)
        left.set()

    monkeypatch.setattr(intake._ownership, "release_all", letting_go)
    monkeypatch.setattr(intake._source, "close", close)
    await intake.start()
    running = asyncio.create_task(intake.run())
    if slow == "a batch":
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(0.06, over.set)
        batch = asyncio.create_task(over.wait())
        intake._running.add(batch)  # type: ignore[arg-type]  # a batch returns nothing
        batch.add_done_callback(intake._running.discard)
    await intake.stop()
    await running
    assert hurries == [bool(slow)]
