"""The keys of secrets: what they are wrapped by, rotation, erasure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import MasterKeyMissing, UsageError
from tidemill.security.data_keys import SecretKeyRow
from tidemill.security.gate import SecretFault, secret_faults
from tidemill.security.master_keys import MasterKey, MasterKeys
from tidemill.security.ports import KeyCount, SecretKeys

CHUNK_ROWS: Final = 1_000


class MasterStanding(StrEnum):
    """What is known of a master key: whether what it wraps can be read here."""

    FIRST = "wraps"
    OTHER = "unwraps"
    MISSING = "missing"
    WRONG = "wrong"


@dataclass(frozen=True)
class MasterStatus:
    """A master key, with the number of data keys that it wraps now."""

    name: str
    standing: MasterStanding
    keys: int


@dataclass(frozen=True)
class SecretStatus:
    """All master keys, and the data keys by collection.

    `erased`: how many data keys are. `unreadable`: how many have no master key here.
    """

    masters: Sequence[MasterStatus]
    collections: Sequence[KeyCount]
    erased: int
    unreadable: int


@dataclass
class RotationResult:
    """What a rotation did. `unreadable`: master key -> data keys that it could not unwrap. `removed`: unused names."""

    master: str
    rewrapped: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)
    removed: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class KeyManagement:
    """An operator's questions and decisions about the keys of secrets. `masters`: None where none is set."""

    catalog: StreamCatalog
    keys: SecretKeys
    masters: MasterKeys | None

    async def faults(self) -> list[SecretFault]:
        """Return the streams that a process with the master keys of this one would not serve. Raises `Unavailable`."""
        streams = [part.stream for part in self.catalog.contexts.values()]
        if not any(stream.secrets for stream in streams):
            return []
        return secret_faults(streams, self.masters, await self.keys.masters())

    async def status(self) -> SecretStatus:
        """Return the state of all keys. Raises `Unavailable`."""
        counts = await self.keys.counts()
        registered = await self.keys.masters()
        known = self.masters.names if self.masters else ()
        wrong = self.masters.faults(registered).keys() & set(known) if self.masters else set()
        by_master = dict.fromkeys((*known, *sorted(registered.keys() - set(known))), 0)
        for count in counts:
            by_master[count.master] = by_master.get(count.master, 0) + count.keys
        masters = [
            MasterStatus(name, self._standing(name, wrong), keys)
            for name, keys in by_master.items()
            if keys or name in known or name in registered
        ]
        lacking = {MasterStanding.MISSING, MasterStanding.WRONG}
        return SecretStatus(
            masters=masters,
            collections=counts,
            erased=sum(count.erased for count in counts),
            unreadable=sum(master.keys for master in masters if master.standing in lacking),
        )

    def _standing(self, name: str, wrong: Sequence[str] | set[str]) -> MasterStanding:
        if self.masters is None or name not in self.masters.names:
            return MasterStanding.MISSING
        if name in wrong:
            return MasterStanding.WRONG
        return MasterStanding.FIRST if name == self.masters.first.name else MasterStanding.OTHER

    async def rotate(self, progress: Callable[[int], None], *, chunk: int = CHUNK_ROWS) -> RotationResult:
        """Wrap every data key by the first master key, `chunk` in a transaction, and call `progress` after each.

        What cannot be unwrapped is left as it is, and counted. It may be ended and begun again at any time.

        Raises:
            MasterKeyMissing: no master key is set, or another one was used under the first one's name.
            Unavailable: the database does not answer.
        """
        masters = self._demanded()
        result = RotationResult(masters.first.name)

        def rewrapped(rows: Sequence[SecretKeyRow]) -> Sequence[SecretKeyRow]:
            return list(filter(None, (_rewrapped(masters, row, result) for row in rows)))

        place = None
        while True:
            place, changed = await self.keys.rewrap(masters.first, place, chunk, rewrapped)
            result.rewrapped += changed
            if place is None:
                break
            progress(changed)
        result.removed = await self.keys.drop_unused_masters(masters.first.name)
        return result

    async def erase(self, collection: str, key: str) -> int:
        """Erase the data keys of a row, so that nobody can read its secrets any more; return how many there were.

        Raises:
            UsageError: there is no such collection with secrets, or nothing is to be erased.
        """
        erased = await self.keys.erase(self._collection(collection), key)
        if not erased:
            raise UsageError(
                f"{collection} {key!r} has no key that could be erased: nothing of it is encrypted"
            )
        return erased

    async def give_up(self, master: str) -> int:
        """Erase all data keys of a master key that is lost; return how many there were.

        Raises:
            UsageError: there is no such master key, or it is set here and so is not lost.
        """
        registered = await self.keys.masters()
        if master not in registered:
            raise UsageError(
                f"there is no master key {master!r} in use",
                code=ErrorCode.UNKNOWN_NAME,
                name=master,
                choices=tuple(registered),
            )
        if self.masters is not None and master in self.masters.names:
            raise UsageError(f"master key {master} is in TIDEMILL_SECRET_KEYS, so it is not lost")
        return await self.keys.give_up(master)

    def _demanded(self) -> MasterKeys:
        if self.masters is None:
            raise MasterKeyMissing("TIDEMILL_SECRET_KEYS is not set")
        return self.masters

    def _collection(self, name: str) -> str:
        """Return the collection of a name, which may be written like its aggregate. Raises `UsageError`."""
        secrets = (part.stream.secrets for part in self.catalog.contexts.values())
        known = sorted(collection for fields in secrets for collection in fields)
        collection = name.replace("-", "_")
        if collection not in known:
            raise UsageError(
                f"there is no collection {name!r} with secrets",
                code=ErrorCode.UNKNOWN_NAME,
                name=name,
                choices=tuple(known),
            )
        return collection


def _rewrapped(masters: MasterKeys, row: SecretKeyRow, result: RotationResult) -> SecretKeyRow | None:
    try:
        return masters.wrap(masters.unwrap(row), row.collection, row.key)
    except MasterKeyMissing:
        result.unreadable[row.master] = result.unreadable.get(row.master, 0) + 1
        return None


def new_master_key(name: str) -> str:
    """Return a new random master key as a part of the setting. Raises `UsageError` for a name that is none."""
    try:
        return MasterKeys.parse(MasterKey.fresh(name).setting).first.setting
    except ValueError:
        raise UsageError(
            f"{name!r} cannot name a key: a name has lower-case letters, digits and hyphens"
        ) from None
