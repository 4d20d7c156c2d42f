"""Programs of others that speak Kafka and Avro: confluent-kafka and fastavro, none of Tidemill's code.

What they know of Tidemill is what its public contract says: topics, schemas, framing, headers, the partitioner.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from fastavro import parse_schema, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

from tests.support.waiting import HANGING_S

TIMEOUT_S = HANGING_S
KEYS_AS_JAVA: Mapping[str, Any] = {"partitioner": "murmur2_random"}
SERIALIZER = {
    "auto.register.schemas": False,
    "normalize.schemas": True,
    "subject.name.strategy.type": "TOPIC_RECORD",
}

Fields = dict[str, Any]


class Place(NamedTuple):
    """Where a record stands."""

    partition: int
    offset: int


@dataclass(frozen=True)
class Sending:
    """A record to send; the partition is the key's unless it is given."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    partition: int = -1


@dataclass(frozen=True)
class Outsider:
    """Somebody who was told the addresses of the servers, and what the topics begin with."""

    bootstrap: str
    registry: str
    prefix: str

    def topic(self, role: str, aggregate: str = "market-data") -> str:
        return f"{self.prefix}.{aggregate}.{role}.v1"

    @contextmanager
    def serializer(self, schema: Path, topic: str) -> Iterator[Callable[[Fields], bytes]]:
        """Confluent's AvroSerializer, configured as the README says."""
        with SchemaRegistryClient({"url": self.registry}) as client:
            serializer = AvroSerializer(client, schema.read_text(), conf=dict(SERIALIZER))
            context = SerializationContext(topic, MessageField.VALUE)
            yield lambda fields: serializer(fields, context) or b""

    @contextmanager
    def deserializer(self, topic: str) -> Iterator[Callable[[Message], Fields]]:
        """Confluent's AvroDeserializer, which finds the writer's schema by its id."""
        with SchemaRegistryClient({"url": self.registry}) as client:
            deserializer = AvroDeserializer(client)
            context = SerializationContext(topic, MessageField.VALUE)
            yield lambda message: dict(deserializer(message.value(), context))

    def send(
        self, topic: str, records: Iterable[Sending], config: Mapping[str, Any] = KEYS_AS_JAVA
    ) -> list[Place]:
        """Send records by librdkafka; return the place of each, in order, when all are acknowledged."""
        places: dict[int, Place] = {}
        producer = Producer({"bootstrap.servers": self.bootstrap, "enable.idempotence": True, **config})
        count = 0
        for number, record in enumerate(records):
            producer.produce(
                topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                partition=record.partition,
                on_delivery=_noting(places, number),
            )
            producer.poll(0)
            count += 1
        assert producer.flush(TIMEOUT_S) == 0, "not acknowledged in time"
        return [places[number] for number in range(count)]

    def records(self, topic: str) -> Generator[Message]:
        """Yield the committed records of a topic, from the first on; fails if the wish for more takes too long."""
        config = {
            "bootstrap.servers": self.bootstrap,
            "group.id": "outsider",
            "isolation.level": "read_committed",
        }
        consumer = Consumer({**config, "enable.auto.commit": False})
        try:
            partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
            consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
            deadline_s = time.monotonic() + TIMEOUT_S
            while time.monotonic() < deadline_s:
                for message in consumer.consume(1_000, timeout=0.1):
                    assert message.error() is None, message.error()
                    yield message
        finally:
            consumer.close()
        raise AssertionError(f"{topic}: what was waited for did not come within {TIMEOUT_S:g} s")

    def outcomes_of(self, places: Sequence[Place], aggregate: str = "market-data") -> list[Fields]:
        """What became of these records of the command topic, as the outcome topic says."""
        topic, found = self.topic("outcomes", aggregate), dict[Place, Fields]()
        missing = set(places)
        with self.deserializer(topic) as read, closing(self.records(topic)) as messages:
            for message in messages:
                outcome = read(message)
                place = Place(outcome["partition"], outcome["record_offset"])
                assert place not in found, f"two outcomes for {place}"
                found[place] = outcome
                missing.discard(place)
                if not missing:
                    break
        return [found[place] for place in places]


def _noting(places: dict[int, Place], number: int) -> Callable[[KafkaError | None, Message], None]:
    def note(fault: KafkaError | None, message: Message) -> None:
        assert fault is None, fault
        places[number] = Place(message.partition() or 0, message.offset() or 0)

    return note


def text_headers(message: Message) -> dict[str, str]:
    """The headers of a record as text, the last one of each name."""
    listed: Any = message.headers() or []
    return {name: value.decode() for name, value in listed}


def single_object(schema: Path) -> Callable[[Fields], bytes]:
    """Avro's single-object encoding by fastavro alone: no registry."""
    document = json.loads(schema.read_text())
    parsed = parse_schema(document)
    prefix = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(document), "CRC-64-AVRO"))

    def encode(fields: Fields) -> bytes:
        body = io.BytesIO()
        schemaless_writer(body, parsed, fields)
        return prefix + body.getvalue()

    return encode
