"""Principals, grants and tokens as they are stored, and what a decision changes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from tidemill.security.principals import Grant, Principal, PrincipalKind, Verb


class PrincipalRow(NamedTuple):
    """A service or person. `subject`: what JWTs call it, None if that is its name. It stays once it is revoked."""

    name: str
    kind: str
    subject: str | None
    created_at: datetime
    revoked_at: datetime | None = None


class GrantRow(NamedTuple):
    """What a principal may do with a collection or, of `*`, with each that it has no grant of its own for."""

    principal: str
    collection: str
    verbs: tuple[str, ...]
    hidden: tuple[str, ...] = ()

    def value(self) -> Grant:
        """Return the grant; a verb that this version does not know allows nothing."""
        known = frozenset(Verb(verb) for verb in self.verbs if verb in set(Verb))
        return Grant(known, frozenset(self.hidden))


class TokenRow(NamedTuple):
    """A token, of which `hash` is the SHA-256. `last_characters`: of the token, for people to tell tokens apart."""

    id: str
    principal: str
    hash: bytes
    label: str
    last_characters: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None

    def is_in_force(self, now: datetime) -> bool:
        """Tell whether it is neither revoked nor expired; whether its principal is revoked is not looked at."""
        return self.revoked_at is None and now < self.expires_at

    def described(self) -> dict[str, Any]:
        """Return what people and the journal read of it: everything but the hash."""
        return {name: value for name, value in self._asdict().items() if name != "hash"}


class PrincipalState(NamedTuple):
    """All rows at one moment. `version`: equal for equal rows, and different after each change."""

    version: str
    principals: tuple[PrincipalRow, ...] = ()
    grants: tuple[GrantRow, ...] = ()
    tokens: tuple[TokenRow, ...] = ()

    def principal(self, name: str) -> PrincipalRow | None:
        """Return a principal, also one that is revoked."""
        return next((row for row in self.principals if row.name == name), None)

    def grants_of(self, name: str) -> tuple[GrantRow, ...]:
        """Return the grants of a principal, in the order of the collections."""
        return tuple(sorted(row for row in self.grants if row.principal == name))

    def tokens_of(self, name: str) -> tuple[TokenRow, ...]:
        """Return the tokens of a principal, the oldest first."""
        rows = [row for row in self.tokens if row.principal == name]
        return tuple(sorted(rows, key=lambda row: (row.created_at, row.id)))

    def token(self, token_id: str) -> TokenRow | None:
        """Return a token by its id."""
        return next((row for row in self.tokens if row.id == token_id), None)


@dataclass(frozen=True, kw_only=True)
class PrincipalChange:
    """What a decision changes. Rows are added, or take the place of the one with the same key.

    `removed`: grants that end. The text fields are what a journal keeps: `action` (`grant`), the principal that it
    is about, and what it was like before and after, None where there was or is nothing; never a token or a hash.
    """

    action: str
    principal: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    principals: tuple[PrincipalRow, ...] = ()
    grants: tuple[GrantRow, ...] = ()
    tokens: tuple[TokenRow, ...] = ()
    removed: tuple[GrantRow, ...] = ()


@dataclass(frozen=True)
class KnownPrincipals:
    """The rows as a process asks for them. A revoked principal is only in `revoked`.

    `by_subject`: by what JWTs call them. `are_configured`: whether any was ever added, a revoked one included.
    """

    by_name: Mapping[str, Principal]
    by_subject: Mapping[str, Principal]
    tokens: Mapping[str, TokenRow] = field(repr=False)
    revoked: frozenset[str]
    are_configured: bool

    @classmethod
    def of(cls, state: PrincipalState) -> KnownPrincipals:
        """Index the rows."""
        rows = [row for row in state.principals if row.revoked_at is None]
        grants = _grants(state)
        by_name = {row.name: Principal(row.name, PrincipalKind(row.kind), grants[row.name]) for row in rows}
        revoked = [row for row in state.principals if row.revoked_at is not None]
        return cls(
            by_name=by_name,
            by_subject={row.subject or row.name: by_name[row.name] for row in rows},
            tokens={row.id: row for row in state.tokens},
            revoked=frozenset(row.name for row in revoked)
            | frozenset(row.subject or row.name for row in revoked),
            are_configured=bool(state.principals),
        )


def _grants(state: PrincipalState) -> Mapping[str, Mapping[str, Grant]]:
    grants: dict[str, dict[str, Grant]] = {row.name: {} for row in state.principals}
    for row in state.grants:
        grants[row.principal][row.collection] = row.value()
    return grants
