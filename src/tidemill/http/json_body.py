"""JSON bodies, read strictly: what two parsers would read differently is refused."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.json_text import key_given_twice
from tidemill.domain.request_codes import RequestCode

MAX_DEPTH: Final = 64
MAX_DIGITS: Final = 400

_MARKS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
"""A bracket, or a whole string. One without an end goes to the end: else a body of quotes would be read from each."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPED: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def json_of(body: bytes) -> Any:
    """Return the value of a JSON body: integers exact, other numbers as floats.

    Raises:
        RequestRefused: it is not UTF-8 or not JSON; a key comes twice; it is nested deeper than 64 levels; a number
            overflows; a string has a NUL or half a surrogate pair.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise bad_body("begins with a byte order mark: leave it out")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise bad_body(f"is not UTF-8 at byte {error.start}") from None
    if _too_deep(body):
        raise bad_body(f"is nested deeper than {MAX_DEPTH} levels")
    value = _parsed(text)
    if _ESCAPED.search(body):
        _demand_clean(value)
    return value


def object_of(body: bytes) -> dict[str, Any]:
    """Return the members of a JSON object. Raises `RequestRefused` as `json_of`, and if it is no object."""
    value = json_of(body)
    if not isinstance(value, dict):
        raise bad_body("is not a JSON object")
    return value


def bad_body(detail: str, pointer: str = "") -> RequestRefused:
    """Return the refusal of a body; `detail` goes on from "the body"."""
    return RequestRefused(
        RequestCode.BAD_BODY,
        f"the body {detail}",
        RequestFault("pointer", pointer, detail, RequestCode.BAD_BODY),
    )


def _too_deep(body: bytes) -> bool:
    depth = 0
    for mark in _MARKS.finditer(body):
        first = body[mark.start()]
        depth += (first in b"[{") - (first in b"]}")
        if depth > MAX_DEPTH:
            return True
    return False


def _parsed(text: str) -> Any:
    try:
        return json.loads(
            text,
            parse_float=_float,
            parse_int=_integer,
            parse_constant=_no_number,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise bad_body(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := key_given_twice(members)) is not None:
        raise bad_body(f"has a key twice: {twice[:40]!r}")
    return dict(members)


def _integer(literal: str) -> int:
    if len(literal) > MAX_DIGITS:
        raise bad_body(f"has a number of more than {MAX_DIGITS} digits")
    return int(literal)


def _float(literal: str) -> float:
    value = float(literal)
    if value in (float("inf"), float("-inf")):
        raise bad_body(f"has a number out of range: {literal[:40]}")
    return value


def _no_number(literal: str) -> NoReturn:
    raise bad_body(f"has {literal}, which is not a JSON number")


def _demand_clean(value: Any) -> None:
    """Look into every key and string: JSON can escape what UTF-8 and PostgreSQL cannot hold."""
    level: list[Any] = [value]
    while level:
        below: list[Any] = []
        for part in level:
            if isinstance(part, str) and ("\x00" in part or _SURROGATE.search(part)):
                raise bad_body("has a NUL or half a surrogate pair in a string")
            if isinstance(part, dict):
                below += [*part, *part.values()]
            elif isinstance(part, list):
                below += part
        level = below
