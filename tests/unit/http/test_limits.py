"""The limits that the schema shows are those that requests are held to."""

from __future__ import annotations

import pytest

from tidemill.domain.errors import RequestRefused
from tidemill.http.limits import limits_of
from tidemill.http.url import demand_short
from tidemill.queries.fault_list import FaultList
from tidemill.queries.request import check_limit


def test_settings_are_shown_as_they_are_set() -> None:
    limits = limits_of(query_s=3, max_waiting=7, units_per_s=9)
    assert (limits["query_seconds"], limits["waiting_writes"], limits["units_per_second"]) == (3, 7, 9)


def test_a_page_and_a_url_may_be_as_large_as_shown_and_no_larger() -> None:
    limits, faults = limits_of(query_s=5, max_waiting=1, units_per_s=1), FaultList("parameter")
    rows, size = int(limits["page_rows"]), int(limits["url_bytes"])
    assert check_limit(rows, "_limit", faults) == rows
    faults.raise_any()
    check_limit(rows + 1, "_limit", faults)
    with pytest.raises(RequestRefused):
        faults.raise_any()
    demand_short(b"/" * (size - 1), b"")
    with pytest.raises(RequestRefused):
        demand_short(b"/" * size, b"")
