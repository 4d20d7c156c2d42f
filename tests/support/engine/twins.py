"""The same history in two deployments: one writes its outbox in rows, the other in packs; subscribers compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message

from tests.support.engine.outbox import Scribe, Written
from tests.support.engine.real_relays import RealWorld
from tests.support.waiting import eventually
from tidemill.admin.lane_results import Reconciled
from tidemill.commands.rows import LogRow, OutboxRow
from tidemill.domain.lane import Claim
from tidemill.outbox.lanes import LaneRelays
from tidemill.storage.commands.command_store import CommandDatabase
from tidemill.storage.commands.unit_of_work import read_progress
from tidemill.storage.database.pool import connection
from tidemill.transport.kafka.outbox.packs import KafkaPacks

_COUNTS = """
select gen, sum(outcomes)::bigint as outcomes, sum(events)::bigint as events, sum(rows)::bigint as rows from (
  select gen, count(*) filter (where item = 0) as outcomes, count(payload) as events,
         coalesce(sum(coalesce(rows, 1)) filter (where outcome = 'a'), 0) as rows from tm.outbox group by gen
  union all
  select gen, sum(position - first_position + 1), sum(sequence - sequence_before), sum(rows) from tm.pack group by gen)
as sent group by gen order by gen
"""


def log_rows(rows: Sequence[OutboxRow]) -> list[LogRow]:
    """Return what the log holds of the commands of a batch."""
    found: dict[int, LogRow] = {}
    for row in rows:
        if row.item == 0:
            own = row.command_id if row.outcome in (b"a", b"r") else None
            repeats = row.command_id if row.outcome == b"d" else None
            counted = row.rows if row.outcome == b"a" else None
            names = ("market_data", row.service, row.code, row.detail, repeats, counted)
            head = (row.lane, row.gen, row.position, own, 7, row.outcome or b"", 0, row.sequence, row.at)
            found[row.position] = LogRow(*head, *names)
        if row.payload is not None:
            log = found[row.position]
            found[row.position] = log._replace(events=log.events + 1, sequence=row.sequence)
    return list(found.values())


@dataclass
class Twin:
    """A deployment with one lane. `packs`: whether it writes them."""

    world: RealWorld
    packs: bool
    relays: list[LaneRelays] = field(default_factory=list)

    @property
    def lane_id(self) -> int:
        return self.world.lanes[0].id

    async def write(self, written: Written) -> None:
        """Commit a batch as the intake does."""
        pool, lane = self.world.pool, self.world.lanes[0]
        packs = KafkaPacks(self.world.outcomes) if self.packs else None
        async with connection(pool) as borrowed:
            progress = (await read_progress(borrowed, [lane.id])).progress[lane.id]
        epoch = await pool.fetchval("select epoch from tm.lane where lane = $1", lane.id)
        async with CommandDatabase(pool, packs=packs).unit_of_work() as batch:
            await batch.lock([Claim(lane, epoch, progress)])
            await batch.log(log_rows(written.outbox))
            await batch.park(written.parked)
            await batch.send(written.outbox)
            await batch.append_ledger([written.ledger])

    async def stored_as_packs(self) -> bool:
        """Tell whether the outbox has packs and no rows."""
        counts = "select (select count(*) from tm.pack) as packs, (select count(*) from tm.outbox) as rows"
        row = await self.world.pool.fetchrow(counts)
        assert row is not None
        return bool(row["packs"] and not row["rows"])

    async def start(self) -> None:
        """Let a process claim the lane, as it is now."""
        epoch = await self.world.pool.fetchval("select epoch from tm.lane where lane = $1", self.lane_id)
        relays = await self.world.process()
        await self.world.claim(relays, self.world.lanes[0], epoch=epoch + 1)
        self.relays.append(relays)

    async def stop(self) -> None:
        """End it as kill -9 does."""
        await self.world.crash(self.relays.pop())

    async def sent(self, position: int) -> None:
        """Return when the relay has sent that position."""
        states = self.relays[-1].states
        await eventually(lambda: states()[self.lane_id][1].position == position, what=f"position {position}")

    async def send(self, position: int) -> None:
        """Start a process, and end it when it has sent that position."""
        await self.start()
        await self.sent(position)
        await self.stop()

    async def halted(self) -> str:
        """Claim the lane with a new process; return the code with which it is halted."""
        await self.start()
        code, _ = await self.world.halted(self.world.lanes[0])
        await self.stop()
        return code

    async def restore(self, scribe: Scribe) -> None:
        """Restore the database to the state of `scribe`, from a backup that says nothing was published."""
        for table in ("outbox", "pack", "log", "parked", "batch"):
            await self.world.pool.execute(f"delete from tm.{table} where position > $1", scribe.position)
        await self.world.pool.execute("update tm.published set position = 0, sequence = 0, event_id = null")

    async def truncate(self, numbers: Mapping[str, int]) -> None:
        """Let the broker lose what its topics hold behind so many records of each."""
        kafka = self.world.kafka
        for name, topic in self._topics().items():
            records = await kafka.visible(topic, 0)
            await kafka.create_again(topic)
            if numbers[name]:
                await kafka.write(topic, 0, *records[: numbers[name]])

    async def counts(self) -> list[tuple[int, ...]]:
        """Return generation, outcomes, events and rows of the outbox, as the audit counts them."""
        return [tuple(row) for row in await self.world.pool.fetch(_COUNTS)]

    async def parked(self) -> list[int]:
        return [
            row[0] for row in await self.world.pool.fetch("select position from tm.parked order by position")
        ]

    async def read(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all that a subscriber of its topics reads: keys, values and headers."""
        named = self._topics()
        return {name: list(map(_content, await self.world.read(topic, 0))) for name, topic in named.items()}

    def _topics(self) -> dict[str, str]:
        topics = self.world.topics
        return {"events": topics.events, "outcomes": topics.outcomes, "letters": topics.dead_letters}


