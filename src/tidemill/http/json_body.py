"""JSON bodies, read strictly: what two parsers would read differently is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.domain.strict_json import JsonBounds, JsonFault, read_json, read_json_object

T = TypeVar("T")

MAX_DIGITS: Final = 400

_BOUNDS: Final = JsonBounds(max_digits=MAX_DIGITS)


def json_of(body: bytes) -> Any:
    """Return the value of a JSON body: integers exact, other numbers as floats.

    Raises:
        RequestRefused: it is not UTF-8 or not JSON; a key comes twice; it is nested deeper than 64 levels; a number
            overflows; a string has a NUL or half a surrogate pair.
    """
    return _read(body, read_json)


def object_of(body: bytes) -> dict[str, Any]:
    """Return the members of a JSON object. Raises `RequestRefused` as `json_of`, and if it is no object."""
    return _read(body, read_json_object)


def bad_body(detail: str, pointer: str = "") -> RequestRefused:
    """Return the refusal of a body; `detail` goes on from "the body"."""
    return RequestRefused(
        RequestCode.BAD_BODY,
        f"the body {detail}",
        RequestFault("pointer", pointer, detail, RequestCode.BAD_BODY),
    )


def _read(body: bytes, read: Callable[[str, JsonBounds], T]) -> T:
    if body.startswith(b"\xef\xbb\xbf"):
        raise bad_body("begins with a byte order mark: leave it out")
    try:
        return read(body.decode(), _BOUNDS)
    except UnicodeDecodeError as error:
        raise bad_body(f"is not UTF-8 at byte {error.start}") from None
    except JsonFault as fault:
        raise bad_body(_said(fault)) from None


def _said(fault: JsonFault) -> str:
    """Say where a text is no JSON without its number of characters: lines and columns are what editors show."""
    error = fault.__cause__
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    return str(fault)
