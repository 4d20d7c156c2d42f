"""What security needs of servers: keys of secrets, the journal, principals with their grants, the keys of JWTs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from tidemill.security.data_keys import SecretKeyRow
from tidemill.security.journal import EntryRef, JournalRow
from tidemill.security.master_keys import MasterKey
from tidemill.security.principal_rows import PrincipalChange, PrincipalState


class KeyCount(NamedTuple):
    """How many data keys of a collection a master key wraps, and how many of those it wrapped were erased."""

    collection: str
    master: str
    keys: int
    erased: int


class KeyPlace(NamedTuple):
    """The primary key of a row of `tm.secret_key`."""

    collection: str
    key: str
    generation: int


class DataKeyStore(Protocol):
    """The data keys inside a batch's transaction. Every call may raise `TransientError`."""

    async def load(self, collection: str, keys: Sequence[str]) -> list[SecretKeyRow]:
        """Return the keys of these rows of a collection, of all generations.

        None of them is erased before the transaction ends.
        """
        ...

    async def add(self, master: MasterKey, rows: Sequence[SecretKeyRow]) -> None:
        """COPY new keys, all wrapped by `master`, whose name is registered with them."""
        ...


class SecretKeys(Protocol):
    """The data keys and master keys of the database. Every call may raise `Unavailable`."""

    async def masters(self) -> Mapping[str, bytes]:
        """Return name -> check value of every master key that is registered."""
        ...

    async def stored(self, collection: str, key: str) -> list[SecretKeyRow]:
        """Return the keys of one row, of all generations, in order."""
        ...

    async def counts(self) -> list[KeyCount]:
        """Return the number of keys by collection and master key, in their order."""
        ...

    async def rewrap(
        self,
        master: MasterKey,
        after: KeyPlace | None,
        limit: int,
        rewrapped: Callable[[Sequence[SecretKeyRow]], Sequence[SecretKeyRow]],
    ) -> tuple[KeyPlace | None, int]:
        """Wrap the next keys that another master key wraps anew, in one transaction.

        `rewrapped` returns those of at most `limit` rows that could be wrapped anew, by `master`, whose name is
        registered. Returns the place of the last row that was looked at, None at the end, and how many were changed.
        """
        ...

    async def erase(self, collection: str, key: str) -> int:
        """Erase every key of a row; waits for batches that use them. Returns how many were erased."""
        ...

    async def give_up(self, master: str) -> int:
        """Erase every key that a master key wraps, and its name. Returns how many were erased."""
        ...

    async def drop_unused_masters(self, keep: str) -> list[str]:
        """Remove the names of master keys that wrap nothing any more, but `keep`; return them."""
        ...


class PrincipalReader(Protocol):
    """Principals, grants and tokens, to be read. May raise `Unavailable`."""

    async def changed_since(self, version: str | None) -> PrincipalState | None:
        """Return all rows, as they were at one moment; None if their version is still this one."""
        ...


class PrincipalStore(Protocol):
    """Principals, grants and tokens, to be changed; with a login that may do so. May raise `Unavailable`."""

    async def change(
        self, decided: Callable[[PrincipalState], Awaitable[PrincipalChange]]
    ) -> PrincipalChange:
        """Change what `decided` makes of all rows, in one transaction, one change after the other.

        If `decided` raises, nothing is changed. It may wait, for a journal.
        """
        ...


class KeySetSource(Protocol):
    """Where the operator has put the key set (JWKS) of those who sign JWTs."""

    async def key_set(self) -> bytes:
        """Return it as it is. Raises `Unavailable`, also if it is too large or not answered in time."""
        ...

    async def close(self) -> None:
        """Close connections."""


class JournalStore(Protocol):
    """Where a process stores its entries. Every call may raise `TransientError`."""

    async def now(self) -> datetime:
        """Return the server's time."""
        ...

    async def append(self, rows: Sequence[JournalRow]) -> bool:
        """Store rows, all or none; return once they are durable. False: none, since one of their places is taken.

        After an error it is unknown whether they are stored, until `hash_of` is asked or `append` returns.
        """
        ...

    async def hash_of(self, ref: EntryRef) -> bytes | None:
        """Return the hash of the entry that is stored at a place, None if there is none."""
        ...


class OpenIntent(NamedTuple):
    """An intent without an outcome, and what the log says of its command.

    `outcome`: the log's letter, None if the log does not have the command. `code`: of a rejection. `logged_at`: when
    it was decided. `log_begins`: since when the log is complete.
    """

    row: JournalRow
    outcome: bytes | None
    code: str | None
    logged_at: datetime | None
    log_begins: datetime | None


class JournalReader(Protocol):
    """The journal, to be checked. Every call may raise `Unavailable`."""

    async def size(self) -> int:
        """Return the number of entries."""
        ...

    def rows(self) -> AsyncIterator[Sequence[JournalRow]]:
        """Yield all entries as of one moment, by writer and number, some hundreds at a time."""
        ...

    def open_intents(self) -> AsyncIterator[Sequence[OpenIntent]]:
        """Yield the intents without an outcome as of one moment, by writer and number, some hundreds at a time."""
        ...

    async def hash_of(self, ref: EntryRef) -> bytes | None:
        """Return the hash of the entry that is stored at a place, None if there is none."""
        ...