def _content(message: Message) -> tuple[Any, ...]:
    return message.key(), message.value(), message.headers()


@dataclass
class Twins:
    """Two deployments to which the same happens, and the scribe of their common history."""

    rows: Twin
    packs: Twin
    scribe: Scribe

    @property
    def both(self) -> tuple[Twin, Twin]:
        return self.rows, self.packs

    async def write(self, scribe: Scribe) -> Written:
        """Commit what the scribe has gathered as one batch, in both; return it."""
        self.scribe = scribe
        written = scribe.batch()
        for twin in self.both:
            await twin.write(written)
        assert await self.packs.stored_as_packs()
        return written

    async def send(self) -> None:
        """Let both relays send everything."""
        for twin in self.both:
            await twin.send(self.scribe.position)

    async def hint(self) -> None:
        """Tell both databases that everything was sent."""
        for twin in self.both:
            await twin.world.pool.execute(
                "update tm.published set position = $1, sequence = $2, event_id = null",
                self.scribe.position,
                self.scribe.sequence,
            )

    async def truncate(self, **numbers: int) -> None:
        """Let both brokers lose the ends of their topics."""
        for twin in self.both:
            await twin.truncate(numbers)

    async def halted(self, code: str) -> None:
        """Let both find out that their lane cannot go on."""
        for twin in self.both:
            assert await twin.halted() == code

    async def reconcile(self) -> Reconciled:
        """Decide as an operator does, in both; return what was done, which is the same."""
        in_rows, in_packs = [
            await twin.world.reconcile(twin.world.lanes[0], "restored") for twin in self.both
        ]
        assert in_rows._replace(again=0) == in_packs._replace(again=0)
        scribe = self.scribe
        scribe.position, scribe.sequence, scribe.timeline = (
            in_rows.position,
            in_rows.sequence,
            in_rows.timeline,
        )
        scribe.number += 1
        return in_packs

    async def restore(self, scribe: Scribe) -> None:
        """Set both databases back to where `scribe` is, who continues."""
        for twin in self.both:
            await twin.restore(scribe)
        self.scribe = scribe

    async def check(self) -> dict[str, list[tuple[Any, ...]]]:
        """Compare what subscribers read, what the audit counts, and what is parked; return what is read."""
        assert await self.rows.counts() == await self.packs.counts()
        assert await self.rows.parked() == await self.packs.parked()
        read, expected = await self.packs.read(), await self.rows.read()
        for topic, records in expected.items():
            assert read[topic] == records, topic
        return read
