"""A body whose fields are invalid is refused with all that is wrong with the others, too."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.engine.commands import base
from tidemill.contexts.market_data.messages import RecordMarketData
from tidemill.domain.errors import RequestRefused
from tidemill.submissions.command_fields import command_of

FIELDS = {"symbol": "AAPL", "time": "2013-03-01T00:00:00Z", "price": 1.0, "source": "test"}


def faults(**fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(RequestRefused) as refused:
        command_of(RecordMarketData, FIELDS | fields, base(), None)
    return [(fault.where, fault.detail) for fault in refused.value.faults]


def test_declared_checks_of_valid_fields_are_told_with_invalid_fields() -> None:
    empty = ("/source", "String should have at least 1 character")
    assert faults(source="", high=1.0, low=2.0) == [empty, ("", "high 1.0 is below low 2.0")]
    assert faults(source="") == [empty]


def test_a_declared_check_is_told_once() -> None:
    assert faults(high=1.0, low=2.0) == [("", "high 1.0 is below low 2.0")]


def test_a_check_of_an_invalid_field_is_left_out() -> None:
    assert [where for where, _ in faults(high="much", low=2.0)] == ["/high"]
