"""The headers of a record, and how many of them are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

Headers = Sequence[tuple[str, bytes | None]]

MAX_HEADERS: Final = 1_000
MAX_HEADER_BYTES: Final = 64 << 10
"""Of one record, as Kafka encodes them: what a source reads of its headers, the first ones if it has more."""

CUT_HEADERS: Final = "tm_headers_cut"


class CutHeaders(NamedTuple):
    """The header that is put behind the first ones of a record that has more than are read; told by its class.

    `value`: how many there were, in words.
    """

    name: str
    value: bytes


def cut_headers(headers: Headers) -> str | None:
    """Return how many headers a record had if not all of them were read, None if they were."""
    last = headers[-1] if headers else None
    return last.value.decode() if isinstance(last, CutHeaders) else None
