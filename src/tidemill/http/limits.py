"""What one request may ask for, by name: shown by the schema of each collection, and listed in docs/http.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tidemill.domain.strict_json import MAX_DEPTH
from tidemill.http.exchange import BODY_WITHIN_S, MAX_BODY_BYTES
from tidemill.http.preferences import MAX_WAIT_S
from tidemill.http.url import MAX_BYTES, MAX_PARAMETERS
from tidemill.queries.json_filters import MAX_FILTER_DEPTH
from tidemill.queries.operands import MAX_PREDICATES, MAX_VALUES
from tidemill.queries.ports import MAX_CAPPED_COUNT
from tidemill.queries.reader import MAX_PAGE_BYTES
from tidemill.queries.request import MAX_LIMIT, MAX_SORT
from tidemill.queries.seen import MAX_LANES
from tidemill.submissions.identifiers import MAX_KEY_CHARACTERS
from tidemill.submissions.writes import MAX_LINES

FIXED: Final[Mapping[str, float]] = {
    "page_rows": MAX_LIMIT,
    "page_bytes": MAX_PAGE_BYTES,
    "body_bytes": MAX_BODY_BYTES,
    "body_seconds": BODY_WITHIN_S,
    "body_depth": MAX_DEPTH,
    "url_bytes": MAX_BYTES,
    "parameters": MAX_PARAMETERS,
    "predicates": MAX_PREDICATES,
    "filter_depth": MAX_FILTER_DEPTH,
    "values": MAX_VALUES,
    "sort_fields": MAX_SORT,
    "counted_rows": MAX_CAPPED_COUNT,
    "lines": MAX_LINES,
    "lanes": MAX_LANES,
    "key_characters": MAX_KEY_CHARACTERS,
    "wait_seconds": MAX_WAIT_S,
}


def limits_of(*, query_s: float, units_per_s: float, max_waiting: int) -> dict[str, float]:
    """Return the limits of a process: those that never change, and those that its settings choose."""
    chosen = {"query_seconds": query_s, "units_per_second": units_per_s, "waiting_writes": max_waiting}
    return {**FIXED, **chosen}
