"""JSON objects as text: which of them jsonb can keep, so that the database refuses nothing."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic_core import from_json

from tidemill.domain.strict_json import MAX_DEPTH, JsonBounds, JsonFault, is_storable_text, read_json_object

MAX_BYTES: Final = 64 * 1024
MAX_EXPONENT: Final = (
    400  # beyond any float; jsonb would write the zeros out, and refuses above 131,072 of them
)

_BOUNDS: Final = JsonBounds(max_exponent=MAX_EXPONENT, exact=False)
_NESTED: Final = (dict, list)

_UNUSUAL: Final = re.compile(r"[^][{}:, \t\n\rtruefalsn0-9.-]|[0-9.]{40}|[0-9]e")
"""Between strings: what is in no JSON, numbers that are long, and those with an exponent."""


def is_storable_object(text: str) -> bool:
    """Tell of most texts, and at once, that they are JSON objects that can be stored; False: `json_object` tells.

    Without a backslash every second part between quotation marks is a string as it stands, so that the rest shows how
    many keys there are, how long the numbers may be, and how deep it goes.
    """
    if "\\" in text or 4 * len(text) > MAX_BYTES or not is_storable_text(text):
        return False
    structure = "".join(text.split('"')[::2])
    if structure.count("{") + structure.count("[") > MAX_DEPTH or _UNUSUAL.search(structure):
        return False
    try:
        data = from_json(text)
    except ValueError:
        return False
    return isinstance(data, dict) and _keys(data) == structure.count(":")


def _keys(data: Any) -> int:
    """Return how many keys there are, at every depth."""
    count, parts = (len(data), data.values()) if isinstance(data, dict) else (0, data)
    for part in parts:
        if part.__class__ in _NESTED:
            count += _keys(part)
    return count


def json_object(text: str, name: str) -> dict[str, Any]:
    """Return the JSON object that a text is, if it can be stored. `name`: of the field, for what is said of it.

    Raises:
        ValueError: it is none, or cannot be stored; the message says why.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ValueError(f"{name} has more than {MAX_BYTES} bytes")
    try:
        return read_json_object(text, _BOUNDS)
    except JsonFault as fault:
        raise ValueError(f"{name} {fault}") from fault.__cause__
