"""Parked records: those that could not be read or processed, unchanged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tidemill.admin.lanes.states import find_lane
from tidemill.admin.ports import DeadLetterReader, LaneReader
from tidemill.admin.rows import DeadLetter, DeadLetterEntry
from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError
from tidemill.domain.rejections import PARKED

_RECORD: Final = re.compile(r"(?P<topic>[\w.-]+)/(?P<partition>\d{1,9})@(?P<offset>\d{1,18})", re.ASCII)
_POSITION: Final = re.compile(r"\d[\d,]{0,17}", re.ASCII)
_NAMED: Final = (
    "name it as `tidemill dead-letters list` does: a lane and the position in it, as in `market-data/1 1042` "
    "or `7 1042`, or the record, as in `tidemill.market-data.commands.v1/1@5128`"
)


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """Shows parked records."""

    catalog: StreamCatalog
    parked: DeadLetterReader
    lanes: LaneReader

    async def newest(self, *, aggregate: str | None, code: str | None, limit: int) -> list[DeadLetterEntry]:
        """Return parked records, newest first. Raises `UsageError` for an unknown code or aggregate."""
        if code is not None and code not in PARKED:
            raise UsageError(
                f"there is no code {code!r}", code=ErrorCode.UNKNOWN_NAME, name=code, choices=tuple(PARKED)
            )
        chosen = self.catalog.aggregate(aggregate)
        return await self.parked.dead_letters(aggregate=chosen, code=code, limit=limit)

    async def show(self, where: str, position: str | None) -> DeadLetter:
        """Return one parked record with its content.

        `where`: a lane by number or as `AGGREGATE/PARTITION`, and the position in it; or `TOPIC/PARTITION@OFFSET`.

        Raises:
            UsageError: there is none, or the name has another form.
        """
        record = _RECORD.fullmatch(where)
        well_named = position is None or _POSITION.fullmatch(position)
        if (record is None) != (position is not None) or not well_named:
            raise UsageError(
                f"{' '.join(filter(None, (where, position)))!r} names no parked record: {_NAMED}"
            )
        if record is not None:
            place = record["topic"], int(record["partition"]), int(record["offset"])
            found, what = await self.parked.dead_letter_of(*place), f"{where} was not parked"
        else:
            state, number = await find_lane(self.lanes, where), int((position or "").replace(",", ""))
            found = await self.parked.dead_letter(state.lane, number)
            what = f"lane {where} parked nothing at position {number}"
        if found is None:
            raise UsageError(f"{what}: see `tidemill dead-letters list`")
        return found
