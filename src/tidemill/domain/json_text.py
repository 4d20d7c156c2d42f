"""JSON objects as text: which of them jsonb can keep, so that the database refuses nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from pydantic_core import from_json

MAX_BYTES: Final = 64 * 1024
MAX_EXPONENT: Final = (
    400  # beyond any float; jsonb would write the zeros out, and refuses above 131,072 of them
)
_MAX_DEPTH: Final = 64

_NESTED: Final = (dict, list)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_UNUSUAL: Final = re.compile(r"[^][{}:, \t\n\rtruefalsn0-9.-]|[0-9.]{40}|[0-9]e")
"""Between strings: what is in no JSON, numbers that are long, and those with an exponent."""


class _Unfit(Exception):
    """What is wrong with a text, without the name of its field."""


def is_storable_object(text: str) -> bool:
    """Tell of most texts, and at once, that they are JSON objects that can be stored; False: `json_object` tells.

    Without a backslash every second part between quotation marks is a string as it stands, so that the rest shows how
    many keys there are, how long the numbers may be, and how deep it goes.
    """
    if "\\" in text or 4 * len(text) > MAX_BYTES or not _is_storable(text):
        return False
    structure = "".join(text.split('"')[::2])
    if structure.count("{") + structure.count("[") > _MAX_DEPTH or _UNUSUAL.search(structure):
        return False
    try:
        data = from_json(text)
    except ValueError:
        return False
    return isinstance(data, dict) and _keys(data) == structure.count(":")


def _is_storable(text: str) -> bool:
    return "\x00" not in text if text.isascii() else _UNSTORABLE.search(text) is None


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
    try:
        return _object_of(text)
    except _Unfit as fault:
        raise ValueError(f"{name} {fault}") from fault.__cause__


def _object_of(text: str) -> dict[str, Any]:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _Unfit(f"has more than {MAX_BYTES} bytes")
    data = _parsed(text)
    if not isinstance(data, dict):
        raise _Unfit("is not a JSON object")
    for part in _strings(data):
        if _UNSTORABLE.search(part):
            raise _Unfit("has a NUL or half a surrogate pair in a string")
    return data


def _parsed(text: str) -> Any:
    try:
        return json.loads(
            text,
            parse_float=_number,
            parse_int=_number,
            parse_constant=_no_number,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise _Unfit(f"is not JSON: {error}") from error
    except RecursionError as error:
        raise _Unfit(f"is nested deeper than {_MAX_DEPTH} levels") from error


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that comes twice: readers differ in which one they use, and the database checks all of them."""
    if (twice := key_given_twice(members)) is not None:
        raise _Unfit(f"has a key twice: {twice[:40]!r}")
    return dict(members)


def key_given_twice(members: Sequence[tuple[str, Any]]) -> str | None:
    """Return the first key of an object that comes again, None if each comes once."""
    counts = Counter(key for key, _ in members) if len(dict(members)) < len(members) else Counter()
    return next((key for key, count in counts.items() if count > 1), None)


def _number(literal: str) -> float:
    """Refuse a number that would overflow: 1e400 is infinite to most readers, 1e200000 an error in the database."""
    mantissa, _, exponent = literal.lower().partition("e")
    if len(mantissa) > MAX_EXPONENT or len(exponent) > 4 or abs(int(exponent or "0")) > MAX_EXPONENT:
        raise _Unfit(f"has a number out of range: {literal[:40]}")
    value = float(literal)
    if value in (float("inf"), float("-inf")):
        raise _Unfit(f"has a number out of range: {literal[:40]}")
    return value


def _no_number(literal: str) -> NoReturn:
    raise _Unfit(f"has {literal}, which is not a JSON number")


def _strings(data: Any) -> Iterator[str]:
    """Yield every key and string, level by level."""
    level: list[Any] = [data]
    for _depth in range(_MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                yield value
            elif isinstance(value, dict):
                below.extend(value)
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return
        level = below
    raise _Unfit(f"is nested deeper than {_MAX_DEPTH} levels")
