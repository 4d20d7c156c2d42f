"""The archive's messages: a confirmation is a command without a command's base, a request an event of its own kind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes.registry import MemoryRegistry
from tests.support.archive.archival import MESSAGES, STREAM, TOPICS, chunk, confirmation, request
from tests.support.engine.codecs import HandClock, read, refused
from tidemill.catalog.registration import register_schemas, subject_of
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalEvent, ArchivalStatus
from tidemill.domain.errors import ContractError, Unavailable, Unreadable, UsageError
from tidemill.transport.avro.archival import CONFIRMATION, EVENT, ArchivalCodec
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.reader.forms import Form
from tidemill.transport.avro.wire import prefix_of_fingerprint


async def stream_codec(registry: MemoryRegistry | None = None) -> StreamCodec:
    return await StreamCodec.open(STREAM, MESSAGES, clock=HandClock(), registry=registry)


async def archival_codec(registry: MemoryRegistry | None = None) -> ArchivalCodec:
    return await ArchivalCodec.open(TOPICS, MESSAGES, clock=HandClock(), registry=registry)


def value_of(name: str, fields: dict[str, Any]) -> bytes:
    schema = MESSAGES[name].current
    return prefix_of_fingerprint(schema.fingerprint) + Form(schema, base=0).write(fields)


async def test_what_an_archiver_confirms_the_stream_reads_as_a_command() -> None:
    said = confirmation(snapshot_id=7, error_message="one of two failed")
    decoded = read(await stream_codec(), (await archival_codec()).write(said))
    assert decoded.name == CONFIRMATION
    command = ArchivalConfirmation.model_validate(decoded.fields)
    assert command == said
    assert (command.service_name, command.correlation_id) == ("archiver-1", said.event_id)
    assert command.command_id == said.command_id


async def test_all_that_a_confirmation_says_makes_it_what_it_is() -> None:
    codec = await stream_codec()
    archiver = await archival_codec()
    said = confirmation()
    others = [
        said.model_copy(update=change)
        for change in (
            {"event_id": "another"},
            {"status": ArchivalStatus.FAILED},
            {"completed_at": said.completed_at + timedelta(microseconds=1)},
            {"lakehouse_path": "file:///elsewhere"},
            {"chunks": ()},
        )
    ]
    every = [said, *others]
    assert len({read(codec, archiver.write(each)).facts for each in every}) == len(every)
    assert len({each.command_id for each in every}) == len(every)


async def test_the_five_specified_fields_are_enough() -> None:
    fields: dict[str, Any] = {
        "event_id": "e",
        "status": "completed",
        "completed_at": confirmation().completed_at,
        "lakehouse_path": "s3://lake/e",
        "error_message": None,
    }
    command = ArchivalConfirmation.model_validate(
        read(await stream_codec(), value_of(CONFIRMATION, fields)).fields
    )
    assert command == ArchivalConfirmation(**fields)
    assert command.service_name == "archiver"


async def test_what_the_stream_announces_an_archiver_reads_as_a_request() -> None:
    asked = request(chunk(1), chunk(2, generation=3, row_count=0, min_time=None, max_time=None), attempt=2)
    event = (await stream_codec()).encode_event(asked)
    assert await (await archival_codec()).read(event) == asked


async def test_a_request_with_the_specified_fields_alone_is_read() -> None:
    asked = request()
    names = ("event_id", "table_name", "chunks", "status", "created_at", "error_message")
    fields = {name: value for name, value in asked.model_dump().items() if name in names}
    fields["chunks"] = [
        {
            name: part[name]
            for name in (
                "chunk_name",
                "table_name",
                "range_start",
                "range_end",
                "compressed",
                "size_bytes",
            )
        }
        for part in fields["chunks"]
    ]
    got = await (await archival_codec()).read(value_of(EVENT, fields))
    assert (got.attempt, got.columns, got.chunks[0].generation) == (1, (), 1)
    assert got.chunks[0].read_sql is None


@pytest.mark.parametrize("value", [None, b"", b"\x00\x00\x00\x00\x09x", b"hello", b"\xc3\x01" + b"x" * 30])
async def test_what_is_no_request_is_unreadable(value: bytes | None) -> None:
    with pytest.raises(Unreadable):
        await (await archival_codec()).read(value)


async def test_an_event_cut_short_is_unreadable() -> None:
    event = (await stream_codec()).encode_event(request())
    with pytest.raises(Unreadable, match="MALFORMED"):
        await (await archival_codec()).read(event[:-1])


async def test_a_confirmation_is_no_request_nor_a_request_a_confirmation() -> None:
    stream, archiver = await stream_codec(), await archival_codec()
    assert refused(stream, stream.encode_event(request())).code == "UNKNOWN_SCHEMA"
    with pytest.raises(Unreadable, match="UNKNOWN_SCHEMA"):
        await archiver.read(archiver.write(confirmation()))


async def test_with_a_registry_both_sides_name_its_schemas() -> None:
    registry = MemoryRegistry()
    with pytest.raises(ContractError, match="tidemill schemas register"):
        await archival_codec(registry)
    await register_schemas(registry, TOPICS, MESSAGES)
    stream, archiver = await stream_codec(registry), await archival_codec(registry)
    said, asked = archiver.write(confirmation()), stream.encode_event(request())
    assert said[0] == asked[0] == 0
    assert read(stream, said).fields["event_id"] == request().event_id
    assert await archiver.read(asked) == request()
    subjects = {subject_of(TOPICS.commands, CONFIRMATION), subject_of(TOPICS.events, EVENT)}
    assert registry.levels.keys() == subjects


async def test_a_strange_id_while_the_registry_is_away_is_asked_for_again() -> None:
    registry = MemoryRegistry()
    await register_schemas(registry, TOPICS, MESSAGES)
    archiver = await archival_codec(registry)
    registry.away = True
    with pytest.raises(Unavailable):
        await archiver.read(b"\x00\x00\x00\x00\x63body")


async def test_times_without_a_zone_are_named_wherever_they_are() -> None:
    first = confirmation().chunks[0]
    naive = first.model_copy(update={"min_time": confirmation().completed_at.replace(tzinfo=None)})
    with pytest.raises(UsageError, match=r"^chunks\[0\]\.min_time: .* has no time zone"):
        await (await stream_codec()).encode_command(confirmation(chunks=(naive,)))


def test_what_no_text_of_a_database_holds_is_kept_out() -> None:
    assert confirmation(error_message="a\x00b").error_message == "a\ufffdb"
    for name in ("event_id", "lakehouse_path", "archiver_id", "error_code", "lake_format"):
        with pytest.raises(ValidationError):
            confirmation(**{name: "a\x00b"})


def test_the_most_chunks_fit_into_an_event() -> None:
    many = request(*(chunk(number, read_sql="x" * 2_000) for number in range(1, 65)))
    assert isinstance(many, ArchivalEvent)
    assert len(value_of(EVENT, many.model_dump())) < 200_000
