"""A lane's relay sends packs as they are, and what it cannot send so, as their rows: byte for byte the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from tests.fakes.publishers import WatchedPublishers, number
from tests.support.engine.outbox import Scribe, Written
from tests.support.engine.packs import OUTCOMES, PACKS
from tests.support.engine.relays import LANE, World
from tests.support.waiting import eventually
from tidemill.domain.identity import event_id
from tidemill.outbox.pack import Pack
from tidemill.outbox.ports import Fork, LaneEnd, Published, Slab
from tidemill.runtime.telemetry.metrics import REGISTRY

EVENTS, RESULTS, LETTERS = LANE.topics.events, LANE.topics.outcomes, LANE.topics.dead_letters
TOPICS = (EVENTS, RESULTS, LETTERS)
Copy = list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(outcomes=OUTCOMES)
    work = asyncio.create_task(made.relays.run())
    yield made
    await made.relays.stop()
    await work
    assert made.topics.open == 0, "a publisher was left open"


def batches_of(scribe: Scribe) -> list[Written]:
    """Return batches with some of everything."""
    return [
        scribe.applied(5).rejected(2).applied(2, events=4).batch(),
        scribe.parked(headers=[("h", None)]).applied(3, events=0).batch(),
        scribe.applied(12, correlation="c").parked(None).batch(),
        scribe.rejected(2).batch(),
        scribe.applied().batch(),
    ]


def copy_of(world: World) -> list[Copy]:
    """Return what subscribers find in the three topics."""
    return [[(each.key, each.value, each.headers) for each in world.topics.log(topic)] for topic in TOPICS]


async def from_rows(*batches: Written) -> list[Copy]:
    """Return what the topics hold if the outbox is written in rows."""
    plain = World(outcomes=OUTCOMES)
    plain.outbox.store(*batches)
    await plain.take(LANE)
    await plain.published(batches[-1].ledger.position)
    await plain.relays.stop()
    return copy_of(plain)


def slabs(world: World, topic: str = RESULTS) -> list[list[bool]]:
    """Return of each publication with records for `topic` which of them were slabs."""
    found = [batches[topic] for batches in world.topics.publications if topic in batches]
    return [[isinstance(each, Slab) for each in records] for records in found]


def packs_of(world: World) -> list[Pack]:
    return [pack for _, pack in world.outbox.packs[LANE.id]]


def replace_pack(world: World, at: int, pack: Pack) -> None:
    gen, _ = world.outbox.packs[LANE.id][at]
    world.outbox.packs[LANE.id][at] = (gen, pack)


# --- the way it should be ---


async def test_packs_bring_what_rows_bring(world: World) -> None:
    batches = batches_of(Scribe(LANE))
    world.outbox.store(*batches, packs=PACKS)
    await world.take(LANE)
    await world.published(batches[-1].ledger.position)
    assert copy_of(world) == await from_rows(*batches)
    assert all(all(each) for each in slabs(world)), "none of them was unpacked"
    assert world.topics.starts == {1: 1}


async def test_small_packs_go_out_together_up_to_the_limit_of_positions(world: World) -> None:
    scribe = Scribe(LANE)
    batches = [scribe.applied(3).batch() for _ in range(7)]
    world.outbox.store(*batches, packs=PACKS)
    await world.take(LANE)
    await world.published(21)
    assert [len(each) for each in slabs(world)] == [3, 3, 1], "nine of ten positions at once"
    assert copy_of(world) == await from_rows(*batches)


async def test_a_pack_above_the_limit_of_positions_goes_out_as_it_is(world: World) -> None:
    scribe = Scribe(LANE)
    batches = [scribe.applied(35).batch(), scribe.applied(2).batch()]
    world.outbox.store(*batches, packs=PACKS)
    await world.take(LANE)
    await world.published(37)
    assert slabs(world) == [[True], [True]]
    assert copy_of(world) == await from_rows(*batches)


async def test_rows_and_packs_alternate(world: World) -> None:
    batches = batches_of(Scribe(LANE))
    for at, batch in enumerate(batches):
        world.outbox.store(batch, packs=PACKS if at % 2 else None)
    await world.take(LANE)
    await world.published(batches[-1].ledger.position)
    assert copy_of(world) == await from_rows(*batches)
    assert {each[0] for each in slabs(world)} == {True, False}
    assert world.topics.starts == {1: 1}


async def test_what_is_committed_later_goes_out_at_a_call(world: World) -> None:
    scribe, batches = Scribe(LANE), list[Written]()
    await world.take(LANE)
    for _ in range(5):
        batches.append(scribe.applied(2).rejected().batch())
        world.outbox.store(batches[-1], packs=PACKS)
        world.relays.wake([LANE.id])
        await world.published(scribe.position)
    assert copy_of(world) == await from_rows(*batches)


async def test_the_hint_names_the_last_event(world: World) -> None:
    scribe = Scribe(LANE)
    first, second = scribe.applied(3).batch(), scribe.rejected(2).batch()
    world.outbox.store(first, second, packs=PACKS)
    await world.take(LANE)
    expected = Published(5, 3, event_id(first.outbox[2].command_id or "", 1))
    await eventually(lambda: world.outbox.hints.get(LANE.id) == expected, what="the hint")


async def test_records_are_counted_and_not_packs(world: World) -> None:
    def counted(role: str) -> float:
        labels = {"aggregate": LANE.aggregate, "topic": role}
        names = [each for metric in REGISTRY.collect() for each in metric.samples if "published" in each.name]
        return sum(
            each.value
            for each in names
            if each.name.endswith("_total") and set(labels.values()) <= set(each.labels.values())
        )

    roles = ("events", "outcomes", "dead-letters")
    before = [counted(role) for role in roles]
    world.outbox.store(Scribe(LANE).applied(4, events=2).rejected(3).parked().batch(), packs=PACKS)
    await world.take(LANE)
    await eventually(lambda: LANE.id in world.outbox.hints, what="the hint")
    assert [counted(role) - was for role, was in zip(roles, before, strict=True)] == [8, 8, 1]


# --- a broker that fails ---


@pytest.mark.parametrize("fault", ["lost", "unheard", "hanging"])
async def test_a_failed_publication_neither_loses_nor_doubles(
    world: World, fault: Literal["lost", "unheard", "hanging"]
) -> None:
    batches = batches_of(Scribe(LANE))
    world.outbox.store(*batches, packs=PACKS)
    world.topics.broker.faults.extend([fault] * 3)
    await world.take(LANE)
    await world.published(batches[-1].ledger.position)
    assert copy_of(world) == await from_rows(*batches)


async def test_what_arrived_in_one_topic_only_is_completed_in_the_others() -> None:
    world = World(topics=WatchedPublishers(transactional=False), outcomes=OUTCOMES)
    batches = batches_of(Scribe(LANE))
    world.outbox.store(*batches, packs=PACKS)
    world.topics.torn = 3
    await world.take(LANE)
    await world.published(batches[-1].ledger.position)
    assert copy_of(world) == await from_rows(*batches)
    await world.relays.stop()


@pytest.mark.parametrize(
    "sent", [(1, 0, 0), (4, 0, 0), (5, 0, 0), (5, 3, 0), (9, 8, 1), (16, 9, 0), (13, 4, 0)]
)
async def test_it_resumes_in_the_middle_of_a_pack(sent: tuple[int, int, int]) -> None:
    """An idempotent publisher may leave any part of the topics: so many events, outcomes and dead letters."""
    world = World(topics=WatchedPublishers(transactional=False), outcomes=OUTCOMES)
    scribe = Scribe(LANE)
    batches = [
        scribe.applied(2).rejected().parked().applied(3, events=4).applied(events=0).batch(),
        scribe.applied(2).parked().batch(),
    ]
    whole = await from_rows(*batches)
    world.topics.of(LANE)
    for topic, records, count in zip(TOPICS, whole, sent, strict=True):
        log = world.topics.broker.log(topic, LANE.partition)
        for key, value, headers in records[:count]:
            log.append(_Given(key, value, headers))
    world.outbox.store(*batches, packs=PACKS)
    await world.take(LANE)
    await world.published(scribe.position)
    await eventually(lambda: len(world.topics.log(LETTERS)) == 2, what="the dead letters")
    assert copy_of(world) == whole
    await world.relays.stop()


class _Given:
    """A record of an earlier publisher."""

    def __init__(self, key: bytes | None, value: bytes | None, headers: Any) -> None:
        self.key, self.value, self.headers, self.encoded = key, value, headers, b""


@pytest.mark.parametrize("hint", [1, 4, 6])
async def test_it_resumes_at_a_hint_in_the_middle_of_a_pack(hint: int) -> None:
    """The topics' outcomes are gone by retention: what the hint says is left out."""
    world = World(outcomes=OUTCOMES)
    scribe = Scribe(LANE)
    batches = [scribe.applied(6).batch(), scribe.applied(2).batch()]
    whole = await from_rows(*batches)
    publisher = world.topics.of(LANE)
    await publisher.start()
    await publisher.publish({EVENTS: [_Given(*each) for each in whole[0][:hint]]})
    await publisher.close()
    world.outbox.store(*batches, packs=PACKS)
    world.outbox.hints[LANE.id] = Published(hint, hint, None)
    await world.take(LANE)
    await world.published(8)
    assert copy_of(world) == [whole[0], whole[1][hint:], []]
    await world.relays.stop()


