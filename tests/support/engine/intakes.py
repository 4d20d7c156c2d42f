"""Intakes on a broker and a database in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from tests.fakes.codecs import Answers, JsonCodec, encode
from tests.fakes.commands import MemoryCommandStore
from tests.fakes.followers import MemoryFollower
from tests.fakes.kafka import MemoryBroker
from tests.fakes.kafka_ports import MemoryCommandSource
from tests.support.engine.commands import HORIZON, base
from tests.support.waiting import HANGING_S, eventually
from tidemill.commands.batch import BatchWriter
from tidemill.commands.handlers import handlers_of
from tidemill.commands.intake import Intake, IntakeOptions
from tidemill.commands.validation import Validator
from tidemill.commands.workers import Workers
from tidemill.contexts.connector_profiles import context as connector_profiles
from tidemill.contexts.connector_profiles.messages import RegisterConnectorProfile
from tidemill.domain.partitioner import partition_of
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord

STREAM = Stream.of(replace(connector_profiles, partitions=3))
TOPIC = STREAM.topics.commands


class World:
    """A broker, a database, and intakes that share them."""

    def __init__(
        self,
        stream: Stream = STREAM,
        *,
        store: MemoryCommandStore | None = None,
        workers: Workers | None = None,
    ) -> None:
        """`workers`: those of the process, if the intakes of other worlds share them."""
        self.stream = stream
        self.workers = workers
        self.broker = MemoryBroker()
        self.broker.create(TOPIC, stream.partitions)
        self.store = store or MemoryCommandStore(stream)
        self.follower = MemoryFollower()
        self.answers = Answers()
        self.codec = JsonCodec(stream)

    def send(self, key: str, *, headers: Any = (), newer: bool = False, **changes: Any) -> str:
        """Publish the registration of a profile; return its command id. `newer`: its schema is newer than ours."""
        fields = base(profile_id=key, name=f"name of {key}", profile_data="{}") | changes
        value = encode(self.stream, RegisterConnectorProfile(**fields))
        if newer:
            value = json.dumps(json.loads(value) | {"newer": True}).encode()
        partition = partition_of(key.encode(), self.stream.partitions)
        self.broker.write(TOPIC, partition, OutboundRecord(key.encode(), value, headers))
        return str(fields["command_id"])

    def intake(self, owner: str = "one", *, knows_all: bool = False, **options: Any) -> Intake:
        codec = JsonCodec(self.stream, knows_all=True) if knows_all else self.codec
        return Intake(
            stream=self.stream,
            source=MemoryCommandSource(self.broker, topic=TOPIC, group="g"),
            store=self.store,
            validator=Validator(self.stream, codec),
            writer=BatchWriter(
                self.store, handlers_of(self.stream, codec, 10_000), SystemClock(), horizon=HORIZON
            ),
            follower=self.follower,
            answers=self.answers,
            options=IntakeOptions(owner=owner, batch_records=10, workers=2, **options),
            workers=self.workers,
        )

    @asynccontextmanager
    async def running(self, owner: str = "one", **options: Any) -> AsyncIterator[Intake]:
        intake = self.intake(owner, **options)
        await intake.start()
        work = asyncio.create_task(intake.run())
        try:
            yield intake
        finally:
            await asyncio.wait_for(intake.stop(), HANGING_S)
            await asyncio.wait_for(work, HANGING_S)

    def logged(self) -> list[tuple[bytes, str | None]]:
        return [(row.outcome, row.code) for rows in self.store.tables.log.values() for row in rows]

    def logged_type(self) -> str:
        (name,) = [
            full for full, spec in self.stream.commands.items() if spec.model is RegisterConnectorProfile
        ]
        return name

    async def until_logged(self, count: int) -> None:
        await eventually(lambda: len(self.logged()) >= count, what=f"{count} rows in the log")

    async def until_halted(self, code: str) -> None:
        await eventually(lambda: [found for found, _ in self.store.halts.values()] == [code], what=code)
