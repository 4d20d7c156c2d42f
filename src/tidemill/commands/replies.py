"""Replies: a hint for commands that asked for one, sent after the commit. The outcome topic is authoritative.

Request/reply headers as Spring for Apache Kafka names them: `kafka_replyTopic`, `kafka_replyPartition` (4 bytes, big
endian), `kafka_correlationId` (echoed untouched).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from tidemill.commands.ports import Reply
from tidemill.commands.rows import OutboxRow
from tidemill.commands.validation import IncomingCommand


def wanted(outcomes: Iterable[tuple[IncomingCommand, OutboxRow]], allowed: re.Pattern[str]) -> list[Reply]:
    """Return the replies that were asked for, to topics that `allowed` matches whole; others are left out."""
    replies = [_reply(arrival, row) for arrival, row in outcomes if arrival.record.headers]
    return [reply for reply in replies if reply is not None and allowed.fullmatch(reply.topic)]


def _reply(arrival: IncomingCommand, row: OutboxRow) -> Reply | None:
    topic: str | None = None
    correlation: bytes | None = None
    partition: int | None = None
    for name, value in arrival.record.headers:
        if value is None:
            continue
        if name == "kafka_replyTopic":
            topic = value.decode(errors="replace")
        elif name == "kafka_correlationId":
            correlation = value
        elif name == "kafka_replyPartition" and len(value) == struct.calcsize(">i"):
            (partition,) = struct.unpack(">i", value)
    return None if topic is None else Reply(topic, correlation, partition, row)
