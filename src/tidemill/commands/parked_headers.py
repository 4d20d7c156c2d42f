"""The headers of records to be parked, as text: made while no lane is locked, with pauses for other tasks.

A record may have a thousand headers, and a batch thousands of records: under the lock this would block
the lanes for that time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from tidemill.commands.numbering import Disposition
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.errors import Unreadable
from tidemill.domain.headers import Headers

_AT_A_STRETCH: Final = 1_000  # headers, written in about 2 ms


def unwritten(fresh: Sequence[IncomingCommand], dispositions: Sequence[Disposition]) -> list[IncomingCommand]:
    """Return the records that are to be parked without the text of their headers."""
    return [
        arrival
        for arrival, disposition in zip(fresh, dispositions, strict=True)
        if isinstance(disposition, Unreadable) and arrival.headers_text is None
    ]


async def write_headers(parked: Sequence[IncomingCommand], text_of: Callable[[Headers], str]) -> None:
    """Make the text of the headers by `text_of`, of some records at a stretch.

    Whatever else runs gets its turns in between.
    """
    written = 0
    for arrival in parked:
        if arrival.headers_text is None:
            arrival.headers_text = text_of(arrival.record.headers)
            written += len(arrival.record.headers)
            if written > _AT_A_STRETCH:
                written = 0
                await asyncio.sleep(0)
