"""JSON of requests as values of jsonb: the words for what is wrong with it, and the text of a decoded value."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

from tidemill.domain.strict_json import JsonBounds, JsonFault, JsonFaultKind, check_decoded, read_json

_BOUNDS: Final = JsonBounds()
_WORDS: Final = {
    JsonFaultKind.UNSTORABLE: "a string has a NUL or half a surrogate pair",
    JsonFaultKind.NOT_A_NUMBER: "{} is not a JSON number",
    JsonFaultKind.NOT_A_VALUE: "{} is not a value of JSON",
}


def parsed(text: str) -> Any:
    """Return the value of a JSON text; integers are exact. Raises `JsonFault`."""
    return read_json(text, _BOUNDS)


def compact(value: Any) -> str:
    """Return the JSON text of a decoded value. Raises `JsonFault` if it is one that no text holds."""
    check_decoded(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_written)


def sentence(fault: JsonFault) -> str:
    """Return what is wrong, in words that need no subject."""
    if fault.kind is JsonFaultKind.OUT_OF_RANGE:
        return "a number is out of range" + (f": {fault.detail}" if fault.detail else "")
    return _WORDS[fault.kind].format(fault.detail) if fault.kind in _WORDS else f"it {fault}"


def _written(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    name = type(value).__name__
    raise JsonFault(JsonFaultKind.NOT_A_VALUE, f"has a {name}, which is not a value of JSON", name)
