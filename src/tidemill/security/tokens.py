"""Tokens of services and people: `tm_<id>_<secret><checksum>`.

The id is public, the secret has 256 random bits, and the checksum tells a typing error, or a text that a scanner found,
from a token. Only the SHA-256 of the whole text is stored: of a random secret that is enough, and cheap on every
request.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final

from tidemill.security.principal_rows import TokenRow

PREFIX: Final = "tm_"
SCANNER_PATTERN: Final = r"tm_[0-9a-z]{10}_[0-9A-Za-z]{49}"
"""A regular expression for programs that look for tokens in places where none belongs."""

_DIGITS: Final = string.digits + string.ascii_letters
_ID_DIGITS: Final = string.digits + string.ascii_lowercase
_ID_LENGTH: Final = 10
_SECRET_LENGTH: Final = 43  # 62 ** 43 > 2 ** 256
_CHECKSUM_LENGTH: Final = 6
_ID: Final = slice(len(PREFIX), len(PREFIX) + _ID_LENGTH)
_FORM: Final = re.compile(SCANNER_PATTERN)
_SHOWN: Final = 4


@dataclass(frozen=True)
class Token:
    """A token that was just made: the only moment at which its text is known. It is in no `repr`."""

    id: str
    text: str = field(repr=False)

    @classmethod
    def fresh(cls) -> Token:
        """Make a random one."""
        token_id = "".join(secrets.choice(_ID_DIGITS) for _ in range(_ID_LENGTH))
        secret = _base62(secrets.randbits(256), _SECRET_LENGTH)
        body = f"{PREFIX}{token_id}_{secret}"
        return cls(token_id, body + _checksum(body))

    def row(self, principal: str, *, label: str, created_at: datetime, expires_at: datetime) -> TokenRow:
        """Return what is stored of it."""
        return TokenRow(
            id=self.id,
            principal=principal,
            hash=digest(self.text),
            label=label,
            last_characters=self.text[-_SHOWN:],
            created_at=created_at,
            expires_at=expires_at,
        )


def digest(text: str) -> bytes:
    """Return the hash by which a token is compared. Any text of a header has one."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def id_of(text: str) -> str:
    """Return the id of a token, of a text that is none some text without meaning."""
    return text[_ID]


def is_well_formed(text: str) -> bool:
    """Tell whether a text has the form and the checksum of a token; it says nothing about whether there is one."""
    body, checksum = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return _FORM.fullmatch(text) is not None and _checksum(body) == checksum


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
