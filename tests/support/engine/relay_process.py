"""Relays lanes until it is killed: `python -m tests.support.engine.relay_process DATABASE BOOTSTRAP EPOCH`.

It works every lane of the database, and says on its standard output, a JSON object per line, lane -> [state, position].
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.fakes.publishers import PlainOutcomes
from tests.support.engine.outbox import claim_of, lane_of
from tests.support.waiting import POLL_INTERVAL_S
from tidemill.domain.lane import Lane, StreamTopics
from tidemill.outbox.lanes import LaneRelays, RelaySettings
from tidemill.storage.database.pool import Pool, create_pool
from tidemill.storage.outbox.reader import OutboxDatabase
from tidemill.transport.kafka import KafkaConnection, KafkaPublishers
from tidemill.transport.kafka.outbox.packs import KafkaPacks
from tidemill.transport.kafka.outbox.records import KafkaRecordFormat


async def work(database: str, bootstrap: str, epoch: int) -> None:
    """Relay until killed."""
    pool = await create_pool(database, application_name="a relay process", size=4)
    publishers = KafkaPublishers(KafkaConnection(bootstrap=bootstrap), batch_bytes=100_000)
    settings = RelaySettings(max_positions=100, mark_every_s=0.2)
    relays = LaneRelays(
        OutboxDatabase(pool),
        publishers,
        PlainOutcomes(),
        KafkaRecordFormat(),
        KafkaPacks(PlainOutcomes()),
        settings,
    )
    housekeeping = asyncio.create_task(relays.run())
    await relays.take([claim_of(lane, epoch) for lane in await _lanes(pool)])
    while not housekeeping.done():
        states = {lane: [state.value, at.position] for lane, (state, at) in relays.states().items()}
        sys.stdout.write(json.dumps(states) + "\n")
        sys.stdout.flush()
        await asyncio.wait({housekeeping}, timeout=POLL_INTERVAL_S)


async def _lanes(pool: Pool) -> list[Lane]:
    rows = await pool.fetch("select * from tm.lane order by lane")
    names = ("command_topic", "event_topic", "outcome_topic", "dead_letter_topic")
    return [
        lane_of(
            row["lane"],
            row["partition"],
            partitions=row["partitions"],
            topics=StreamTopics(*(row[name] for name in names)),
        )
        for row in rows
    ]


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
