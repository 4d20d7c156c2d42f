"""The adapter to Kafka: everything that knows aiokafka."""

from __future__ import annotations

from tidemill.transport.kafka.client import KafkaConnection
from tidemill.transport.kafka.events import KafkaEventSource
from tidemill.transport.kafka.logs import limit_client_logs
from tidemill.transport.kafka.probe import KafkaProbe
from tidemill.transport.kafka.producer import KeyedProducer, Outgoing, Place
from tidemill.transport.kafka.publisher import KafkaLanePublisher, KafkaPublishers
from tidemill.transport.kafka.reader import TopicReader
from tidemill.transport.kafka.replies import KafkaReplies, ReplyRecord
from tidemill.transport.kafka.source import KafkaCommandSource
from tidemill.transport.kafka.topics import Finding, TopicPlan, Topics, TopicSettings, TopicState, plan_topics

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
