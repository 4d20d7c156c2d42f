"""JSON objects as text, with what makes trouble in databases: NUL, surrogates, huge and tiny numbers, odd keys."""

import json

from hypothesis import strategies as st

_characters = st.text(max_size=8) | st.sampled_from(
    ["\x00", "\ud800", "\udfff\ud800", "\U0001f600", "type", ""]
)
_numbers = st.sampled_from(
    [
        "0",
        "-0",
        "-0.0",
        "1e308",
        "1e309",
        "1e400",
        "1E-400",
        "1e-20000",
        "0e-99999",
        "9" * 310,
        "0." + "0" * 390 + "1",
    ]
) | st.floats(allow_nan=False, allow_infinity=False).map(repr)


def json_objects() -> st.SearchStrategy[str]:
    """Texts of JSON objects, most of them harmless."""
    strings = _characters.map(json.dumps)
    leaves = st.sampled_from(["null", "true", "false"]) | st.integers().map(str) | _numbers | strings
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]") | _objects(inner),
    )
    return _objects(values)


def _objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.tuples(_characters.map(json.dumps), values).map(": ".join)
    return st.lists(members, max_size=4).map(lambda items: f"{{{', '.join(items)}}}")
