"""Opens encrypted values: `domain.secrets.SecretReader`."""

from __future__ import annotations

from functools import partial

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import MasterKeyMissing, SecretUnreadable
from tidemill.domain.secrets import SealedText
from tidemill.security.data_keys import DataKey, Place
from tidemill.security.master_keys import MasterKeys
from tidemill.security.ports import SecretKeys
from tidemill.security.values import generations, opened_members


class KeyedSecretReader:
    """Opens values with the master keys of this process; it keeps no data key."""

    def __init__(self, keys: SecretKeys, masters: MasterKeys | None) -> None:
        """`masters`: None where none is set; clear values are read in any case."""
        self._keys = keys
        self._masters = masters

    async def open(self, collection: str, key: str, field: str, text: str) -> str:
        """See `SecretReader`."""
        sealed = SealedText.of(text)
        if sealed is None:
            return text
        place = Place(collection, key, field)
        data_keys = await self._data_keys(place, frozenset({sealed.generation}))
        return _opened(data_keys, sealed, place)

    async def open_members(self, collection: str, key: str, field: str, text: str) -> str:
        """See `SecretReader`."""
        needed = generations(text)
        if not needed:
            return text
        place = Place(collection, key, field)
        return opened_members(text, place, partial(_opened, await self._data_keys(place, needed)))

    async def _data_keys(self, place: Place, needed: frozenset[int]) -> dict[int, DataKey]:
        if self._masters is None:
            raise MasterKeyMissing("no master key is set here")
        rows = {row.generation: row for row in await self._keys.stored(place.collection, place.key)}
        if lost := needed - rows.keys():
            detail = f"key {min(lost)} of this row is not in the database"
            raise SecretUnreadable(str(place), detail, code=ErrorCode.SECRET_KEY_LOST)
        return {number: self._masters.unwrap(rows[number]) for number in needed}


def _opened(data_keys: dict[int, DataKey], sealed: SealedText, place: Place) -> str:
    return data_keys[sealed.generation].open(sealed, place)
