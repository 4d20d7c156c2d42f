"""The adapter to Kafka: everything that uses aiokafka."""

from __future__ import annotations

from tidemill.transport.kafka.admin.producer import KeyedProducer
from tidemill.transport.kafka.admin.reader import TopicReader
from tidemill.transport.kafka.catalog.topics import Topics
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.client.logs import limit_client_logs
from tidemill.transport.kafka.client.probe import KafkaProbe
from tidemill.transport.kafka.commands.replies import KafkaReplies, ReplyRecord
from tidemill.transport.kafka.commands.source import KafkaCommandSource
from tidemill.transport.kafka.outbox.publisher import KafkaLanePublisher, KafkaPublishers
from tidemill.transport.kafka.projections.event_source import KafkaEventSource

__all__ = [
    "KafkaCommandSource",
    "KafkaConnection",
    "KafkaEventSource",
    "KafkaLanePublisher",
    "KafkaProbe",
    "KafkaPublishers",
    "KafkaReplies",
    "KeyedProducer",
    "ReplyRecord",
    "TopicReader",
    "Topics",
    "limit_client_logs",
]
