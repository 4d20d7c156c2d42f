"""What we put into aiokafka is still needed: each test fails once a release of it has what it lacks.

Names of headers, the reset connection and the pause between transactions are tested where their replacements are:
`test_header_names.py`, `client/test_start.py` and `client/test_client.py`.
"""

from __future__ import annotations

import gzip
import subprocess
import sys

import aiokafka.codec
import cramjam
import pytest

from tests.support.waiting import HANGING_S
from tidemill.transport.kafka.patches.decompression_limit import MAX_UNPACKED_BYTES

BOMB = bytes(MAX_UNPACKED_BYTES + 1)

UNTOUCHED = """
import aiokafka.client, aiokafka.codec, aiokafka.conn
import aiokafka.consumer.fetcher as fetcher
from aiokafka.producer import sender
from aiokafka.record import default_records, memory_records

import tidemill.transport.kafka

assert fetcher.MemoryRecords is memory_records.MemoryRecords
assert default_records.gzip_decode is aiokafka.codec.gzip_decode
assert aiokafka.client.create_conn is aiokafka.conn.create_conn
assert sender.BACKOFF_OVERRIDE == 0.02
tidemill.transport.kafka.KafkaConnection(bootstrap="127.0.0.1:1").options()
assert fetcher.MemoryRecords is not memory_records.MemoryRecords
assert default_records.gzip_decode is not aiokafka.codec.gzip_decode
assert aiokafka.client.create_conn is not aiokafka.conn.create_conn
assert sender.BACKOFF_OVERRIDE < 0.02
"""


@pytest.mark.parametrize(
    ("decode", "packed"),
    [
        (aiokafka.codec.gzip_decode, gzip.compress(BOMB, 1)),
        (aiokafka.codec.zstd_decode, bytes(cramjam.zstd.compress(BOMB))),
        (aiokafka.codec.lz4_decode, bytes(cramjam.lz4.compress(BOMB))),
    ],
    ids=["gzip", "zstd", "lz4"],
)
def test_the_client_unpacks_whatever_a_batch_unpacks_to(decode: object, packed: bytes) -> None:
    assert callable(decode)
    assert len(decode(packed)) == len(BOMB)


def test_importing_changes_nothing_and_the_first_client_everything() -> None:
    subprocess.run([sys.executable, "-c", UNTOUCHED], check=True, timeout=HANGING_S)
