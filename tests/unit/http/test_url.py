"""URLs are read strictly: nothing is replaced, cut, or taken for something else."""

from __future__ import annotations

import pytest

from tidemill.domain.errors import RequestRefused
from tidemill.http.url import MAX_BYTES, MAX_PARAMETERS, demand_short, pairs, segments, text_of


def test_a_path_is_split_before_it_is_decoded() -> None:
    assert [text_of(part, "id") for part in segments(b"/api/db/c/a%2Fb%2Cc")] == ["api", "db", "c", "a/b,c"]


def test_parameters_keep_their_order_and_repeat() -> None:
    assert pairs(b"a=1&b=x+y&a=%2B&c=&&%C3%A4=%C3%B6") == [
        ("a", "1"),
        ("b", "x y"),
        ("a", "+"),
        ("c", ""),
        ("ä", "ö"),
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (b"a=%FF", "a is not UTF-8"),
        (b"%ff=1", "a parameter's name is not UTF-8"),
        (b"a=%C0%80", "a is not UTF-8"),
        (b"a=%ED%A0%80", "a is not UTF-8"),
        (b"a=%00", "a has a NUL"),
        (b"a=%", "a has a %"),
        (b"a=%2", "a has a %"),
        (b"a=%zz", "a has a %"),
        (b"a", "a has no value"),
        (b"&".join([b"a=1"] * (MAX_PARAMETERS + 1)), f"{MAX_PARAMETERS + 1} parameters"),
    ],
)
def test_what_cannot_be_read_is_refused(query: bytes, said: str) -> None:
    with pytest.raises(RequestRefused, match=said) as refused:
        pairs(query)
    assert refused.value.request_code == "BAD_PARAMETER"


def test_a_url_has_a_length() -> None:
    demand_short(b"/" * 100, b"q" * (MAX_BYTES - 101))
    with pytest.raises(RequestRefused) as refused:
        demand_short(b"/" * 100, b"q" * (MAX_BYTES - 100))
    assert refused.value.request_code == "URL_TOO_LONG"
