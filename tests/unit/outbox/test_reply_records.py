"""A reply is what the outcome topic holds, also after the lane's history was reconciled."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.fakes.publishers import PlainOutcomes
from tests.support.engine.outbox import Scribe
from tests.support.engine.relays import LANE, World
from tests.support.waiting import eventually
from tidemill.admin.rows import LaneState
from tidemill.commands.ports import Reply
from tidemill.outbox.ports import Fork, LaneEnd
from tidemill.transport.kafka.commands.reply_records import ReplyRecords

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RECONCILED = (Fork(2, 3, 5, 5, 5, 5),)


def state(timeline: int) -> LaneState:
    """The lane as the process finds it."""
    topics = LANE.topics
    named: dict[str, Any] = dict.fromkeys(LaneState._fields)
    own = {name: getattr(LANE, name) for name in ("aggregate", "partition", "partitions")}
    named |= own | {"lane": LANE.id, "position": 0, "sequence": 0, "timeline": timeline, "at": NOW}
    named |= {"command_topic": topics.commands, "event_topic": topics.events}
    named |= {"outcome_topic": topics.outcomes, "dead_letter_topic": topics.dead_letters}
    return LaneState(**named)


def reply(scribe: Scribe) -> Reply:
    return Reply("tidemill.replies.x", b"7", None, scribe.applied().batch().outbox[0])


async def test_it_is_the_record_of_the_outcome_topic(world: World) -> None:
    scribe = Scribe(LANE)
    written = scribe.applied().batch()
    world.outbox.store(written)
    world.outbox.ends[LANE.id] = LaneEnd(1, 1, 2, RECONCILED)
    await world.take(LANE)
    await world.published(1)
    (sent,) = world.topics.log(LANE.topics.outcomes)
    records = ReplyRecords([state(timeline=1)], PlainOutcomes(), world.relays.history)
    made = records(Reply("tidemill.replies.x", b"7", None, written.outbox[0]))
    assert (made.key, made.value, list(made.headers)) == (sent.key, sent.value, list(sent.headers))


async def test_a_reconciliation_is_said_from_the_next_claim_on(world: World) -> None:
    records = ReplyRecords([state(timeline=1)], PlainOutcomes(), world.relays.history)
    scribe = Scribe(LANE)
    await world.take(LANE)
    assert told(records, scribe) == {"tm_timeline": b"1"}
    world.outbox.ends[LANE.id] = LaneEnd(0, 0, 2, RECONCILED)
    await world.take(LANE)
    await eventually(lambda: world.relays._relays[LANE.id].waiting, what="it is idle")
    assert told(records, scribe) == {"tm_timeline": b"2", "tm_withdrawn": b"4-5"}
    await world.relays.drop([LANE.id])
    assert told(records, scribe) == {"tm_timeline": b"2", "tm_withdrawn": b"4-5"}, "what was said last"


def test_a_lane_that_was_released_at_once_is_as_it_was_found() -> None:
    records = ReplyRecords([state(timeline=4)], PlainOutcomes(), lambda _: None)
    assert told(records, Scribe(LANE)) == {"tm_timeline": b"4"}


def told(records: ReplyRecords, scribe: Scribe) -> dict[str, bytes | None]:
    headers = records(reply(scribe)).headers
    return {name: value for name, value in headers if name in {"tm_timeline", "tm_withdrawn"}}
