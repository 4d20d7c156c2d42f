"""What a log line says of the records of a batch that were parked: how many for which code, and the first of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tidemill.commands.rows import OutboxRow
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.lane import Claim
from tidemill.domain.messages import Outcome

_MAX_DETAIL: Final = 500
_PARKED: Final = Outcome.PARKED.letter


def parked_fields(
    outcomes: Iterable[tuple[IncomingCommand, OutboxRow]], claims: Mapping[int, Claim]
) -> dict[str, Any]:
    """Return the fields of the line; none if nothing was parked. `claims`: of every lane, by its id."""
    parked = [(arrival, row) for arrival, row in outcomes if row.outcome == _PARKED]
    if not parked:
        return {}
    arrival, row = parked[0]
    lane = claims[arrival.lane_id].lane.name
    return {
        "records": len(parked),
        "codes": dict(Counter(row.code for _, row in parked)),
        "lane": lane,
        "offset": arrival.record.offset,
        "detail": (row.detail or "")[:_MAX_DETAIL],
        "next": f"tidemill dead-letters show {lane} {row.position}",
    }
