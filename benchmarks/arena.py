"""Where a round is run: a database and topics of its own on the servers of this checkout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.data import PARTITIONS, Keyed


@dataclass(frozen=True)
class Arena:
    """`name` is part of every name made for it."""

    name: str
    database_url: str
    kafka: str

    def topic(self, what: str) -> str:
        """Return a topic's name."""
        return f"{self.name}.{what}"

    def environment(self) -> dict[str, str]:
        """Return the variables that point Tidemill's processes here."""
        return {
            "TIDEMILL_DATABASE_URL": self.database_url,
            "TIDEMILL_KAFKA_BOOTSTRAP": self.kafka,
            "TIDEMILL_TOPICS_PREFIX": self.name,
            "TIDEMILL_TOPICS_PARTITIONS": str(PARTITIONS),
            "TIDEMILL_LOG_LEVEL": "WARNING",
        }


@asynccontextmanager
async def arena(server_url: str, kafka: str) -> AsyncIterator[Arena]:
    """Make an arena, and remove it afterwards."""
    name = f"bench{uuid4().hex[:8]}"
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"create database {name}")
    made = Arena(name, f"{server_url.rsplit('/', 1)[0]}/{name}", kafka)
    try:
        yield made
    finally:
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()
        await _delete_topics(made)


async def create_topics(where: Arena, names: Sequence[str]) -> None:
    """Create topics with four partitions and wait until they have leaders."""
    client = AIOKafkaAdminClient(bootstrap_servers=where.kafka)
    await client.start()
    try:
        await client.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        while any(topic["error_code"] for topic in await client.describe_topics(list(names))):
            await asyncio.sleep(0.1)
    finally:
        await client.close()


async def load(where: Arena, topic: str, records: Sequence[Keyed]) -> None:
    """Write records as a backlog."""
    producer = AIOKafkaProducer(bootstrap_servers=where.kafka, acks="all", max_batch_size=128 * 1024)
    await producer.start()
    try:  # all partitions at once: processes that wait for them begin together
        await asyncio.gather(*(_load(producer, topic, number, records) for number in range(PARTITIONS)))
    finally:
        await producer.stop()


async def _load(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Keyed]) -> None:
    batch = producer.create_batch()
    answers = []
    for at, key, value in records:
        if at != partition:
            continue
        if batch.append(key=key, value=value, timestamp=None) is None:
            answers.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    answers.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*answers)


async def _delete_topics(where: Arena) -> None:
    client = AIOKafkaAdminClient(bootstrap_servers=where.kafka)
    await client.start()
    try:
        names = [name for name in await client.list_topics() if name.startswith(where.name)]
        if names:
            await client.delete_topics(names)
    finally:
        await client.close()
