"""One reader of JSON: what its users say of each fault, how deep and how large a value may be."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest
from pydantic import BaseModel

from tidemill.domain.errors import RequestRefused
from tidemill.domain.json_text import json_object
from tidemill.domain.strict_json import (
    MAX_DEPTH,
    JsonBounds,
    JsonFault,
    check_decoded,
    read_json,
    signed_integer,
)
from tidemill.http.json_body import object_of
from tidemill.queries.json_values import compact, parsed, sentence

DEEP = f'{{"a": {"[" * MAX_DEPTH}{"]" * MAX_DEPTH}}}'
FAULTS = [
    ('{"a": 1', "is not JSON: Expecting ',' delimiter: line 1 column 8 (char 7)", None),
    ('{"a": 1, "a": 2}', "has a key twice: 'a'", None),
    ('{"a": NaN}', "has NaN, which is not a JSON number", "NaN is not a JSON number"),
    ('{"a": 1e400}', "has a number out of range: 1e400", "a number is out of range: 1e400"),
    (
        '{"a": "\\u0000"}',
        "has a NUL or half a surrogate pair in a string",
        "a string has a NUL or half a surrogate pair",
    ),
    (
        '{"\\ud800": 1}',
        "has a NUL or half a surrogate pair in a string",
        "a string has a NUL or half a surrogate pair",
    ),
    (DEEP, "is nested deeper than 64 levels", None),
]


@pytest.mark.parametrize(("text", "predicate", "words"), FAULTS)
def test_each_user_says_it_in_its_own_words(text: str, predicate: str, words: str | None) -> None:
    with pytest.raises(ValueError) as of_a_field:  # noqa: PT011  compared as a whole below
        json_object(text, "payload")
    assert str(of_a_field.value) == f"payload {predicate}"
    with pytest.raises(JsonFault) as of_a_parameter:
        parsed(text)
    assert sentence(of_a_parameter.value) == (words or f"it {predicate}")
    with pytest.raises(RequestRefused) as of_a_body:
        object_of(text.encode())
    in_editors = predicate.replace(": line 1 column 8 (char 7)", " at line 1, column 8")
    assert of_a_body.value.detail == f"the body {in_editors}"


@pytest.mark.parametrize("text", ["-0", "-0.0", "-0e1"])
def test_minus_zero_keeps_its_sign_where_a_float_is_wanted_and_is_zero_elsewhere(text: str) -> None:
    """JSON has one kind of number: a client that writes floats without a point where they are whole writes -0."""

    class Point(BaseModel):
        value: float | None
        place: int

    given = read_json(f'{{"value": {text}, "place": {text}}}', JsonBounds())
    point = Point.model_validate(given)
    assert point.value is not None
    assert math.copysign(1.0, point.value) == -1.0
    assert (type(point.place), str(point.place)) == (int, "0")


def test_a_signed_zero_of_our_own_answers_is_shown_with_its_sign() -> None:
    row = json.loads('{"value": -0, "points": "0", "count": 0, "below": -1}', parse_int=signed_integer)
    assert json.dumps(row) == '{"value": -0.0, "points": "0", "count": 0, "below": -1}'


def test_a_zero_has_no_sign_where_json_is_embedded() -> None:
    value = read_json("[-0, 0, 10, -10]", JsonBounds())
    assert json.dumps(value) == "[0, 0, 10, -10]"
    assert [math.copysign(1.0, float(number)) for number in value] == [-1.0, 1.0, 1.0, -1.0]


def test_it_may_be_as_deep_as_the_bound() -> None:
    text = DEEP.replace("[[", "[", 1).replace("]]", "]", 1)
    assert compact(read_json(text, JsonBounds())) == text.replace(" ", "")
    for bounds in (JsonBounds(max_depth=MAX_DEPTH - 1), JsonBounds(max_depth=1)):
        with pytest.raises(JsonFault, match=f"deeper than {bounds.max_depth} levels"):
            read_json(text, bounds)


@pytest.mark.parametrize("count", [MAX_DEPTH, MAX_DEPTH + 1])
def test_a_decoded_value_may_be_as_deep_as_its_text(count: int) -> None:
    value: object = "leaf"
    for _ in range(count):
        value = [value]
    if count == MAX_DEPTH:
        assert parsed(compact(value)) == value
        return
    with pytest.raises(JsonFault, match="deeper than 64 levels"):
        check_decoded(value)


def test_numbers_are_bounded_as_their_user_says() -> None:
    assert read_json("9" * 308, JsonBounds(exact=False)) == float("9" * 308)
    assert read_json("9" * 400, JsonBounds(max_digits=400)) == int("9" * 400)
    with pytest.raises(JsonFault, match="more than 400 digits"):
        read_json("9" * 401, JsonBounds(max_digits=400))
    with pytest.raises(JsonFault, match="out of range: 0e401"):
        read_json("0e401", JsonBounds(max_exponent=400))
    assert read_json("0e401", JsonBounds()) == 0.0


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "a number is out of range"), ({"a": b""}, "bytes is not a value of JSON")],
)
def test_a_decoded_value_that_no_text_holds_is_named(value: object, words: str) -> None:
    with pytest.raises(JsonFault) as fault:
        compact(value)
    assert sentence(fault.value) == words


def test_a_decimal_is_written_as_a_number() -> None:
    assert compact({"a": Decimal("1.50")}) == '{"a":1.5}'
