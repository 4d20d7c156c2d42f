"""JSON bodies are read strictly: what two parsers would read differently is refused."""

from __future__ import annotations

import pytest

from tidemill.domain.errors import RequestRefused
from tidemill.http.json_body import json_of, object_of


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 18446744073709551617}', {"a": 18446744073709551617}),
        (b'{"a": -0.0, "b": 1e3}', {"a": 0.0, "b": 1000.0}),
        ('{"ü": "\\ud83d\\ude00"}'.encode(), {"ü": "😀"}),
        (b'{"a": "[[[[[[{{{{"}', {"a": "[[[[[[{{{{"}),
        (b"[" * 64 + b"]" * 64, None),
    ],
)
def test_what_is_exact_stays_exact(body: bytes, value: object) -> None:
    assert value is None or json_of(body) == value
    json_of(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is not JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'{"a": 1, "a": 2}', "has a key twice"),
        (b'{"b": {"a": 1, "a": 1}}', "has a key twice"),
        (b"[" * 65 + b"]" * 65, "deeper than 64"),
        (b'{"a":' * 100_000, "deeper than 64"),
        (b'["]]' + b"[" * 65, "is not JSON"),
        (b'["\\"[", ' + b"[" * 64, "deeper than 64"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"1e999", "out of range"),
        (b"1" * 401, "more than 400 digits"),
        (b'"\\u0000"', "NUL"),
        (b'{"\\ud800": 1}', "surrogate"),
        (b'"\x00"', "is not JSON"),
        (b"{} {}", "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
    ],
)
def test_what_readers_differ_in_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(RequestRefused, match=said) as refused:
        json_of(body)
    assert refused.value.request_code == "BAD_BODY"


def test_a_text_without_an_end_is_read_once() -> None:
    """Read anew from each of its quotation marks, one of a megabyte would hold the process for hours."""
    with pytest.raises(RequestRefused, match="is not JSON"):
        json_of(b'"' + b'\\"' * 500_000)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"a"', b"null"])
def test_an_object_is_one(body: bytes) -> None:
    with pytest.raises(RequestRefused, match="not a JSON object"):
        object_of(body)
