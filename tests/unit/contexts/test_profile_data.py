"""Profile data: which JSON is taken, and in which words the rest is refused."""

import json

import pytest
from hypothesis import given

from tests.support.json_texts import json_objects
from tidemill.contexts.connector_profiles.profile_data import checked, type_of
from tidemill.domain.json_text import MAX_BYTES


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        ' {"type": "kafka", "servers": ["a:1", "b:2"], "tls": {"verify": true}, "retries": 3, "wait": 1.5e-3} ',
        '{"emoji": "\\ud83d\\ude00", "": null}',
        '{"big": 123456789012345678901234567890, "small": 1e-300}',
        '{"type": null}',
    ],
)
def test_objects_are_kept_as_they_came(text: str) -> None:
    assert checked(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('"{}"', "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": 1e999}', "out of range: 1e999"),
        ('{"a": 1e-20000}', "out of range"),
        ('{"a": 1e' + "9" * 6000 + "}", "out of range"),
        ('{"a": ' + "9" * 5000 + "}", "out of range: 9999"),
        ('{"a": 0.' + "1" * 5000 + "}", "out of range"),
        ('{"a": "x\\u0000"}', "NUL"),
        ('{"\\u0000": 1}', "NUL"),
        ('{"a": [{"b": "\\ud800"}]}', "half a surrogate pair"),
        ('{"a": "\x00"}', "not JSON"),
        ('{"a": "\\u0000", "a": 1}', "key twice: 'a'"),
        ('{"a": [{"b": 1, "b": 1}]}', "key twice: 'b'"),
        ('{"type": "' + "x" * 201 + '"}', "type is not a text"),
        ('{"type": 1}', "type is not a text"),
        ('{"a": ' + "[" * 65 + "]" * 65 + "}", "nested deeper"),
        ('{"a": ' + "[" * 30_000 + "]" * 30_000 + "}", "nested deeper"),
        ('{"a": "' + "x" * MAX_BYTES + '"}', "more than 65536 bytes"),
        ('{"a": "' + "ä" * (MAX_BYTES // 2) + '"}', "more than 65536 bytes"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        checked(text)


@given(json_objects())
def test_what_is_taken_can_be_read_by_everybody(text: str) -> None:
    try:
        checked(text)
    except ValueError:
        return
    data = json.loads(text)
    json.dumps(data, allow_nan=False).encode()
    assert type_of(text) == data.get("type")
