"""The parts of a request's URL, decoded strictly: a byte that is not UTF-8 is refused, never replaced.

Frameworks decode `%2F` and `%2C` before a path can be split, replace bad bytes, and take the last of parameters of one
name: here a path is split first, and the parameters are pairs in their order.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode

MAX_BYTES: Final = 8 * 1024
MAX_PARAMETERS: Final = 1_000

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

Pairs = list[tuple[str, str]]


def demand_short(path: bytes, query: bytes) -> None:
    """Refuse a URL of more than 8 KiB. Raises `RequestRefused`."""
    size = len(path) + len(query) + 1
    if size > MAX_BYTES:
        raise RequestRefused(
            RequestCode.URL_TOO_LONG, f"the URL has {size} bytes, more than {MAX_BYTES} are not read"
        )


def segments(path: bytes) -> tuple[bytes, ...]:
    """Return the segments of a raw path, as they were sent."""
    return tuple(path.split(b"/")[1:])


def pairs(query: bytes) -> Pairs:
    """Return the parameters of a raw query, in order. Raises `RequestRefused`: one cannot be read."""
    if not query:
        return []
    parts = query.split(b"&")
    if len(parts) > MAX_PARAMETERS:
        raise RequestRefused(
            RequestCode.BAD_PARAMETER, f"there are {len(parts)} parameters, more than {MAX_PARAMETERS}"
        )
    return [_pair(part) for part in parts if part]


def _pair(part: bytes) -> tuple[str, str]:
    name, equals, value = part.partition(b"=")
    if not equals:
        shown = name[:40].decode("ascii", "backslashreplace")
        raise _bad(shown, "has no value: write NAME=VALUE")
    return text_of(name.replace(b"+", b" "), "a parameter's name"), text_of(
        value.replace(b"+", b" "), name[:60].decode("ascii", "backslashreplace")
    )


def text_of(raw: bytes, what: str) -> str:
    """Return the text of a raw part. `what`: names it in the refusal. Raises `RequestRefused`."""
    if b"%" in raw:
        if _BAD_ESCAPE.search(raw):
            raise _bad(what, "has a % that two hexadecimal digits do not follow: write %25")
        raw = unquote_to_bytes(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _bad(what, "is not UTF-8") from None
    if "\x00" in text:
        raise _bad(what, "has a NUL, which no text here has")
    return text


def _bad(what: str, detail: str) -> RequestRefused:
    return RequestRefused(
        RequestCode.BAD_PARAMETER,
        f"{what} {detail}",
        RequestFault("parameter", what, detail, RequestCode.BAD_PARAMETER),
    )
