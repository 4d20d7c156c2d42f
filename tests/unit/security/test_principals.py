"""Nothing is allowed that is not granted: random grants, against the sentence that describes them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tidemill.security.principal_rows import GrantRow, KnownPrincipals, PrincipalRow, PrincipalState
from tidemill.security.principals import ALL_COLLECTIONS, DEVELOPMENT, Principal, PrincipalKind, Verb

NOW = datetime(2026, 12, 1, tzinfo=UTC)
NAMES = ["a", "b"]
COLLECTIONS = ["ticks", "users", "quotes"]
COLUMNS = ["x", "y"]
UNKNOWN_VERBS = ["", "READ", "all", "*", "readwrite", "truncate"]
VERBS = [str(verb) for verb in Verb]

grants = st.builds(
    GrantRow,
    principal=st.sampled_from(NAMES),
    collection=st.sampled_from([*COLLECTIONS, ALL_COLLECTIONS]),
    verbs=st.lists(st.sampled_from([*VERBS, *UNKNOWN_VERBS]), min_size=1, unique=True).map(tuple),
    hidden=st.lists(st.sampled_from(COLUMNS), unique=True).map(tuple),
)


def by_key(row: GrantRow) -> tuple[str, str]:
    return row.principal, row.collection


def state(rows: list[GrantRow], *revoked: str) -> PrincipalState:
    principals = [
        PrincipalRow(name, "service", None, NOW, NOW if name in revoked else None) for name in NAMES
    ]
    return PrincipalState("1", tuple(principals), tuple(rows))


@given(st.lists(grants, unique_by=by_key, max_size=8))
def test_it_may_do_what_its_own_grant_says_or_else_that_on_all_and_nothing_more(rows: list[GrantRow]) -> None:
    known = KnownPrincipals.of(state(rows))
    for name in NAMES:
        for collection in [*COLLECTIONS, "never-declared"]:
            own = [row for row in rows if by_key(row) == (name, collection)]
            general = [row for row in rows if by_key(row) == (name, ALL_COLLECTIONS)]
            deciding = next(iter(own or general), None)
            principal = known.by_name[name]
            for verb in Verb:
                assert principal.may(verb, collection) is (deciding is not None and verb in deciding.verbs)
            assert principal.hidden(collection) == frozenset(deciding.hidden if deciding else ())
            assert (principal.grant(collection) is None) is (deciding is None)


@given(st.lists(grants, unique_by=by_key, max_size=8), st.sampled_from(NAMES))
def test_a_revoked_principal_is_none_whatever_it_is_granted(rows: list[GrantRow], revoked: str) -> None:
    known = KnownPrincipals.of(state(rows, revoked))
    assert revoked not in known.by_name
    assert revoked not in known.by_subject
    assert known.are_configured


def test_a_principal_without_grants_may_do_nothing() -> None:
    principal = Principal("a", PrincipalKind.SERVICE)
    assert not any(principal.may(verb, name) for verb in Verb for name in (*COLLECTIONS, ALL_COLLECTIONS))
    assert principal.grant("ticks") is None


def test_the_development_principal_may_do_everything() -> None:
    assert all(DEVELOPMENT.may(verb, name) for verb in Verb for name in (*COLLECTIONS, ALL_COLLECTIONS))
