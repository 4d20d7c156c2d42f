"""A limit of the unpacked size of a compressed Kafka batch.

Six kilobytes of zstd unpack to 200 MiB, below every size limit of the broker, and the client unpacks a whole batch
before it can be checked: one record could end every process that owns its lane. So the client's decoders are
replaced by ones that stop; such a batch then cannot be unpacked, which halts its lane with a code.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import aiokafka.record.default_records as plain
import cramjam
from aiokafka.codec import _detect_xerial_stream
from aiokafka.record._crecords import default_records as compiled

MAX_UNPACKED_BYTES: Final = 32 << 20
"""Over a hundred times the largest command, thirty times the largest event, as they are limited by default."""

_GZIP: Final = 31
_XERIAL_HEADER_BYTES: Final = 16
_BLOCK_SIZE: Final = struct.Struct("!i")
_room = bytearray(MAX_UNPACKED_BYTES)  # only its used pages take memory


class UnpacksTooLarge(ValueError):
    """A batch unpacks to more than `MAX_UNPACKED_BYTES`, or to more records than are read."""

    def __init__(self, what: str = f"the batch unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB") -> None:
        super().__init__(what)


def unpack(codec: int, payload: bytes, *, behind: bytes) -> bytes:
    """Return the unpacked records of a batch, after its header, in one copy.

    `codec`: by Kafka's number. Raises what the codecs raise.
    """
    return b"".join([behind, *_PARTS[codec](payload)])


def limit_unpacking() -> None:
    """Add the limit to the client's parsers, for this process. Safe to repeat."""
    for parser in (compiled, plain):
        parser.gzip_decode = _gzip
        parser.snappy_decode = _snappy
        parser.lz4_decode = _lz4
        parser.zstd_decode = _zstd


def _gzip(payload: bytes) -> bytes:
    return b"".join(_gzip_parts(payload))


def _gzip_parts(payload: bytes) -> list[bytes]:
    parts: list[bytes] = []
    left = MAX_UNPACKED_BYTES
    while payload:
        member = zlib.decompressobj(_GZIP)
        parts.append(member.decompress(payload, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise UnpacksTooLarge
        if not member.eof:
            raise EOFError("the gzip stream ends too early")
        payload = member.unused_data
    return parts


def _snappy(payload: bytes) -> bytes:
    return b"".join(_snappy_parts(payload))


def _snappy_parts(payload: bytes) -> list[bytes]:
    blocks = list(_xerial_blocks(payload)) if _detect_xerial_stream(payload) else [payload]
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > MAX_UNPACKED_BYTES:
        raise UnpacksTooLarge
    return [bytes(cramjam.snappy.decompress_raw(block)) for block in blocks]


def _xerial_blocks(payload: bytes) -> Iterator[memoryview]:
    stream = memoryview(payload)[_XERIAL_HEADER_BYTES:]
    while stream:
        (size,) = _BLOCK_SIZE.unpack_from(stream)
        if not 0 < size <= len(stream) - _BLOCK_SIZE.size:
            raise EOFError("a snappy block ends too early")
        yield stream[_BLOCK_SIZE.size : _BLOCK_SIZE.size + size]
        stream = stream[_BLOCK_SIZE.size + size :]


def _lz4(payload: bytes) -> bytes:
    return bytes(_into_room(cramjam.lz4, payload))


def _zstd(payload: bytes) -> bytes:
    return bytes(_into_room(cramjam.zstd, payload))


def _into_room(codec: Any, payload: bytes) -> memoryview:
    """Return the part of the room that was used, until it is used again."""
    try:
        size = codec.decompress_into(payload, _room)
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error):
            raise UnpacksTooLarge from error
        raise
    return memoryview(_room)[:size]


_PARTS: Final[dict[int, Callable[[bytes], Sequence[bytes | memoryview]]]] = {
    1: _gzip_parts,
    2: _snappy_parts,
    3: lambda payload: [_into_room(cramjam.lz4, payload)],
    4: lambda payload: [_into_room(cramjam.zstd, payload)],
}