# --- what a topic refuses ---


@pytest.mark.parametrize("at", [1, 2, 7, 12, 13, 25])
async def test_a_refused_event_is_found_in_its_pack_and_halts_the_lane(world: World, at: int) -> None:
    scribe, batches = Scribe(LANE), list[Written]()
    for size in (12, 1, 12):
        for _ in range(size):
            scribe.applied(payload=b"x" * 5000 if scribe.position == at - 1 else b"x")
        batches.append(scribe.batch())
    world.outbox.store(*batches, packs=PACKS)
    world.topics.broker.limits[EVENTS] = 3000
    await world.take(LANE)
    detail = await world.halted("EVENT_REFUSED")
    assert detail.startswith(f"position {at}, largest record about ")
    assert [number(each, "tm_position") for each in world.topics.log(RESULTS)] == list(range(1, at))
    world.topics.broker.limits[EVENTS] = 10_000
    world.outbox.halts.clear()
    await world.published(25)
    assert copy_of(world) == await from_rows(*batches)


async def test_a_dead_letter_that_is_too_large_is_shortened(world: World) -> None:
    scribe = Scribe(LANE)
    batch = scribe.applied(3).parked(b"y" * 5000).applied(2).parked(b"z").batch()
    world.outbox.store(batch, packs=PACKS)
    world.topics.broker.limits[LETTERS] = 3000
    await world.take(LANE)
    await world.published(7)
    whole = await from_rows(batch)
    events, outcomes, letters = copy_of(world)
    assert [events, outcomes] == whole[:2]
    assert [value for _, value, _ in letters] == [None, b"z"]
    assert world.outbox.halts == {}


