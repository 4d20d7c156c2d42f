"""What an operator may not decide about principals, and the choices there are instead: `UsageError`, each time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError
from tidemill.security.principal_rows import GrantRow, PrincipalRow, PrincipalState, TokenRow
from tidemill.security.principals import ALL_COLLECTIONS, DEVELOPMENT, PrincipalKind, Verb

MAX_DAYS: Final = 3_650.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_MAX_SUBJECT: Final = 255
_MAX_LABEL: Final = 100
_ID: Final = 10
"""Characters of an id: of a whole token that is typed in its place no more may be shown."""


def check_name(name: str) -> None:
    """Refuse what cannot name a principal: it is the `service_name` of what it sends."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot name a principal: a name has at most 100 letters, digits and . _ @ -, and begins with "
            "a letter or digit"
        )
    if name == DEVELOPMENT.name:
        raise UsageError(
            f"{name!r} is the principal of requests while none was added",
            code=ErrorCode.NAME_IN_USE,
            name=name,
        )


def check_subject(subject: str | None) -> None:
    """Refuse a subject that no JWT has."""
    if subject is not None and not (0 < len(subject) <= _MAX_SUBJECT and subject.isprintable()):
        raise UsageError(f"a subject has 1 to {_MAX_SUBJECT} printable characters, not {subject!r}")


def check_label(label: str) -> None:
    """Refuse a label that lists could not show."""
    if len(label) > _MAX_LABEL or not label.isprintable():
        raise UsageError(f"a label has at most {_MAX_LABEL} printable characters, not {label!r}")


def check_times(expires_days: float, overlap_hours: float) -> None:
    """Refuse a token without end, and one that ended before it began."""
    if not 0 < expires_days <= MAX_DAYS:
        raise UsageError(
            f"a token ends after more than 0 and at most {MAX_DAYS:g} days, not {expires_days:g}"
        )
    if not 0 <= overlap_hours <= 24 * MAX_DAYS:
        raise UsageError(f"an overlap has 0 to {24 * MAX_DAYS:g} hours, not {overlap_hours:g}")


def check_collection(collections: Mapping[str, Sequence[str]], collection: str) -> None:
    """Refuse a collection that the deployment does not have."""
    if collection != ALL_COLLECTIONS and collection not in collections:
        raise _unknown("collection", collection, (ALL_COLLECTIONS, *sorted(collections)))


def checked_columns(
    collections: Mapping[str, Sequence[str]], collection: str, hidden: Iterable[str]
) -> tuple[str, ...]:
    """Return the columns to hide, in order and once each. `*`: of any collection."""
    of_any = {column for columns in collections.values() for column in columns}
    columns = of_any if collection == ALL_COLLECTIONS else set(collections[collection])
    for column in hidden:
        if column not in columns:
            raise _unknown(f"column of {collection} that may be hidden", column, sorted(columns))
    return tuple(sorted(set(hidden)))


def checked_verbs(collection: str, verbs: Iterable[str]) -> tuple[str, ...]:
    """Return the verbs in their order, once each."""
    chosen = {verb.strip() for verb in verbs} - {""}
    if unknown := sorted(chosen - set(Verb)):
        raise _unknown("verb", unknown[0], tuple(Verb))
    if not chosen:
        raise UsageError(f"a grant has at least one verb: --verbs with some of {', '.join(Verb)}")
    if Verb.OPERATE in chosen and collection != ALL_COLLECTIONS:
        raise UsageError(
            f"{Verb.OPERATE} is about the whole deployment: grant it on the collection '{ALL_COLLECTIONS}'"
        )
    return tuple(str(verb) for verb in Verb if verb in chosen)


def existing_principal(state: PrincipalState, name: str) -> PrincipalRow:
    """Return a principal, also a revoked one; refuse an unknown name."""
    row = state.principal(name)
    if row is None and not state.principals:
        raise UsageError(f"there is no principal {name!r}, nor any other: tidemill principals add {name} ...")
    if row is None:
        raise _unknown("principal", name, sorted(known.name for known in state.principals))
    return row


def principal_in_force(state: PrincipalState, name: str) -> PrincipalRow:
    """Return a principal; refuse an unknown or revoked one."""
    row = existing_principal(state, name)
    if row.revoked_at is not None:
        raise UsageError(
            f"{name} was revoked at {row.revoked_at:%Y-%m-%d %H:%M:%S} UTC; to take it back: "
            f"tidemill principals add {name} --{row.kind} --reinstate"
        )
    return row


def refuse_taken(name: str, old: PrincipalRow | None, kind: PrincipalKind, *, reinstate: bool) -> None:
    """Refuse to add a name again, except a revoked one that is to be taken back as what it was."""
    if old is None and reinstate:
        raise UsageError(f"{name} was never revoked: leave out --reinstate")
    if old is None:
        return
    if old.revoked_at is None:
        raise UsageError(f"there is a principal {name}", code=ErrorCode.NAME_IN_USE, name=name)
    if not reinstate:
        raise UsageError(
            f"{name} was revoked at {old.revoked_at:%Y-%m-%d %H:%M:%S} UTC, and is not added again without --reinstate",
            code=ErrorCode.NAME_REVOKED,
            kind=str(old.kind),
        )
    if old.kind != kind:
        raise UsageError(f"{name} was a {old.kind}, and can only be taken back as one: --{old.kind}")


def refuse_subject_in_use(row: PrincipalRow, state: PrincipalState) -> None:
    """Refuse a principal that JWTs could take for another one."""
    subject = row.subject or row.name
    for other in state.principals:
        if other.revoked_at is None and other.name != row.name and (other.subject or other.name) == subject:
            raise UsageError(
                f"JWTs with the subject {subject!r} are those of {other.name}", code=ErrorCode.SUBJECT_IN_USE
            )


def grant_of(state: PrincipalState, name: str, collection: str) -> GrantRow | None:
    """Return the grant of a principal for a collection, None if it has none of its own."""
    return next((row for row in state.grants_of(name) if row.collection == collection), None)


def existing_grant(state: PrincipalState, name: str, collection: str) -> GrantRow:
    """Return a grant; refuse one that there is not."""
    row = grant_of(state, name, collection)
    if row is None:
        granted = tuple(grant.collection for grant in state.grants_of(name))
        if not granted:
            raise UsageError(f"{name} has no grant")
        raise _unknown(f"grant of {name} for", collection, granted)
    return row


def existing_token(state: PrincipalState, token_id: str) -> TokenRow:
    """Return a token that may be revoked; refuse any other id."""
    row = state.token(token_id)
    if row is None:
        raise UsageError(f"there is no token with the id {token_id[:_ID]!r}", code=ErrorCode.UNKNOWN_TOKEN)
    if row.revoked_at is not None:
        raise UsageError(f"token {token_id} was revoked at {row.revoked_at:%Y-%m-%d %H:%M:%S} UTC")
    return row


def _unknown(kind: str, name: str, choices: Sequence[str]) -> UsageError:
    return UsageError(
        f"there is no {kind} {name!r}",
        code=ErrorCode.UNKNOWN_NAME,
        name=name,
        choices=tuple(map(str, choices)),
    )
