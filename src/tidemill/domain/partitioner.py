"""The lane of a key: Kafka's murmur2 partitioner.

The rule is Apache Kafka's `org.apache.kafka.common.utils.Utils#murmur2` with `toPositive(hash) % partitions`, which the
Java client and aiokafka use for keyed records; librdkafka calls it `murmur2_random`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_MULTIPLIER: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_MASK: Final = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return Kafka's 32-bit murmur2 hash of `key`, unsigned."""
    length = len(key)
    hashed = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        hashed = (hashed * _MULTIPLIER & _MASK) ^ word
    if length > whole:
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _MASK
    hashed = (hashed ^ hashed >> 13) * _MULTIPLIER & _MASK
    return hashed ^ hashed >> 15


@lru_cache(maxsize=65536)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of `key` among `partitions`. Cached: hot keys repeat, and the hash is pure Python."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
