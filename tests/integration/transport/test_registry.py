"""The registry that is not there, and other programs' bytes through the one that is."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.support.archive import archival
from tests.support.engine.streams import messages_of
from tests.support.faults import hostile
from tests.support.waiting import HANGING_S
from tidemill.catalog.registration import register_schemas
from tidemill.commands.ports import Decoded
from tidemill.contexts import market_data
from tidemill.contexts.market_data.messages import MarketDataRecorded, RecordMarketData
from tidemill.domain.archive.messages import ArchivalConfirmation, archival_topics
from tidemill.domain.errors import ContractError, Unavailable, Unreadable
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.runtime.resources import schemas_dir
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.wire import prefix_of_id
from tidemill.transport.registry import ConfluentRegistry
from tidemill_devkit.stack import Stack

SCHEMA_FILE = "market_data/commands/RecordMarketData.avsc"
COMMAND: dict[str, Any] = {
    "command_id": "0190a8f0-0000-7000-8000-000000000001",
    "service_name": "quotes",
    "timestamp": datetime(2013, 3, 1, tzinfo=UTC),
    "correlation_id": None,
    "symbol": "AAPL",
    "time": datetime(2013, 3, 1, tzinfo=UTC),
    "price": 430.47,
    "open": 438.0,
    "high": None,
    "low": None,
    "volume": None,
    "source": "test",
}


@pytest.fixture
def stream(topic_prefix: str) -> Stream:
    return Stream.of(replace(market_data.context), prefix=f"{topic_prefix}tidemill")


@pytest.fixture
def registry_url(stack: Stack) -> str:
    if stack.registry_url is None:
        pytest.skip("the servers that were given have no registry: set TIDEMILL_TEST_REGISTRY_URL")
    return stack.registry_url


@pytest.fixture
async def registry(registry_url: str) -> AsyncIterator[ConfluentRegistry]:
    client = ConfluentRegistry(registry_url)
    yield client
    await client.close()


async def open_codec(stream: Stream, registry: ConfluentRegistry) -> StreamCodec:
    return await StreamCodec.open(stream, messages_of("market_data"), clock=SystemClock(), registry=registry)


@pytest.fixture
def their_client(registry_url: str) -> Iterator[SchemaRegistryClient]:
    """Another program's client."""
    with SchemaRegistryClient({"url": registry_url}) as client:
        yield client


def their_serializer(client: SchemaRegistryClient) -> AvroSerializer:
    """As the README shows it."""
    configuration = {
        "auto.register.schemas": False,
        "normalize.schemas": True,
        "subject.name.strategy.type": "TOPIC_RECORD",
    }
    serializer: AvroSerializer = AvroSerializer(
        client, (schemas_dir() / SCHEMA_FILE).read_text(), conf=configuration
    )
    return serializer


async def test_commands_of_confluents_serializer_are_read(
    their_client: SchemaRegistryClient, stream: Stream, registry: ConfluentRegistry
) -> None:
    await register_schemas(registry, stream.topics, messages_of("market_data"))
    context = SerializationContext(stream.topics.commands, MessageField.VALUE)
    value = await asyncio.to_thread(their_serializer(their_client), dict(COMMAND), context)
    assert isinstance(value, bytes)
    codec = await open_codec(stream, registry)
    await codec.prepare([value])
    [decoded] = codec.decode([value])
    assert isinstance(decoded, Decoded)
    assert decoded.fields == COMMAND
    assert value == await codec.encode_command(RecordMarketData(**COMMAND))


async def test_events_are_read_by_confluents_deserializer(
    their_client: SchemaRegistryClient, stream: Stream, registry: ConfluentRegistry
) -> None:
    await register_schemas(registry, stream.topics, messages_of("market_data"))
    codec = await open_codec(stream, registry)
    [decoded] = codec.decode([await codec.encode_command(RecordMarketData(**COMMAND))])
    assert isinstance(decoded, Decoded)
    event = codec.appended_event(decoded, MarketDataRecorded)
    assert event == codec.encode_event(MarketDataRecorded(**COMMAND))
    theirs = AvroDeserializer(their_client, conf={"subject.name.strategy.type": "TOPIC_RECORD"})
    context = SerializationContext(stream.topics.events, MessageField.VALUE)
    assert await asyncio.to_thread(theirs, event, context) == COMMAND


async def test_registering_again_changes_nothing(stream: Stream, registry: ConfluentRegistry) -> None:
    first = await register_schemas(registry, stream.topics, messages_of("market_data"))
    assert {entry.subject for entry in first} == {
        f"{stream.topics.commands}-tidemill.market_data.RecordMarketData",
        f"{stream.topics.events}-tidemill.market_data.MarketDataRecorded",
    }
    assert await register_schemas(registry, stream.topics, messages_of("market_data")) == first


async def test_without_registered_schemas_a_codec_says_what_to_do(
    stream: Stream, registry: ConfluentRegistry
) -> None:
    with pytest.raises(ContractError, match="tidemill schemas register"):
        await open_codec(stream, registry)


async def test_foreign_and_dangerous_schemas_are_unknown(
    stream: Stream, registry: ConfluentRegistry, unique_name: Callable[[str], str]
) -> None:
    await register_schemas(registry, stream.topics, messages_of("market_data"))
    codec = await open_codec(stream, registry)
    elsewhere = f"{unique_name('elsewhere')}-value"
    ids = {
        case.foreign: await registry.register(elsewhere, case.foreign)
        for case in hostile.HOSTILE
        if case.foreign is not None
    }
    values = [prefix_of_id(ids[case.foreign]) + case.body for case in hostile.HOSTILE if case.foreign]
    await codec.prepare(values)
    assert [each.code for each in codec.decode(values) if isinstance(each, Unreadable)] == [
        case.code for case in hostile.HOSTILE if case.foreign
    ]