async def test_a_parked_record_that_was_deleted_is_noticed(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied().parked().batch(), packs=PACKS)
    world.outbox.kept.clear()
    await world.take(LANE)
    assert await world.halted("OUTBOX_GAP") == "the record parked at position 2 was deleted"


# --- contradictions ---


async def test_a_hole_halts_the_lane(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(*(scribe.applied(2).batch() for _ in range(5)), packs=PACKS)
    taken_out = world.outbox.packs[LANE.id].pop(2)
    await world.take(LANE)
    assert await world.halted("OUTBOX_GAP") == (
        "expected position 5 after event 4, found position 7 after event 6"
    )
    world.outbox.packs[LANE.id].insert(2, taken_out)
    world.outbox.halts.clear()
    await world.published(10)
    assert len(world.topics.log(EVENTS)) == 10


@pytest.mark.parametrize("packed", [True, False])
async def test_a_hole_at_the_border_of_rows_and_packs_halts_the_lane(world: World, packed: bool) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(2).batch(), packs=None if packed else PACKS)
    scribe.applied(2).batch()
    world.outbox.store(scribe.applied(2).batch(), packs=PACKS if packed else None)
    await world.take(LANE)
    assert (await world.halted("OUTBOX_GAP")).startswith("expected position 3 ")
    assert len(world.topics.log(EVENTS)) == 2


async def test_packs_missing_at_the_end_are_noticed(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(3).batch(), scribe.applied(2).batch(), packs=PACKS)
    del world.outbox.packs[LANE.id][1]
    await world.take(LANE)
    detail = await world.halted("OUTBOX_GAP")
    assert detail == "the ledger counts 5 positions and 5 events, the outbox ends with 3 and 3"


