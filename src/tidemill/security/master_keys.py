"""The master keys of a deployment, which wrap the data keys of rows. The first one wraps, the others only unwrap."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import MasterKeyMissing, SecretUnreadable
from tidemill.security.data_keys import KEY_BYTES, DataKey, Place, SecretKeyRow, box, unbox

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_EXPECTED: Final = f"expected NAME:KEY, several separated by commas; a key is {KEY_BYTES} bytes as base64"


@dataclass(frozen=True)
class MasterKey:
    """A master key; its name is stored beside what it wrapped."""

    name: str
    secret: bytes = field(repr=False)

    @classmethod
    def fresh(cls, name: str) -> Self:
        """Return a new random key."""
        return cls(name, os.urandom(KEY_BYTES))

    @cached_property
    def cipher(self) -> AESGCM:
        """Return what encrypts with it; to make that takes twice as long as to use it."""
        return AESGCM(self.secret)

    @property
    def setting(self) -> str:
        """Return it as a part of the setting `TIDEMILL_SECRET_KEYS`."""
        return f"{self.name}:{base64.b64encode(self.secret).decode()}"

    def check_value(self) -> bytes:
        """Return what only this key opens, to be stored: by it a wrong key of the same name is seen at start."""
        return box(self.cipher, b"", self._bound)

    def fits(self, check_value: bytes) -> bool:
        """Tell whether a check value is of this key."""
        try:
            return unbox(self.cipher, check_value, self._bound) == b""
        except InvalidTag:
            return False

    @property
    def _bound(self) -> bytes:
        return f"master {self.name}".encode()


class MasterKeys:
    """The master keys that a process has; at least one."""

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        """`keys`: with different names."""
        self._keys = {key.name: key for key in keys}
        self.first = keys[0]

    @classmethod
    def parse(cls, setting: str) -> Self:
        """Return the keys of the setting `TIDEMILL_SECRET_KEYS`.

        Raises:
            ValueError: it is not as expected; the message holds no part of it but names.
        """
        keys = [_parsed(part.strip()) for part in setting.split(",")]
        if len({key.name for key in keys}) < len(keys) or len({key.secret for key in keys}) < len(keys):
            raise ValueError("expected each name and each key once")
        return cls(keys)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names, the first one first."""
        return tuple(self._keys)

    def faults(self, registered: Mapping[str, bytes]) -> dict[str, str]:
        """Return name -> what is wrong, for those of the database's master keys that cannot be used here.

        `registered`: name -> check value, of all that wrap data keys.
        """
        missing = dict.fromkeys(sorted(registered.keys() - self._keys.keys()), "is not set")
        wrong = [
            name for name, key in self._keys.items() if name in registered and not key.fits(registered[name])
        ]
        return missing | dict.fromkeys(wrong, "is another key than the one that had this name before")

    def wrap(self, data_key: DataKey, collection: str, key: str) -> SecretKeyRow:
        """Return the row in which a data key is stored, wrapped by the first master key."""
        bound = Place(collection, key).bound("key", data_key.generation)
        wrapped = box(self.first.cipher, data_key.secret, bound)
        return SecretKeyRow(collection, key, data_key.generation, wrapped, self.first.name)

    def unwrap(self, row: SecretKeyRow) -> DataKey:
        """Return the data key of a row.

        Raises:
            MasterKeyMissing: its master key is not set, or is another one of that name.
            SecretUnreadable: it was erased.
        """
        place = Place(row.collection, row.key)
        if row.wrapped is None:
            raise SecretUnreadable(str(place), "the key was erased", code=ErrorCode.SECRET_ERASED)
        master = self._keys.get(row.master)
        if master is None:
            raise MasterKeyMissing(f"master key {row.master} is not set", masters=(row.master,))
        try:
            secret = unbox(master.cipher, row.wrapped, place.bound("key", row.generation))
        except InvalidTag:
            raise MasterKeyMissing(
                f"the {place} was not wrapped by this master key {row.master}, or was changed",
                code=ErrorCode.SECRET_KEY_WRONG,
                masters=(row.master,),
            ) from None
        return DataKey(row.generation, secret)


def _parsed(text: str) -> MasterKey:
    name, _, encoded = text.partition(":")
    if not _NAME.fullmatch(name):
        raise ValueError(_EXPECTED)
    try:
        secret = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError(f"{name}: {_EXPECTED}") from None
    if len(secret) != KEY_BYTES:
        raise ValueError(f"{name}: {_EXPECTED}, not {len(secret)}")
    return MasterKey(name, secret)
