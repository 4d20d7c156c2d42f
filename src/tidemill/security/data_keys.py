"""Data keys: a random one for each row, wrapped by a master key of the deployment (envelope encryption by AES-GCM).

Every box is a random nonce of 12 bytes, then ciphertext and tag, bound to its place: a box that is moved to another
row or field does not open.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidemill.domain.errors import SecretUnreadable
from tidemill.domain.secrets import SealedText, sealed_form

KEY_BYTES: Final = 32
_quoted = json.encoder.encode_basestring_ascii
_NONCE_BYTES: Final = 12


class SecretKeyRow(NamedTuple):
    """A row of `tm.secret_key`: the data key of a row of a collection. `wrapped`: None once it is erased."""

    collection: str
    key: str
    generation: int
    wrapped: bytes | None
    master: str


class Place(NamedTuple):
    """Where an encrypted value belongs. `field`: its name; of a member of a JSON object with the path to it."""

    collection: str
    key: str
    field: str = ""

    def __str__(self) -> str:
        """Return the words for it."""
        return f"{self.field or 'key'} of {self.collection} {self.key!r}"

    def within(self, path: tuple[str, ...]) -> Place:
        """Return the place of a member of the JSON object that is stored here."""
        return Place(self.collection, self.key, "/".join((self.field, *path)))

    def bound(self, purpose: str, generation: int) -> bytes:
        """Return the bytes that a box of this place is bound to."""
        before, after = _before_key(purpose, self.collection), _after_key(self.field, generation)
        return f"{before}{_quoted(self.key)}{after}".encode()


# A place is bound as `json.dumps` writes the list of its parts. Of many rows only the keys differ.


@lru_cache(maxsize=100)
def _before_key(purpose: str, collection: str) -> str:
    return f"[{_quoted(purpose)}, {_quoted(collection)}, "


@lru_cache(maxsize=1_000)
def _after_key(field: str, generation: int) -> str:
    return f", {_quoted(field)}, {generation}]"


@dataclass
class DataKey:
    """The key of one row. `generation`: counts its keys from 1; `is_new`: it is not stored yet.

    A batch makes one for every row, and one that is not frozen takes a third of the time.
    """

    generation: int
    secret: bytes = field(repr=False)
    is_new: bool = False

    @classmethod
    def fresh(cls, generation: int) -> Self:
        """Return a new random key."""
        return cls(generation, os.urandom(KEY_BYTES), is_new=True)

    def seal(self, text: str, place: Place) -> str:
        """Return the encrypted form of a text, as it is stored; it differs each time."""
        return sealed_form(self.generation, box(self._cipher, text.encode(), self._bound(place)))

    def open(self, sealed: SealedText, place: Place) -> str:
        """Return the clear text. Raises `SecretUnreadable` if it was not sealed by this key for this place."""
        try:
            return unbox(self._cipher, sealed.box, self._bound(place)).decode()
        except InvalidTag:
            raise SecretUnreadable(
                str(place), "the ciphertext is not the one that was written here"
            ) from None

    @property
    def _cipher(self) -> AESGCM:
        # kept by hand: the lock of `cached_property` takes half as long as to make a cipher
        cipher: AESGCM | None = self.__dict__.get("cipher")
        if cipher is None:
            cipher = self.__dict__["cipher"] = AESGCM(self.secret)
        return cipher

    def _bound(self, place: Place) -> bytes:
        return place.bound("value", self.generation)


def box(cipher: AESGCM, clear: bytes, bound: bytes) -> bytes:
    """Encrypt `clear`, bound to other bytes."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, clear, bound)


def unbox(cipher: AESGCM, sealed: bytes, bound: bytes) -> bytes:
    """Return what `box` encrypted. Raises `InvalidTag` for another key, other bytes, or a changed box."""
    return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
