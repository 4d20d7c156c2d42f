"""Signing in: a password is checked as a read, in the same time whoever asks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tidemill.api.passwords import verify_password
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import SecretUnreadable
from tidemill.domain.folded_text import folded
from tidemill.domain.secrets import SecretReader
from tidemill.runtime.rate_limits import RateLimiter


@dataclass(frozen=True)
class Account:
    """Who may sign in. `key`: of the row. `password_hash`: as it is stored, mostly encrypted."""

    key: str
    password_hash: str
    is_active: bool


class SignInRows(Protocol):
    """The accounts, by the name that people sign in with."""

    async def account(self, name: str) -> Account | None:
        """Return the account in force of this name, None if there is none. Raises `Unavailable`."""
        ...


class SignInOutcome(StrEnum):
    """What is said of an attempt. An unknown name, a wrong password and an inactive account look the same."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    TOO_OFTEN = "too_often"


@dataclass(frozen=True)
class SignInAnswer:
    """The answer to an attempt. `key`: of the account, if accepted. `retry_after_s`: if it was asked too often."""

    outcome: SignInOutcome
    key: str | None = None
    retry_after_s: float = 0.0


class SignIn:
    """Checks names and passwords. `collection`, `field`: where the hash is kept, as its encryption is bound to it."""

    def __init__(
        self,
        rows: SignInRows,
        secrets: SecretReader,
        limiter: RateLimiter,
        *,
        collection: str,
        field: str,
        max_checks: int = 4,
    ) -> None:
        """`limiter`: counts attempts by name; a success begins anew. `max_checks`: at once; each takes 64 MiB."""
        self._rows = rows
        self._secrets = secrets
        self._limiter = limiter
        self._collection = collection
        self._field = field
        self._room = asyncio.Semaphore(max_checks)

    async def verify(self, name: str, password: str) -> SignInAnswer:
        """Check a password.

        Raises:
            MasterKeyMissing: this process cannot open the hash.
            SecretUnreadable: the stored hash was changed, or its row's key is lost; an erased one is refused.
            Unavailable: the database does not answer.
        """
        counted_as = folded(name.strip())  # one account, however its name is written
        if retry_after_s := self._limiter.take(counted_as):
            return SignInAnswer(SignInOutcome.TOO_OFTEN, retry_after_s=retry_after_s)
        account = await self._rows.account(name)
        stored = None if account is None else await self._hash_of(account)
        async with self._room:
            matches = await asyncio.to_thread(verify_password, stored, password)
        if account is None or not (matches and account.is_active):
            return SignInAnswer(SignInOutcome.REFUSED)
        self._limiter.reset(counted_as)
        return SignInAnswer(SignInOutcome.ACCEPTED, key=account.key)

    async def _hash_of(self, account: Account) -> str | None:
        try:
            return await self._secrets.open(self._collection, account.key, self._field, account.password_hash)
        except SecretUnreadable as error:
            if error.code != ErrorCode.SECRET_ERASED:
                raise
            return None
