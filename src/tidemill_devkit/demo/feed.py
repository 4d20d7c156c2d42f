"""Publishing the plan: commands encoded like any client's, then damaged where the plan requires it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from tidemill.admin.records.outgoing import Outgoing, RecordPlace
from tidemill.app.connections import kafka_connection, open_registry
from tidemill.app.deployment import Deployment
from tidemill.catalog.streams import ContextStream
from tidemill.domain.messages import CommandBase
from tidemill.domain.partitioner import partition_of
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.kafka.admin.producer import KeyedProducer
from tidemill_devkit.demo.records import Planned

_CHUNK: Final = 500


@dataclass(frozen=True)
class SentRecord:
    """A record that Kafka has acknowledged, and its place."""

    planned: Planned
    place: RecordPlace


async def publish(
    deployment: Deployment, planned: Sequence[Planned], on_progress: Callable[[int], None]
) -> list[SentRecord]:
    """Publish records in order; return them with their places.

    `on_progress`: how many are acknowledged. Raises `Unavailable`.
    """
    async with AsyncExitStack() as shared:
        feeds = {
            aggregate: await _Feed.open(shared, deployment, part)
            for aggregate, part in deployment.catalog.contexts.items()
        }
        by_class = {model: feed for feed in feeds.values() for model in feed.models}
        sent: list[SentRecord] = []
        for sent_to, records in _runs(planned):
            values = [await by_class[type(record.command)].encode(record.command) for record in records]
            places = await feeds[sent_to].send(records, values)
            sent += [SentRecord(record, place) for record, place in zip(records, places, strict=True)]
            on_progress(len(sent))
        return sent


def _runs(records: Sequence[Planned]) -> Iterator[tuple[str, Sequence[Planned]]]:
    """Yield consecutive records of one topic, not too many at once."""
    run: list[Planned] = []
    for record in records:
        if run and (record.sent_to != run[0].sent_to or len(run) == _CHUNK):
            yield run[0].sent_to, run
            run = []
        run.append(record)
    if run:
        yield run[0].sent_to, run


class _Feed:
    """The producer and the codec of one aggregate."""

    def __init__(self, part: ContextStream, codec: StreamCodec, producer: KeyedProducer) -> None:
        self._part = part
        self._codec = codec
        self._producer = producer
        self.models = [spec.model for spec in part.stream.commands.values()]

    @classmethod
    async def open(cls, shared: AsyncExitStack, deployment: Deployment, part: ContextStream) -> _Feed:
        registry = open_registry(shared, deployment.settings)
        codec = await StreamCodec.open(part.stream, part.messages(), clock=SystemClock(), registry=registry)
        producer = KeyedProducer(
            kafka_connection(deployment.settings, "tidemill-demo"),
            part.stream.topics.commands,
            batch_bytes=deployment.settings.topics.max_command_bytes,
        )
        await shared.enter_async_context(producer)
        await producer.open()
        return cls(part, codec, producer)

    async def encode(self, command: CommandBase) -> bytes:
        return await self._codec.encode_command(command)

    async def send(self, records: Sequence[Planned], values: Sequence[bytes]) -> list[RecordPlace]:
        stream = self._part.stream
        return await self._producer.send(
            [outgoing(stream, record, value) for record, value in zip(records, values, strict=True)]
        )


def outgoing(stream: Stream, record: Planned, value: bytes) -> Outgoing:
    """Return the record that its producer sends to the stream's command topic; `value`: what it should hold."""
    key = (stream.key(record.command) if record.key is None else record.key).encode()
    home = partition_of(key, stream.partitions)
    return Outgoing(
        key=key,
        value=value if record.damage is None else record.damage(value),
        partition=(home + record.partitions_off) % stream.partitions,
    )
