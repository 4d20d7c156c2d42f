r"""The headers of a parked record in the database: as JSON that PostgreSQL takes, and that restores them unchanged.

    [[name, base64 of the value | null], ...]        order and repeats are kept

In a name NUL is `\0`, `\` is `\\`, and a byte that is not UTF-8, which is read as a lone surrogate, is `\udc80` to
`\udcff`: neither `jsonb` nor `text` holds these, and a Kafka header's name may.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode

from tidemill.domain.headers import Headers

_ESCAPED = re.compile(r"\\(u[0-9a-f]{4}|.)", re.DOTALL)
_HALF = re.compile("[\ud800-\udfff]")


def headers_text(headers: Headers) -> str:
    """Return headers as the text that is stored."""
    return json.dumps(
        [[_escaped(name), None if value is None else b64encode(value).decode()] for name, value in headers]
    )


def headers_of(text: str) -> tuple[tuple[str, bytes | None], ...]:
    """Return the headers of a stored text, unchanged."""
    return tuple(
        (_ESCAPED.sub(_meant, name), None if value is None else b64decode(value))
        for name, value in json.loads(text)
    )


def _escaped(name: str) -> str:
    whole = name.replace("\\", "\\\\").replace("\x00", "\\0")
    return _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", whole)


def _meant(escape: re.Match[str]) -> str:
    if len(escape[1]) > 1:
        return chr(int(escape[1][1:], 16))
    return "\x00" if escape[1] == "0" else escape[1]
