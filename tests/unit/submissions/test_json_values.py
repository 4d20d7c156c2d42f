"""Nothing that a body says is lost in the command that is made of it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import Field

from tidemill.domain.messages import Message
from tidemill.submissions.json_values import NotEmbedded, json_text, losses


class Part(Message):
    size: Decimal


class Whole(Message):
    at: datetime | None = None
    price: Decimal | None = None
    parts: tuple[Part, ...] = ()
    flag: bool | None = None
    count: int | None = None
    share: float | None = Field(None, allow_inf_nan=True)


@pytest.mark.parametrize(
    ("given", "where", "fault"),
    [
        ({"at": "2026-11-30T10:00:00"}, "/at", "has no offset: end it with Z for UTC"),
        ({"at": "2026-11-30T10:00:00.0000001Z"}, "/at", "is finer than a microsecond: round it"),
        ({"at": 5}, "/at", "must be a text, such as 2026-11-30T10:00:00Z"),
        (
            {"price": 0.1234567890123456},
            "/price",
            "has more digits than a JSON number keeps: send it as a text",
        ),
        (
            {"parts": [{"size": "1"}, {"size": 0.1234567890123456}]},
            "/parts/1/size",
            "has more digits than a JSON number keeps: send it as a text",
        ),
        ({"flag": "true"}, "/flag", "must be true or false"),
        ({"count": True}, "/count", "must not be true or false"),
        ({"share": "0.5"}, "/share", 'must be a number, or "NaN", "Infinity" or "-Infinity"'),
        ({"share": "inf"}, "/share", 'must be a number, or "NaN", "Infinity" or "-Infinity"'),
        ({"share": 2**53 + 1}, "/share", "has more digits than the field: round it"),
    ],
)
def test_a_loss_is_found_where_it_is(given: dict[str, Any], where: str, fault: str) -> None:
    assert list(losses(given, Whole.model_validate(given))) == [(where, fault)]


@pytest.mark.parametrize(
    "given",
    [
        {"at": "2026-11-30T10:00:00.123456+02:00", "price": "1.10", "parts": [{"size": 5}], "flag": False},
        {"at": None, "price": 10.25, "count": 2**60},
        {"count": "9007199254740993"},
        {"share": "Infinity"},
        {"share": "-Infinity"},
        {"share": "NaN"},
        {"share": -0.0},
    ],
)
def test_what_is_kept_is_no_loss(given: dict[str, Any]) -> None:
    assert list(losses(given, Whole.model_validate(given))) == []


def test_json_has_one_text() -> None:
    assert json_text({"b": [1, {"d": 1, "c": "é"}], "a": None}) == '{"a":null,"b":[1,{"c":"é","d":1}]}'
    assert json_text(["é", {"b": 1, "a": 2}]) == '["é",{"a":2,"b":1}]'
    with pytest.raises(NotEmbedded, match="must be a JSON object or array, embedded"):
        json_text("[]")
    with pytest.raises(NotEmbedded, match="does not have"):
        json_text({"a": float("nan")})
