"""Signing in: whether a password is the one of an account, in any collection that declares who may sign in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from tidemill.api.sign_in import SignIn, SignInAnswer, SignInRows
from tidemill.catalog.streams import StreamCatalog
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import MasterKeyMissing, UsageError
from tidemill.domain.secrets import Secret
from tidemill.domain.state import SignInColumns, State
from tidemill.runtime.clock import Clock
from tidemill.runtime.rate_limits import RateLimiter
from tidemill.security.master_keys import MasterKeys
from tidemill.security.ports import SecretKeys
from tidemill.security.reader import KeyedSecretReader


class Accounts(NamedTuple):
    """A collection whose rows may sign in. `secret`: how the hash is encrypted."""

    state: State
    columns: SignInColumns
    secret: Secret


@dataclass(frozen=True, kw_only=True)
class PasswordVerifier:
    """Checks passwords. Open it once for each process: attempts are counted by collection and name.

    `open_rows`: gives the accounts of a collection. `masters`: None where none is set.
    """

    catalog: StreamCatalog
    open_rows: Callable[[State, SignInColumns], SignInRows]
    keys: SecretKeys
    masters: MasterKeys | None
    clock: Clock
    _opened: dict[str, SignIn] = field(default_factory=dict, init=False)

    async def verify(self, collection: str, name: str, password: str) -> SignInAnswer:
        """Check the password of the account in force that has this name, without regard to case.

        Raises:
            UsageError: there is no such collection, or nobody signs in with it.
            MasterKeyMissing: this process cannot open the hash, whether or not there is such an account.
            SecretUnreadable: the stored hash was changed, or its row's key is lost; an erased one is refused.
            TableMisfit: the collection's table is not as declared.
            Unavailable: the database does not answer.
        """
        accounts = self._accounts(collection)
        if self.masters is None and accounts.secret.required:
            raise MasterKeyMissing("TIDEMILL_SECRET_KEYS is not set")
        if accounts.state.name not in self._opened:
            self._opened[accounts.state.name] = self._sign_in(accounts)
        return await self._opened[accounts.state.name].verify(name, password)

    def _sign_in(self, accounts: Accounts) -> SignIn:
        return SignIn(
            self.open_rows(accounts.state, accounts.columns),
            KeyedSecretReader(self.keys, self.masters),
            RateLimiter(self.clock),
            collection=accounts.state.name,
            field=accounts.columns.password_hash,
        )

    def _accounts(self, name: str) -> Accounts:
        """Return the collection of a name, which may be written like its aggregate. Raises `UsageError`."""
        known = {accounts.state.name: accounts for accounts in self._all_accounts()}
        collection = name.replace("-", "_")
        if collection in known:
            return known[collection]
        fact = f"there is no collection {name!r} that anybody signs in with"
        if not known:
            raise UsageError(f"{fact}, nor any other: TIDEMILL_CONTEXTS chooses the contexts")
        raise UsageError(fact, code=ErrorCode.UNKNOWN_NAME, name=name, choices=tuple(sorted(known)))

    def _all_accounts(self) -> list[Accounts]:
        streams = [part.stream for part in self.catalog.contexts.values()]
        return [
            Accounts(state, state.sign_in, stream.secrets[state.name][state.sign_in.password_hash])
            for stream in streams
            for state in stream.states
            if state.sign_in is not None
        ]
