"""How a value names its schema.

Two forms, distinguished by their first bytes: Confluent's (`00`, 4 bytes of a registry's id, big-endian) and Avro's
single-object encoding (`c3 01`, 8 bytes of the schema's CRC-64-AVRO fingerprint, little-endian).
"""

from __future__ import annotations

from typing import Final

ID_MAGIC: Final = b"\x00"
ID_BYTES: Final = 5
FINGERPRINT_MAGIC: Final = b"\xc3\x01"
FINGERPRINT_BYTES: Final = 10

LARGEST_ID: Final = (1 << 31) - 1
"""Registries number their schemas with a signed 32-bit integer."""


def prefix_of_id(schema_id: int) -> bytes:
    """Return the five bytes in front of a body whose schema has this id in the registry."""
    return ID_MAGIC + schema_id.to_bytes(4, "big")


def id_of_prefix(prefix: bytes) -> int:
    """Return the id within the five bytes of `prefix_of_id`."""
    return int.from_bytes(prefix[1:], "big")


def prefix_of_fingerprint(fingerprint: bytes) -> bytes:
    """Return the ten bytes in front of a body whose schema has this fingerprint."""
    return FINGERPRINT_MAGIC + fingerprint


def schema_of_prefix(prefix: bytes) -> str:
    """Return the name of a prefix's schema for people: its id, or its fingerprint in hexadecimal."""
    if prefix.startswith(ID_MAGIC):
        return str(id_of_prefix(prefix))
    return prefix[len(FINGERPRINT_MAGIC) :].hex()
