"""A parked record's headers, as they are kept and had again."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from tidemill.storage.database.header_json import headers_of, headers_text

_halves = st.characters(categories=["Cs"])
_names = st.text(max_size=10) | st.text(st.sampled_from("\\0\x00udcf8") | _halves, max_size=10)
_headers = st.lists(st.tuples(_names, st.none() | st.binary(max_size=20)), max_size=5)


@given(_headers)
@example([("a\x00b", b"nul"), ("a\\0b", b"no nul"), ("\\u0000", None), ("a\x00b", b"")])
@example([("\udcff", b"a byte"), ("\\udcff", b"text"), ("\\\udcff", b"both")])
def test_headers_come_back_as_they_were_and_jsonb_takes_them(headers: list[tuple[str, bytes | None]]) -> None:
    text = headers_text(headers)
    assert headers_of(text) == tuple(headers)
    names = "".join(name for name, _ in json.loads(text))
    assert "\x00" not in names
    assert names.encode().decode() == names
