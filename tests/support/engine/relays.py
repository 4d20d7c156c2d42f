"""The relays of a process between a database and a broker, both in memory."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fakes.outbox import MemoryOutbox
from tests.fakes.publishers import PlainOutcomes, WatchedPublishers, number
from tests.support.engine.outbox import Scribe, claim_of, lane_of
from tests.support.waiting import eventually
from tidemill.domain.lane import Lane
from tidemill.outbox.lanes import LaneRelays, RelaySettings
from tidemill.outbox.ports import OutcomeCodec
from tidemill.outbox.relay import RelayState
from tidemill.runtime.retry import Backoff
from tidemill.transport.kafka.outbox.packs import KafkaPacks
from tidemill.transport.kafka.outbox.records import KafkaRecordFormat

QUICK = Backoff(first_s=0.001, max_s=0.005)
LANE = lane_of()


class World:
    """A process's relays, with the database and the topics that they work between."""

    def __init__(
        self,
        outbox: MemoryOutbox | None = None,
        topics: WatchedPublishers | None = None,
        outcomes: OutcomeCodec | None = None,
        **settings: Any,
    ) -> None:
        outcomes = outcomes or PlainOutcomes()
        self.outbox = outbox or MemoryOutbox()
        self.topics = topics or WatchedPublishers()
        quick: dict[str, Any] = {
            "max_positions": 10,
            "min_positions": 3,
            "poll_first_s": 0.002,
            "poll_longest_s": 0.01,
            "mark_every_s": 0.005,
            "halts_every_s": 0.005,
            "ends_every_s": 0.005,
            "stop_within_s": 0.05,
            "backoff": QUICK,
        }
        self.relays = LaneRelays(
            self.outbox,
            self.topics,
            outcomes,
            KafkaRecordFormat(),
            KafkaPacks(outcomes),
            RelaySettings(**quick | settings),
        )

    async def take(self, *lanes: Lane, epoch: int = 1) -> None:
        for lane in lanes:
            if lane.id not in self.outbox.rows:
                self.outbox.create(lane.id)
        await self.relays.take([claim_of(lane, epoch) for lane in lanes])
        await asyncio.gather(*(self.relays.compared(lane.id) for lane in lanes))

    def state(self, lane: Lane = LANE) -> RelayState:
        return self.relays.states()[lane.id][0]

    async def published(self, position: int, lane: Lane = LANE) -> None:
        """Return when the outcome of `position` has arrived."""

        def arrived() -> bool:
            log = self.topics.log(lane.topics.outcomes, lane.partition)
            return bool(log) and number(log[-1], "tm_position") >= position

        await eventually(arrived, what=f"position {position}")

    async def halted(self, code: str, lane: Lane = LANE) -> str:
        found = await eventually(lambda: self.outbox.halts.get(lane.id), what=code)
        assert found is not None
        assert found[0] == code
        await eventually(lambda: self.state(lane) is RelayState.HALTED, what="the relay stands still")
        return found[1]

    def check(self, scribe: Scribe) -> None:
        """Nothing is missing, doubled or out of order."""
        lane = scribe.lane
        events = self.topics.log(lane.topics.events, lane.partition)
        outcomes = self.topics.log(lane.topics.outcomes, lane.partition)
        rows = self.outbox.rows[lane.id]
        assert [number(each, "tm_sequence") for each in events] == list(range(1, scribe.sequence + 1))
        assert [each.value for each in events] == [row.payload for row in rows if row.payload is not None]
        assert [number(each, "tm_position") for each in outcomes] == list(range(1, scribe.position + 1))
        letters = self.topics.log(lane.topics.dead_letters, lane.partition)
        assert [number(each, "tm_position") for each in letters] == [
            row.position for row in rows if row.outcome == b"p"
        ]
