"""Ids that begin with the time of their making: UUIDv7 of RFC 9562."""

from __future__ import annotations

from datetime import datetime
from secrets import randbits
from uuid import UUID


def new_uuid7(at: datetime) -> UUID:
    """Return a new one of this time; its other 74 bits are random."""
    milliseconds = int(at.timestamp() * 1_000) & ((1 << 48) - 1)
    random = randbits(74)
    return UUID(
        int=milliseconds << 80 | 0x7 << 76 | random >> 62 << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    )
