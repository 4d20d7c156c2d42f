"""Hostile payloads, one by one and among good ones, through the codec; the way in is tested with the same table."""

from __future__ import annotations

import tracemalloc

import psutil
import pytest
from pydantic import ValidationError
from sqlalchemy import MetaData, Table

from tests.support.faults import hostile
from tests.support.faults.hostile import Hostile, SendProbe
from tidemill.commands.ports import Decoded
from tidemill.domain.context import AppendSpec
from tidemill.domain.errors import Unreadable
from tidemill.domain.lane import StreamTopics
from tidemill.domain.stream import Stream
from tidemill.runtime.clock import SystemClock
from tidemill.transport.avro.codec import StreamCodec
from tidemill.transport.avro.wire import prefix_of_fingerprint

MEBIBYTE = 1024 * 1024


@pytest.fixture
async def codec() -> StreamCodec:
    name, event = hostile.messages()
    spec = AppendSpec(model=SendProbe, table=Table("probes", MetaData()), event=hostile.ProbeSent)
    stream = Stream(
        aggregate="probes",
        partitions=1,
        topics=StreamTopics.of("probes"),
        commands={name: spec},
        events={event: hostile.ProbeSent},
        key=lambda command: command.text,
    )
    return await StreamCodec.open(stream, hostile.messages(), clock=SystemClock())


@pytest.fixture
def prefix() -> bytes:
    schema = hostile.messages()[f"{hostile.NAMESPACE}.SendProbe"].current
    return prefix_of_fingerprint(schema.fingerprint)


def disposition(decoded: Decoded | Unreadable) -> tuple[str, str]:
    """What the way in makes of it."""
    if isinstance(decoded, Unreadable):
        return ("parked", decoded.code)
    try:
        SendProbe.model_validate(decoded.fields)
    except ValidationError:
        return ("rejected", "INVALID")
    return ("applied", "")


def test_the_probe_itself_is_fine(codec: StreamCodec, prefix: bytes) -> None:
    [decoded] = codec.decode([prefix + hostile.good_body()])
    assert isinstance(decoded, Decoded)
    assert disposition(decoded) == ("applied", "")
    assert decoded.fields == hostile.GOOD


@pytest.mark.parametrize("case", hostile.HOSTILE, ids=lambda case: case.name)
def test_each_is_parked_or_rejected(codec: StreamCodec, prefix: bytes, case: Hostile) -> None:
    own = prefix if case.foreign is None else hostile.foreign_fingerprint(case.foreign)
    [decoded] = codec.decode([own + case.body])
    assert disposition(decoded) == (case.outcome, case.code)


def test_good_ones_among_them_are_read_and_memory_stays_bounded(codec: StreamCodec, prefix: bytes) -> None:
    good = prefix + hostile.good_body()
    bad = [value for _, value in hostile.values(prefix)]
    values = [good] * 200
    for index, value in enumerate(bad):
        values.insert(index * 4, value)
    codec.decode(values)
    before = psutil.Process().memory_info().rss
    tracemalloc.start()
    decoded = [type(each) for _ in range(10) for each in codec.decode(values)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * MEBIBYTE
    assert psutil.Process().memory_info().rss - before < 64 * MEBIBYTE
    readable = sum(case.outcome == "rejected" for case in hostile.HOSTILE)
    assert decoded.count(Decoded) == 10 * (200 + readable)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "MALFORMED"),
        (b"", "MALFORMED"),
        (b"\x00", "MALFORMED"),
        (b"\x00\x00\x00", "MALFORMED"),
        (b"\xc3\x01", "MALFORMED"),
        (b"\xc3\x01abcdefg", "MALFORMED"),
        (b'{"command_id": "x"}', "MALFORMED"),
        (b"\x01" + bytes(16), "MALFORMED"),
        (b"\xc3\x02" + bytes(16), "MALFORMED"),
        (b"\x00\x00\x00\x00\x07", "UNKNOWN_SCHEMA"),
        (b"\x00\xff\xff\xff\xff" + bytes(5), "UNKNOWN_SCHEMA"),
        (b"\xc3\x01" + bytes(8), "UNKNOWN_SCHEMA"),
        (bytes(256 * 1024 + 1), "TOO_BIG"),
    ],
)
def test_framing_that_says_nothing(codec: StreamCodec, value: bytes | None, code: str) -> None:
    [decoded] = codec.decode([value])
    assert isinstance(decoded, Unreadable)
    assert decoded.code == code
    assert decoded.detail


def test_no_cut_of_a_good_value_is_read(codec: StreamCodec, prefix: bytes) -> None:
    good = prefix + hostile.good_body()
    decoded = codec.decode([good[:length] for length in range(len(good))])
    assert all(isinstance(each, Unreadable) for each in decoded)
    assert {each.code for each in decoded[len(prefix) :] if isinstance(each, Unreadable)} == {"MALFORMED"}
