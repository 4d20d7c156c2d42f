"""JSON of requests, read strictly: no key twice, no NaN, no number beyond a double, no NUL, a bounded depth."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Final, NoReturn

from tidemill.domain.json_text import key_given_twice

MAX_DEPTH: Final = 64

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


class JsonFault(Exception):
    """What is wrong with a text that should be JSON."""


def parsed(text: str) -> Any:
    """Return the value of a JSON text; integers are exact. Raises `JsonFault`."""
    try:
        value = json.loads(text, parse_float=_floating, parse_constant=_constant, object_pairs_hook=_object)
    except RecursionError as error:
        raise JsonFault(f"it is nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise JsonFault(f"it is not JSON: {error}") from error
    check_storable(value)
    return value


def compact(value: Any) -> str:
    """Return the JSON text of a decoded value. Raises `JsonFault` if it is one that no text holds."""
    check_storable(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_written)


def check_storable(value: Any, depth: int = 0) -> None:
    """Look at all of a decoded value. Raises `JsonFault`."""
    if depth > MAX_DEPTH:
        raise JsonFault(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            raise JsonFault("a string has a NUL or half a surrogate pair")
    elif isinstance(value, dict):
        for key, member in value.items():
            check_storable(key, depth)
            check_storable(member, depth + 1)
    elif isinstance(value, list):
        for member in value:
            check_storable(member, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise JsonFault("a number is out of range")


def _floating(literal: str) -> float:
    value = float(literal)
    if math.isinf(value):
        raise JsonFault(f"a number is out of range: {literal[:40]}")
    return value


def _constant(literal: str) -> NoReturn:
    raise JsonFault(f"{literal} is not a JSON number")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := key_given_twice(members)) is not None:
        raise JsonFault(f"it has a key twice: {twice[:40]!r}")
    return dict(members)


def _written(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    raise JsonFault(f"{type(value).__name__} is not a value of JSON")
