"""Facts are asked for within a time: without a bound every chunk of a hypertable would be read."""

from __future__ import annotations

from typing import Final

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.collections import COMMAND_ID, VisibleCollection
from tidemill.queries.filters import Filter, demanded

LOWER_BOUNDS: Final = frozenset({"gt", "gte", "eq", "in"})
VALUES: Final = frozenset({"eq", "in"})


def demand_time_bound(collection: VisibleCollection, where: Filter) -> None:
    """Refuse a filter of facts that bounds neither their time from below nor names their commands.

    Only predicates count that hold of every row: those within `_or` and `_not` do not.

    Raises `RequestRefused` (`TIME_BOUND_REQUIRED`).
    """
    time = collection.time_column
    if time is None or any(_bounds(part.column, part.operator, time) for part in demanded(where)):
        return
    other = f", or {COMMAND_ID}=" if collection.column(COMMAND_ID) else ""
    detail = f"facts of {collection.name} are asked for within a time: give {time}.gte=...{other}"
    fault = RequestFault("parameter", f"{time}.gte", detail, RequestCode.TIME_BOUND_REQUIRED)
    raise RequestRefused(RequestCode.TIME_BOUND_REQUIRED, detail, fault)


def _bounds(column: str, operator: str, time: str) -> bool:
    if column == COMMAND_ID:
        return operator in VALUES
    return column == time and operator in LOWER_BOUNDS