async def test_what_a_schema_id_meant_is_not_kept_by_the_client(
    stream: Stream, registry: ConfluentRegistry
) -> None:
    """Whoever asked knows it; a client that remembers every id that somebody made up only grows."""
    await register_schemas(registry, stream.topics, messages_of("market_data"))
    text = (schemas_dir() / SCHEMA_FILE).read_text()
    schema_id = await registry.register(f"{stream.topics.commands}-kept", text)
    assert await registry.find(schema_id) is not None
    assert not registry._client._cache.schema_id_index


async def test_an_id_of_another_topic_is_unknown(
    stream: Stream, registry: ConfluentRegistry, unique_name: Callable[[str], str]
) -> None:
    await register_schemas(registry, stream.topics, messages_of("market_data"))
    codec = await open_codec(stream, registry)
    name = "tidemill.market_data.RecordMarketData"
    document = json.loads((schemas_dir() / SCHEMA_FILE).read_text())
    document["fields"].append({"name": "venue", "type": "string", "default": "", "doc": unique_name("venue")})
    schema_id = await registry.register(f"{unique_name('other')}.commands.v1-{name}", json.dumps(document))
    value = prefix_of_id(schema_id) + b"whatever"
    await codec.prepare([value])
    [decoded] = codec.decode([value])
    assert isinstance(decoded, Unreadable)
    assert decoded.code == "UNKNOWN_SCHEMA"
    assert "not registered under" in decoded.detail


async def test_a_registry_that_refuses_connections_is_unavailable() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        registry = ConfluentRegistry(f"http://127.0.0.1:{taken.getsockname()[1]}", deadline_s=2)
        for call in calls(registry):
            with pytest.raises(Unavailable, match="registry is not available"):
                await call()
        await registry.close()


async def test_a_registry_that_never_answers_is_unavailable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = ConfluentRegistry(f"http://127.0.0.1:{silent.getsockname()[1]}", deadline_s=0.2)
        for call in calls(registry):
            with pytest.raises(Unavailable):
                await asyncio.wait_for(call(), HANGING_S)
        await registry.close()


async def test_a_wrong_address_is_unavailable_and_not_an_unknown_schema(registry_url: str) -> None:
    registry = ConfluentRegistry(f"{registry_url}/nothing-here")
    for call in calls(registry):
        with pytest.raises(Unavailable, match="see TIDEMILL_REGISTRY_URL"):
            await call()
    await registry.close()


async def test_the_password_is_sent_and_a_refusal_is_no_unknown_schema() -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        registry = ConfluentRegistry(f"http://127.0.0.1:{port}", user="reader", password="s3cret")
        with pytest.raises(Unavailable, match="and TIDEMILL_REGISTRY_PASSWORD") as refused:
            await registry.find(1)
        await registry.close()
    assert base64.b64encode(b"reader:s3cret") in asked[0]
    assert "s3cret" not in str(refused.value)


def calls(registry: ConfluentRegistry) -> list[Callable[[], Any]]:
    """Every call that asks the registry."""
    return [
        lambda: registry.find(1),
        lambda: registry.id_of("subject", '"string"'),
        lambda: registry.register("subject", '"string"'),
        lambda: registry.require("subject", "FULL_TRANSITIVE"),
    ]


async def test_an_archiver_with_the_specified_fields_alone_needs_the_registry_and_nothing_of_ours(
    their_client: SchemaRegistryClient, topic_prefix: str, registry: ConfluentRegistry
) -> None:
    topics = archival_topics(prefix=f"{topic_prefix}tidemill")
    await register_schemas(registry, topics, archival.MESSAGES)
    stream = replace(archival.STREAM, topics=topics)
    codec = await StreamCodec.open(stream, archival.MESSAGES, clock=SystemClock(), registry=registry)
    asked = archival.request()
    theirs = AvroDeserializer(their_client, conf={"subject.name.strategy.type": "TOPIC_RECORD"})
    context = SerializationContext(topics.events, MessageField.VALUE)
    event: Any = await asyncio.to_thread(theirs, codec.encode_event(asked), context)
    assert event["chunks"][0]["read_sql"] == asked.chunks[0].read_sql
    said: dict[str, Any] = {
        "event_id": event["event_id"],
        "status": "completed",
        "completed_at": COMMAND["time"],
        "lakehouse_path": "s3://lake/somewhere",
    }
    text = (schemas_dir() / "archival/ArchivalConfirmation.avsc").read_text()
    configuration = {
        "auto.register.schemas": False,
        "normalize.schemas": True,
        "subject.name.strategy.type": "TOPIC_RECORD",
    }
    serializer: AvroSerializer = AvroSerializer(their_client, text, conf=configuration)
    context = SerializationContext(topics.commands, MessageField.VALUE)
    value = await asyncio.to_thread(serializer, said, context)
    assert isinstance(value, bytes)
    [decoded] = codec.decode([value])
    assert isinstance(decoded, Decoded)
    assert ArchivalConfirmation.model_validate(decoded.fields) == ArchivalConfirmation(**said)
