"""What a lane's topics tell an operator, also where one of them ends with what nobody can read."""

from __future__ import annotations

import pytest

from tests.conformance.kafka.test_lane_publisher import record
from tests.support.engine.kafka import KafkaWorld, lane_of
from tidemill.outbox.ports import ForeignTail, Tail, Tails
from tidemill.transport.kafka.admin.inspection import Inspector
from tidemill.transport.kafka.outbox.history import KafkaTopicHistory
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord


async def test_what_cannot_be_unpacked_at_a_tail_can_be_accepted(world: KafkaWorld) -> None:
    lane, topics = lane_of(world, 0), world.topics
    publisher = world.publishers().of(lane)
    await publisher.start()
    await publisher.publish({topics.events: [record(1)], topics.outcomes: [record(1)]})
    await publisher.close()
    bad = await world.poison(topics.events, 0, 20) + 19
    await world.write(topics.outcomes, 0, OutboundRecord(b"k", b"theirs", ()))
    ours = Tails(Tail(1, 1, "event-1"), Tail(1, 1, "event-1"), None)
    async with KafkaTopicHistory(world.connection, lane, {}) as history:
        with pytest.raises(ForeignTail, match=f"offset {bad} "):
            await history.ends()
        found = await history.foreign()
        assert found == {topics.events: bad, topics.outcomes: 2}
    async with KafkaTopicHistory(world.connection, lane, found) as history:
        assert (await history.ends()).tails == ours
    inspector = Inspector(lambda: world.connection)
    assert await inspector.tails([lane]) == {lane.id: ours}
    await inspector.close()
