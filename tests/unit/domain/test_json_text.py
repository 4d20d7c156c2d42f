"""The quick look at a JSON object: what it lets pass is what the whole check lets pass."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidemill.domain.json_text import is_storable_object, json_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
PIECES = st.sampled_from(
    [
        *"{}[]:, 1",
        *['"a"', '"b"', '":"', '"\\u0000"', '"\\ud800"', "\\u0000", "\x00", "\ud800", "'a'", "//x"],
        *["true", "null", "NaN", "Infinity", "-Infinity"],
        *["-0.0", "1e5", "1E400", "01", "1.", ".5", "+1", "9" * 400],
    ]
)


def passes_the_whole_check(text: str) -> bool:
    try:
        json_object(text, "it")
    except ValueError:
        return False
    return True


@given(VALUES.map(json.dumps) | VALUES.map(lambda value: json.dumps(value, ensure_ascii=False)) | st.text())
def test_what_passes_at_once_passes_the_whole_check(text: str) -> None:
    assert not is_storable_object(text) or passes_the_whole_check(text)


@given(st.lists(PIECES, max_size=9).map("".join).map(lambda inner: f"{{{inner}}}"))
@example('{"a" :1,"a":2}')
@example('{"a":":","a":1}')
@example('{"a":{"b":1},"c":{"b":1,"b":2}}')
def test_what_is_put_together_passes_at_once_only_if_it_passes_the_whole_check(text: str) -> None:
    assert not is_storable_object(text) or passes_the_whole_check(text)


@pytest.mark.parametrize(
    "text",
    ["{}", '{"theme": "dark", "rows": 12, "at": "2026-12-01T10:00:00Z", "of": {"a": [1.5, {"b": null}]}}'],
)
def test_usual_objects_pass_at_once(text: str) -> None:
    assert is_storable_object(text)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "1",
        '{"a": 1, "a": 1}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 500 + "}",
        '{"a": "' + "x" * 70_000 + '"}',
        '{"a": ' + "[" * 65 + "]" * 65 + "}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": "\\u0000"}',
        '{"a": "\ud800"}',
        '{"a": 01}',
        '{"a": 1',
    ],
)
def test_what_cannot_be_stored_does_not(text: str) -> None:
    assert not is_storable_object(text)
    assert not passes_the_whole_check(text)
