"""The allowed JSON of a profile: what jsonb and the index on `type` can store, so that the database refuses nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

MAX_BYTES: Final = 64 * 1024
MAX_TYPE_CHARACTERS: Final = 200
MAX_EXPONENT: Final = (
    400  # beyond any float; jsonb would write the zeros out, and refuses above 131,072 of them
)
_MAX_DEPTH: Final = 64

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def checked(text: str) -> str:
    """Return `text` unchanged if it is a JSON object that can be stored.

    Raises:
        ValueError: it is not; the message says why.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ValueError(f"profile_data has more than {MAX_BYTES} bytes")
    data = _parsed(text)
    if not isinstance(data, dict):
        raise ValueError("profile_data is not a JSON object")  # noqa: TRY004  pydantic reports ValueErrors only
    for part in _strings(data):
        if _UNSTORABLE.search(part):
            raise ValueError("profile_data has a NUL or half a surrogate pair in a string")
    _check_type(data)
    return text


def type_of(text: str) -> str | None:
    """Return the member `type` of profile data that was checked."""
    value = json.loads(text).get("type")
    return value if isinstance(value, str) else None


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
        raise ValueError(f"profile_data is not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError(f"profile_data is nested deeper than {_MAX_DEPTH} levels") from error


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that comes twice: readers differ in which one they use, and the database checks all of them."""
    found = dict(members)
    if len(found) < len(members):
        keys = [key for key, _ in members]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"profile_data has a key twice: {twice[:40]!r}")
    return found


def _number(literal: str) -> float:
    """Refuse a number that would overflow: 1e400 is infinite to most readers, 1e200000 an error in the database."""
    mantissa, _, exponent = literal.lower().partition("e")
    if len(mantissa) > MAX_EXPONENT or len(exponent) > 4 or abs(int(exponent or "0")) > MAX_EXPONENT:
        raise ValueError(f"profile_data has a number out of range: {literal[:40]}")
    value = float(literal)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"profile_data has a number out of range: {literal[:40]}")
    return value


def _no_number(literal: str) -> NoReturn:
    raise ValueError(f"profile_data has {literal}, which is not a JSON number")


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
    raise ValueError(f"profile_data is nested deeper than {_MAX_DEPTH} levels")


def _check_type(data: dict[str, Any]) -> None:
    kind = data.get("type")
    if kind is not None and not (isinstance(kind, str) and len(kind) <= MAX_TYPE_CHARACTERS):
        raise ValueError(f"profile_data's type is not a text of at most {MAX_TYPE_CHARACTERS} characters")
