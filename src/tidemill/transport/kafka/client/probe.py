"""A probe of Kafka: a consumer whose broker is unavailable just sees a quiet topic."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from aiokafka import TopicPartition

from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.client.lookup import Lookup


class KafkaProbe:
    """Asks the leaders of all partitions of some topics (name -> count) for their ends.

    `timeout_s`: how long an answer may take.
    """

    name: Final = "kafka"

    def __init__(
        self, connection: KafkaConnection, topics: dict[str, int], *, timeout_s: float = 3.0
    ) -> None:
        self._partitions: Collection[TopicPartition] = [
            TopicPartition(topic, partition) for topic, count in topics.items() for partition in range(count)
        ]
        self._lookup = Lookup(connection, timeout_s=timeout_s)

    async def ask(self) -> None:
        """Return if all leaders answer. Raises `Unavailable` when the time is over."""
        await self._lookup.ends(self._partitions)

    async def close(self) -> None:
        """End within a deadline."""
        await self._lookup.close()
