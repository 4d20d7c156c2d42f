"""The adapter to Kafka: everything that knows aiokafka."""

from __future__ import annotations

from tidemill.transport.kafka.admin.producer import KeyedProducer, Outgoing, Place
from tidemill.transport.kafka.admin.reader import TopicReader
from tidemill.transport.kafka.catalog.topics import (
    Finding,
    TopicPlan,
    Topics,
    TopicSettings,
    TopicState,
    plan_topics,
)
from tidemill.transport.kafka.client.client import KafkaConnection
from tidemill.transport.kafka.client.logs import limit_client_logs
from tidemill.transport.kafka.client.probe import KafkaProbe
from tidemill.transport.kafka.commands.replies import KafkaReplies, ReplyRecord
from tidemill.transport.kafka.commands.source import KafkaCommandSource
from tidemill.transport.kafka.outbox.publisher import KafkaLanePublisher, KafkaPublishers
from tidemill.transport.kafka.projections.event_source import KafkaEventSource

__all__ = [
    "Finding",
    "KafkaCommandSource",
    "KafkaConnection",
    "KafkaEventSource",
    "KafkaLanePublisher",
    "KafkaProbe",
    "KafkaPublishers",
    "KafkaReplies",
    "KeyedProducer",
    "Outgoing",
    "Place",
    "ReplyRecord",
    "TopicPlan",
    "TopicReader",
    "TopicSettings",
    "TopicState",
    "Topics",
    "limit_client_logs",
    "plan_topics",
]
