"""Who may ask over HTTP, decided by operators: principals, what they are granted, and their tokens.

Each change is one transaction, and its entry is given to the journal inside of it: what cannot be journalled is not
changed. Changes need the login that migrates; what processes that serve log in with can only read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from tidemill.admin.principal_checks import (
    check_collection,
    check_label,
    check_name,
    check_subject,
    check_times,
    checked_columns,
    checked_verbs,
    existing_grant,
    existing_principal,
    existing_token,
    grant_of,
    principal_in_force,
    refuse_subject_in_use,
    refuse_taken,
)
from tidemill.runtime.clock import Clock
from tidemill.security.journal import EntryKind, JournalEntry
from tidemill.security.journal_writer import Journal
from tidemill.security.ports import PrincipalReader, PrincipalStore
from tidemill.security.principal_rows import (
    GrantRow,
    PrincipalChange,
    PrincipalRow,
    PrincipalState,
)
from tidemill.security.principals import PrincipalKind
from tidemill.security.tokens import Token

DEFAULT_DAYS: Final = 90.0
DEFAULT_OVERLAP_HOURS: Final = 24.0
_MAX_TEXT: Final = 200


@dataclass(frozen=True, kw_only=True)
class PrincipalEntry:
    """A change, as a journal keeps it. `actor`: the user of the operating system. It holds no token and no hash."""

    actor: str
    at: datetime
    action: str
    principal: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def detail(self) -> Mapping[str, str]:
        """Return before and after as short texts, for a journal that takes no more; what there is not is left out."""
        both = {"before": self.before, "after": self.after}
        return {name: _line(values)[:_MAX_TEXT] for name, values in both.items() if values is not None}


@dataclass(frozen=True, kw_only=True)
class IssuedToken:
    """A new token, whose text is shown this once. `ending`: when each older token ends because of it, by id."""

    id: str
    principal: str
    label: str
    expires_at: datetime
    token: str = field(repr=False)
    ending: Mapping[str, datetime]


@dataclass(frozen=True, kw_only=True)
class PrincipalSummary:
    """A principal in a list. `tokens`: how many are in force, `expires_at`: when the last of them ends."""

    name: str
    kind: str
    subject: str | None
    grants: int
    tokens: int
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class PrincipalShown:
    """All about one principal. Tokens without their hash, the oldest first."""

    name: str
    kind: str
    subject: str | None
    created_at: datetime
    revoked_at: datetime | None
    grants: Sequence[GrantRow]
    tokens: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class PrincipalOverview:
    """Principals, for reading; any login of the service will do."""

    reader: PrincipalReader
    clock: Clock

    async def summaries(self) -> list[PrincipalSummary]:
        """Return every principal in the order of names, revoked ones too. Raises `Unavailable`."""
        state = await self._state()
        return [self._summary(row, state) for row in sorted(state.principals)]

    async def show(self, name: str) -> PrincipalShown:
        """Return all about one. Raises `UsageError` if there is none of this name, and `Unavailable`."""
        state = await self._state()
        row = existing_principal(state, name)
        tokens = [token.described() for token in state.tokens_of(name)]
        return PrincipalShown(**row._asdict(), grants=state.grants_of(name), tokens=tokens)

    async def _state(self) -> PrincipalState:
        state = await self.reader.changed_since(None)
        return state or PrincipalState("")

    def _summary(self, row: PrincipalRow, state: PrincipalState) -> PrincipalSummary:
        now = self.clock.now()
        tokens = [token for token in state.tokens_of(row.name) if token.is_in_force(now)]
        return PrincipalSummary(
            name=row.name,
            kind=row.kind,
            subject=row.subject,
            grants=len(state.grants_of(row.name)),
            tokens=0 if row.revoked_at else len(tokens),
            expires_at=max((token.expires_at for token in tokens), default=None),
            revoked_at=row.revoked_at,
        )


JournalHook = Callable[[PrincipalEntry], Awaitable[None]]
"""Keeps a change; what it raises undoes the change."""


async def keep_change(journal: Journal, entry: PrincipalEntry) -> None:
    """Keep a change in the journal of a process. Raises `RequestRefused` if that is not possible."""
    await journal.change(
        JournalEntry(
            kind=EntryKind.CHANGE,
            action=f"principals {entry.action}",
            principal=entry.actor,
            detail={"name": entry.principal, **entry.detail},
        )
    )


@dataclass(frozen=True, kw_only=True)
class PrincipalManagement:
    """An operator's decisions about principals.

    `collections`: the collections of the deployment, each with the columns that may be hidden. `actor`: the operator.
    `journal`: None keeps no entry.
    """

    store: PrincipalStore
    collections: Mapping[str, Sequence[str]]
    clock: Clock
    actor: str
    journal: JournalHook | None = None

    async def add(
        self, name: str, kind: PrincipalKind, *, subject: str | None = None, reinstate: bool = False
    ) -> PrincipalEntry:
        """Add a principal that may do nothing yet. `subject`: what JWTs call it, if that is not its name.

        `reinstate`: take a revoked one back, without the grants and tokens that it had.

        Raises:
            UsageError: a name or subject is unusable or in use.
        """
        check_name(name)
        check_subject(subject)

        def decided(state: PrincipalState) -> PrincipalChange:
            old = state.principal(name)
            refuse_taken(name, old, kind, reinstate=reinstate)
            row = PrincipalRow(name, str(kind), subject, old.created_at if old else self.clock.now())
            refuse_subject_in_use(row, state)
            return PrincipalChange(
                action="reinstate" if old else "add",
                principal=name,
                before=_described(old),
                after=_described(row),
                principals=(row,),
            )

        return await self._change(decided)

    async def grant(
        self, name: str, collection: str, verbs: Sequence[str], hidden: Sequence[str] = ()
    ) -> PrincipalEntry:
        """Set what a principal may do with a collection, instead of what it might before.

        `collection`: `*` is every collection that it has no grant of its own for. `hidden`: columns that then do not
        exist for it.

        Raises:
            UsageError: an unknown principal, collection, verb or column, with the choices.
        """
        check_collection(self.collections, collection)
        columns = checked_columns(self.collections, collection, hidden)
        row = GrantRow(name, collection, checked_verbs(collection, verbs), columns)

        def decided(state: PrincipalState) -> PrincipalChange:
            principal_in_force(state, name)
            old = grant_of(state, name, collection)
            return PrincipalChange(
                action="grant", principal=name, before=_described(old), after=_described(row), grants=(row,)
            )

        return await self._change(decided)

    async def revoke(self, name: str, collection: str | None = None) -> PrincipalEntry:
        """End one grant, or the principal itself with all of its grants and tokens; its row stays.

        Raises:
            UsageError: there is no such principal or grant, or it is revoked already.
        """

        def decided(state: PrincipalState) -> PrincipalChange:
            row = principal_in_force(state, name)
            if collection is None:
                return self._end(row, state)
            old = existing_grant(state, name, collection)
            return PrincipalChange(
                action="revoke_grant", principal=name, before=_described(old), after=None, removed=(old,)
            )

        return await self._change(decided)

    async def issue_token(
        self,
        name: str,
        *,
        expires_days: float = DEFAULT_DAYS,
        label: str = "",
        rotate: bool = False,
        overlap_hours: float = DEFAULT_OVERLAP_HOURS,
    ) -> IssuedToken:
        """Make a token. Its text is in the result and nowhere else.

        `rotate`: the tokens that the principal has with this label, with an empty one all, end after `overlap_hours`.

        Raises:
            UsageError: there is no such principal, or a value is out of its range.
        """
        check_times(expires_days, overlap_hours)
        check_label(label)
        now = self.clock.now()
        token = Token.fresh()
        row = token.row(name, label=label, created_at=now, expires_at=now + timedelta(days=expires_days))
        ending: dict[str, datetime] = {}

        def decided(state: PrincipalState) -> PrincipalChange:
            principal_in_force(state, name)
            older = [old for old in state.tokens_of(name) if rotate and label in ("", old.label)]
            last = now + timedelta(hours=overlap_hours)
            ended = [
                old._replace(expires_at=min(old.expires_at, last)) for old in older if old.is_in_force(now)
            ]
            ending.update({old.id: old.expires_at for old in ended})
            return PrincipalChange(
                action="rotate_tokens" if rotate else "issue_token",
                principal=name,
                before={"tokens": [old.described() for old in older if old.is_in_force(now)]},
                after={"tokens": [changed.described() for changed in (*ended, row)]},
                tokens=(*ended, row),
            )

        await self._change(decided)
        return IssuedToken(
            id=token.id,
            principal=name,
            label=label,
            expires_at=row.expires_at,
            token=token.text,
            ending=ending,
        )

    async def revoke_token(self, token_id: str) -> PrincipalEntry:
        """End a token now. Raises `UsageError` if there is none of this id, or it is revoked already."""

        def decided(state: PrincipalState) -> PrincipalChange:
            old = existing_token(state, token_id)
            row = old._replace(revoked_at=self.clock.now())
            return PrincipalChange(
                action="revoke_token",
                principal=old.principal,
                before=old.described(),
                after=row.described(),
                tokens=(row,),
            )

        return await self._change(decided)

    async def _change(self, decided: Callable[[PrincipalState], PrincipalChange]) -> PrincipalEntry:
        entries = []

        async def journalled(state: PrincipalState) -> PrincipalChange:
            change = decided(state)
            entry = PrincipalEntry(
                actor=self.actor,
                at=self.clock.now(),
                action=change.action,
                principal=change.principal,
                before=change.before,
                after=change.after,
            )
            entries.append(entry)
            if self.journal is not None:
                await self.journal(entry)
            return change

        await self.store.change(journalled)
        return entries[-1]

    def _end(self, row: PrincipalRow, state: PrincipalState) -> PrincipalChange:
        now = self.clock.now()
        ended = row._replace(revoked_at=now)
        grants = state.grants_of(row.name)
        tokens = [token for token in state.tokens_of(row.name) if token.revoked_at is None]
        before = {**row._asdict(), "grants": [grant._asdict() for grant in grants]}
        return PrincipalChange(
            action="revoke",
            principal=row.name,
            before=before,
            after=_described(ended),
            principals=(ended,),
            tokens=tuple(token._replace(revoked_at=now) for token in tokens),
            removed=grants,
        )


def _described(row: PrincipalRow | GrantRow | None) -> Mapping[str, Any] | None:
    return None if row is None else row._asdict()


def _line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name}: {_line(item)}" for name, item in value.items() if item not in (None, (), "", [])
        )
    if isinstance(value, list | tuple):
        return "[" + "; ".join(map(_line, value)) + "]"
    return value.isoformat() if isinstance(value, datetime) else str(value)
