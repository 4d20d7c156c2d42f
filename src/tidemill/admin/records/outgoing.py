"""Records that an operator sends by hand, and where they were stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Outgoing(NamedTuple):
    """A record to send. `partition` None: that of the key, as murmur2 has it."""

    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int | None = None


class RecordPlace(NamedTuple):
    """Where a record is stored in its topic."""

    partition: int
    offset: int
