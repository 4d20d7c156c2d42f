"""Headers that say what a client wants."""

from __future__ import annotations

import pytest

from tidemill.domain.errors import RequestRefused
from tidemill.http.preferences import (
    Match,
    Preferences,
    idempotency_key,
    if_match,
    none_match,
    preferences,
)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, Preferences()),
        ("wait=7", Preferences(wait_s=7.0)),
        ("wait=99", Preferences(wait_s=30.0)),
        ("respond-async, wait=0", Preferences(wait_s=0.0, respond_async=True)),
        (
            'return="representation"; foo=1, handling=strict',
            Preferences(representation=True, strict=True),
        ),
        ("stale-ok,seen=all, unknown=1", Preferences(stale_ok=True, seen_all=True)),
        ("wait=1, wait=2", Preferences(wait_s=1.0)),
    ],
)
def test_what_a_client_prefers(header: str | None, wanted: Preferences) -> None:
    assert preferences(header) == wanted


def test_a_wait_is_a_number() -> None:
    with pytest.raises(RequestRefused, match="whole number"):
        preferences("wait=soon")


@pytest.mark.parametrize(
    ("header", "key"), [(None, None), ('"a b"', "a b"), ("x", "x"), ("k" * 200, "k" * 200)]
)
def test_a_key_is_quoted_or_bare(header: str | None, key: str | None) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize("header", ["", '""', "k" * 201, "a\tb", "ä", " a"])
def test_a_key_is_printable(header: str) -> None:
    with pytest.raises(RequestRefused, match="printable"):
        idempotency_key(header)


@pytest.mark.parametrize("header", ['"v3"', 'W/"v3"', '"v3-gzip"', 'W/"v3-gzip"', '"v3--gzip"', '"v3-br"'])
def test_a_tag_is_taken_as_proxies_change_it(header: str) -> None:
    assert if_match(header) == Match(3)
    assert none_match(header) == {"v3"}


def test_a_match_may_be_for_any_version() -> None:
    assert if_match("*") == Match(None)
    assert if_match(None) is None


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ('"r3"', "WRONG_ETAG"),
        ('"habc"', "WRONG_ETAG"),
        ('"vx"', "WRONG_ETAG"),
        ("v3", "BAD_PARAMETER"),
        ('"v3", "v4"', "BAD_PARAMETER"),
        ("", "BAD_PARAMETER"),
    ],
)
def test_a_match_takes_the_tag_of_a_state(header: str, code: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        if_match(header)
    assert refused.value.request_code == code


def test_what_is_not_ours_matches_nothing() -> None:
    assert none_match('"v3", "other", W/"r7"') == {"v3", "r7"}
    assert none_match("*") == {"*"}