async def test_an_event_that_a_pack_lacks_is_noticed(world: World) -> None:
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(3).batch(), scribe.applied(2).batch(), packs=PACKS)
    replace_pack(world, 1, packs_of(world)[1]._replace(sequence_before=4))
    await world.take(LANE)
    assert "found position 4 after event 4" in await world.halted("OUTBOX_GAP")


async def test_a_database_set_back_under_a_running_relay_is_noticed(world: World) -> None:
    world.outbox.store(Scribe(LANE).applied(8).batch(), packs=PACKS)
    await world.take(LANE)
    await world.published(8)
    restored = Scribe(LANE)
    world.outbox.packs.clear()
    world.outbox.store(restored.applied(8).batch(), restored.applied(3).batch(), packs=PACKS)
    world.relays.wake([LANE.id])
    assert "position 9 does not continue position 8" in await world.halted("HISTORY_FORKED")
    assert len(world.topics.log(EVENTS)) == 8


@pytest.mark.parametrize("kind", ["applied", "rejected", "parked"])
async def test_a_restored_database_halts_the_lane_before_anything_is_sent(world: World, kind: str) -> None:
    """Whatever the log has now at the position of the topic's last event."""
    world.outbox.store(Scribe(LANE).applied(8).batch(), packs=PACKS)
    await world.take(LANE)
    await world.published(8)
    await world.relays.drop([LANE.id])
    restored = Scribe(LANE)
    for held in (world.outbox.packs, world.outbox.hints, world.outbox.logged):
        held.clear()
    getattr(restored.applied(7), kind)()
    world.outbox.store(restored.applied(4).batch(), packs=PACKS)
    await world.take(LANE)
    assert "event 8 at position 8 is" in await world.halted("HISTORY_FORKED")
    assert len(world.topics.log(EVENTS)) == 8


# --- after a reconciliation ---


@pytest.mark.parametrize(("by", "more"), [(0, 0), (3, 2)])
async def test_packs_of_an_older_timeline_are_encoded_anew(world: World, by: int, more: int) -> None:
    """What was not sent keeps its order; its numbers follow those that were withdrawn."""
    scribe = Scribe(LANE)
    world.outbox.store(scribe.applied(2, events=2).rejected().parked().batch(), packs=PACKS)
    pack = packs_of(world)[0]
    moved = pack._replace(
        first_position=1 + by, position=4 + by, sequence_before=more, sequence=4 + more,
        moved_positions=by, moved_sequences=more,
    )  # fmt: skip
    replace_pack(world, 0, moved)
    world.outbox.kept = {(LANE.id, 4 + by): world.outbox.kept[LANE.id, 4]._replace(position=4 + by)}
    spans = ((1, more),) if more else ()
    newer = Scribe(
        LANE, position=4 + by, sequence=4 + more, chained=pack.chain, number=1, timeline=2, withdrawn=spans
    )
    world.outbox.store(newer.applied(2).batch(), packs=PACKS)
    fork = Fork(2, 0, more, by, more, by)
    world.outbox.ends[LANE.id] = LaneEnd(6 + by, 6 + more, 2, (fork,))
    world.outbox.hints[LANE.id] = Published(by, more, None)
    publisher = world.topics.of(LANE)
    await publisher.start()
    if by:  # what was withdrawn is in the topics
        old = await from_rows(Scribe(LANE).applied(more).rejected(by - more).batch())
        await publisher.publish(
            {
                topic: [_Given(*each) for each in records]
                for topic, records in zip(TOPICS, old, strict=True)
                if records
            }
        )
    await publisher.close()
    await world.take(LANE)
    await world.published(6 + by)
    events, outcomes = world.topics.log(EVENTS)[more:], world.topics.log(RESULTS)[by:]
    assert [number(each, "tm_sequence") for each in events] == list(range(1 + more, 7 + more))
    assert [number(each, "tm_position") for each in outcomes] == list(range(1 + by, 7 + by))
    for record in (*events, *outcomes):
        said = dict(record.headers)
        assert said["tm_timeline"] == b"2"
        assert said.get("tm_withdrawn") == (b"1-%d" % more if more else None)
    assert [number(each, "tm_position") for each in world.topics.log(LETTERS)] == [4 + by]
    found = [each.value for each in events]
    assert found == [b"event %d" % at for at in range(1, 5)] + [b"event %d" % (at + more) for at in (5, 6)]
    assert [each[0] for each in slabs(world)][-2:] == [False, True], "the newer pack goes out as it is"
