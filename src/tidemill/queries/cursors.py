"""Cursors: a place in a page's order as a text that only the service can make. No state, no expiry, no authority.

    base64url( JSON [version, fingerprint, direction, given, values] , HMAC-SHA256 of that, 16 bytes )

The fingerprint is of collection, visible columns, filter and order: with other arguments the place would mean nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any, Final

from tidemill.domain.errors import RequestFault, RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.queries.collections import VisibleCollection
from tidemill.queries.filters import Filter, canonical
from tidemill.queries.order import Order, Position

VERSION: Final = 1
_FORWARD: Final = "f"
_TAG_BYTES: Final = 16
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def fingerprint(collection: VisibleCollection, where: Filter, order: Order) -> str:
    """Return what a cursor must agree with; the order of a filter's members does not count."""
    return fingerprint_of(collection.row_rule, repr([tuple(key) for key in order]), canonical(where))


def fingerprint_of(*parts: str) -> str:
    """Return the fingerprint of what a cursor was made for, told in texts."""
    text = "\n".join(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Cursors:
    """Makes and reads cursors. `key`: a secret that all processes share; another key makes all cursors invalid."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sealed(self, position: Position, arguments: str) -> str:
        """Return the cursor of a place. `arguments`: the fingerprint."""
        content = [VERSION, arguments, _FORWARD, position.given, position.values]
        payload = _COMPACT.encode(content).encode()
        return base64.urlsafe_b64encode(payload + self._tag(payload)).rstrip(b"=").decode()

    def opened(self, text: str, arguments: str) -> Position:
        """Return the place of a cursor.

        Raises `RequestRefused` (`CURSOR_MISMATCH`): it was not made here, was changed, or is of other arguments.
        """
        sealed = _decoded(text)
        payload, tag = sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(payload)):
            raise mismatch()
        version, made_for, direction, given, values = _content(payload)
        if (version, direction) != (VERSION, _FORWARD) or not hmac.compare_digest(made_for, arguments):
            raise mismatch()
        return Position(tuple(values), given)

    def _tag(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, "sha256")[:_TAG_BYTES]


def _decoded(text: str) -> bytes:
    try:
        raw = text.encode("ascii")
        sealed = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise mismatch() from None
    # the last character may hold bits that decode to nothing: only one text is the cursor
    if base64.urlsafe_b64encode(sealed).rstrip(b"=") != raw:
        raise mismatch()
    return sealed


def _content(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:  # only with the key itself could it come to this
        raise mismatch() from None


def mismatch() -> RequestRefused:
    """Return the refusal of a cursor that does not fit its request."""
    detail = "the cursor is not one of this request"
    fault = RequestFault("parameter", "_after", detail, RequestCode.CURSOR_MISMATCH)
    return RequestRefused(RequestCode.CURSOR_MISMATCH, detail, fault)
