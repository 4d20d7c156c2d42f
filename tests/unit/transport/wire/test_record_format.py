"""Records encoded by us are what Kafka's own readers find."""

from __future__ import annotations

import random

import pytest

from tidemill.transport.kafka.outbox.outbound_record import OutboundRecord
from tidemill.transport.wire.varint import VARINT, decode_varint, encode_varint

EDGES = [
    0,
    1,
    -1,
    63,
    64,
    -64,
    -65,
    8191,
    8192,
    -8192,
    -8193,
    2**20,
    2**27 - 1,
    2**27,
    2**62,
    2**63 - 1,
    -(2**63),
]


def test_numbers_are_written_as_avro_and_kafka_define_them() -> None:
    written = [encode_varint(number) for number in (0, -1, 1, 63, -64, 64, 300, 1 << 20)]
    assert written == [
        b"\x00",
        b"\x01",
        b"\x02",
        b"\x7e",
        b"\x7f",
        b"\x80\x01",
        b"\xd8\x04",
        b"\x80\x80\x80\x01",
    ]


def test_every_number_of_64_bits_is_read_back_from_the_shortest_form() -> None:
    source = random.Random(5)
    for number in EDGES + [
        source.getrandbits(source.randrange(1, 64)) * source.choice((1, -1)) for _ in range(2000)
    ]:
        encoded = encode_varint(number)
        assert decode_varint(b"before" + encoded + b"\x01", 6) == (number, 6 + len(encoded))
        magnitude = 2 * number if number >= 0 else -2 * number - 1
        assert len(encoded) == max(1, -(-magnitude.bit_length() // 7))


def test_a_number_without_an_end_is_refused() -> None:
    with pytest.raises(IndexError):
        decode_varint(b"\x80\x80", 0)


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (None, None, []),
        (b"", b"", [("", b"")]),
        (b"k", None, [("twice", b"1"), ("twice", None), ("Größe", b"\xff\x00")]),
        (None, b"v" * 100_000, [(f"h{number}", b"x" * number) for number in range(200)]),
    ],
)
def test_a_record_is_read_back_as_it_was_made(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    record = OutboundRecord(key, value, headers)
    assert (record.key, record.value, record.headers) == (key, value, headers)
    again = OutboundRecord.of(record.encoded)
    assert again == record
    assert hash(again) == hash(record)
    assert record != OutboundRecord(b"another", value, headers)
    assert record != (key, value, headers)
    assert repr(headers) in repr(record)


def test_the_look_up_knows_every_number_and_grows_for_none() -> None:
    kept = len(VARINT)
    assert all(VARINT[number] == encode_varint(number) for number in [*EDGES, *range(10_000)])
    assert len(VARINT) == kept
