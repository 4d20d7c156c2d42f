"""The topics of single lanes, for an operator's decision: `admin.ports.LaneTopics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tidemill.commands.ports import CommandSource
from tidemill.domain.lane import Lane
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.commands.source import KafkaCommandSource
from tidemill.transport.kafka.outbox.history import KafkaTopicHistory


class KafkaLaneTopics:
    """Opens the topics of lanes."""

    def __init__(self, connect: Callable[[], KafkaConnection]) -> None:
        """`connect`: called when a topic is opened, for Kafka's address. May raise `UsageError`."""
        self._connect = connect

    def commands(self, topic: str) -> CommandSource:
        return KafkaCommandSource(self._connect(), topic=topic, group=topic)

    def history(self, lane: Lane, accepted: Mapping[str, int]) -> KafkaTopicHistory:
        return KafkaTopicHistory(self._connect(), lane, accepted)
