"""BatchCompression of the relay's batches, by Kafka's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import cramjam

_SNAPPY_HEADER: Final = b"\x82SNAPPY\x00" + (1).to_bytes(4, "big") * 2
"""Java's framing: a magic name, version and least compatible version; then blocks, each after its length."""


class BatchCompression(NamedTuple):
    """A codec. `number`: what a batch says of it."""

    number: int
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]


def unpacked_size(frame: bytes) -> int | None:
    """Return how many bytes a zstd frame has, unpacked, if it says so (RFC 8878, section 3.1.1.1)."""
    descriptor = frame[4]
    single, code = descriptor >> 5 & 1, descriptor >> 6
    if not (single or code):
        return None
    window, dictionary = int(not single), (0, 1, 2, 4)[descriptor & 3]
    begin = 5 + window + dictionary
    size = int.from_bytes(frame[begin : begin + (1, 2, 4, 8)[code]], "little")
    return size + 256 if code == 1 else size


def _snappy(records: bytes) -> bytes:
    block = bytes(cramjam.snappy.compress_raw(records))
    return _SNAPPY_HEADER + len(block).to_bytes(4, "big") + block


def _unsnappy(records: bytes) -> bytes:
    return bytes(cramjam.snappy.decompress_raw(records[len(_SNAPPY_HEADER) + 4 :]))


NONE: Final = BatchCompression(0, bytes, bytes)
GZIP: Final = BatchCompression(
    1,
    lambda records: bytes(cramjam.gzip.compress(records, level=1)),
    lambda records: bytes(cramjam.gzip.decompress(records)),
)
SNAPPY: Final = BatchCompression(2, _snappy, _unsnappy)
ZSTD: Final = BatchCompression(
    4,
    lambda records: bytes(cramjam.zstd.compress(records, level=1)),
    lambda records: bytes(cramjam.zstd.decompress(records)),
)

COMPRESSIONS: Final[Mapping[str, BatchCompression]] = {
    "none": NONE,
    "gzip": GZIP,
    "snappy": SNAPPY,
    "zstd": ZSTD,
}
"""By the names that Kafka's clients use. LZ4 is left out: its readers may reserve 4 MiB for each batch."""
