"""The headers of records to be parked, as text: made while no lane is locked, with pauses for other tasks.

A record may have a thousand headers, and a batch thousands of records: under the lock this would block
the lanes for that time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from tidemill.commands.numbering import Fate
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.errors import Unreadable
from tidemill.domain.parked import headers_text

_AT_A_STRETCH: Final = 1_000  # headers, written in about 2 ms


def unwritten(fresh: Sequence[IncomingCommand], fates: Sequence[Fate]) -> list[IncomingCommand]:
    """Return the records that are to be parked without the text of their headers."""
    return [
        arrival
        for arrival, fate in zip(fresh, fates, strict=True)
        if isinstance(fate, Unreadable) and arrival.headers_text is None
    ]


async def write_headers(parked: Sequence[IncomingCommand]) -> None:
    """Make the text of the headers, of a few records at a time: other tasks run in between."""
    written = 0
    for arrival in parked:
        if arrival.headers_text is None:
            arrival.headers_text = headers_text(arrival.record.headers)
            written += len(arrival.record.headers)
            if written > _AT_A_STRETCH:
                written = 0
                await asyncio.sleep(0)
