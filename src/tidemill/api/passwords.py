"""Passwords: hashed by argon2id before they are sent, and checked against the hash that is stored."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Annotated, Any, Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from tidemill.domain.field_rules import FieldRule

MAX_PASSWORD_BYTES: Final = 1_024
MEMORY_KIB: Final = (7 * 1_024, 1_024 * 1_024)
PASSES: Final = (1, 20)
LANES: Final = (1, 16)
SALT_BYTES: Final = (8, 64)
TAG_BYTES: Final = (16, 64)

_PHC: Final = re.compile(
    r"\$argon2id\$v=19\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,9})"
    r"\$([A-Za-z0-9+/]{1,200})\$([A-Za-z0-9+/]{1,200})"
)
_HASHER: Final = PasswordHasher(type=Type.ID)
_OF_NO_PASSWORD: Final = f"$argon2id$v=19$m=65536,t=3,p=4${'A' * 22}${'A' * 43}"
"""A hash with the cost of `hash_password` that no password has: to check it takes as long as a real one."""


def _checked(text: str) -> str:
    parts = _PHC.fullmatch(text)
    if parts is None:
        raise PydanticCustomError(
            "password_hash", "expected an argon2id hash, $argon2id$v=19$m=..,t=..,p=..$SALT$HASH"
        )
    memory, passes, lanes, salt, tag = parts.groups()
    wrong = _out_of_bounds(memory, passes, lanes, len(salt), len(tag))
    if wrong is not None:
        raise PydanticCustomError(
            "password_hash", "{name} of the argon2id hash: expected {low} to {high}", wrong
        )
    return text


@lru_cache(maxsize=100)
def _out_of_bounds(memory: str, passes: str, lanes: str, salt: int, tag: int) -> dict[str, Any] | None:
    """Return what is out of bounds of a hash; nearly all hashes of a deployment have the same cost and sizes."""
    bounds = {
        "m": (int(memory), MEMORY_KIB),
        "t": (int(passes), PASSES),
        "p": (int(lanes), LANES),
        "bytes of salt": (salt * 3 // 4, SALT_BYTES),
        "bytes of hash": (tag * 3 // 4, TAG_BYTES),
    }
    for name, (value, (low, high)) in bounds.items():
        if not low <= value <= high:
            return {"name": name, "low": low, "high": high}
    return None


PasswordHash = Annotated[
    str,
    AfterValidator(_checked),
    FieldRule("An argon2id hash.", {"pattern": f"^{_PHC.pattern}$"}),
]
"""An argon2id hash as `hash_password` makes it; its cost has bounds, so that no check of a password takes long."""


def hash_password(password: str) -> str:
    """Return the hash of a password, by a random salt. It takes some 50 ms and 64 MiB.

    Raises:
        ValueError: it is empty, or longer than 1,024 bytes.
    """
    given = _composed(password)
    if not 0 < len(given) <= MAX_PASSWORD_BYTES:
        raise ValueError(f"a password has 1 to {MAX_PASSWORD_BYTES} bytes")
    return _HASHER.hash(given)


def verify_password(stored: str | None, password: str) -> bool:
    """Tell whether a password is the one of a hash; for None, as for an unknown user, the same work is done.

    It takes some 50 ms and 64 MiB: call it in a thread.
    """
    given = _composed(password)
    usable = 0 < len(given) <= MAX_PASSWORD_BYTES
    known = stored if stored is not None and _is_hash(stored) else None
    matches = _matches(known or _OF_NO_PASSWORD, given if usable else b"")
    return matches and usable and known is not None


def _is_hash(text: str) -> bool:
    try:
        return bool(_checked(text))
    except PydanticCustomError:
        return False


def _matches(stored: str, given: bytes) -> bool:
    try:
        return _HASHER.verify(stored, given)
    except (VerificationError, InvalidHashError):
        return False


def _composed(password: str) -> bytes:
    """Return the bytes that are hashed: keyboards differ in how they compose a character."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
