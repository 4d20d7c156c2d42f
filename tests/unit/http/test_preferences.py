"""Headers that say what a client wants."""

from __future__ import annotations

import pytest

from tidemill.domain.errors import RequestRefused
from tidemill.http.preferences import (
    Preferences,
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


@pytest.mark.parametrize("header", ['"v3"', 'W/"v3"', '"v3-gzip"', 'W/"v3-gzip"', '"v3--gzip"', '"v3-br"'])
def test_a_tag_is_taken_as_proxies_change_it(header: str) -> None:
    assert none_match(header) == {"v3"}


def test_what_is_not_ours_matches_nothing() -> None:
    assert none_match('"v3", "other", W/"r7"') == {"v3", "r7"}
    assert none_match("*") == {"*"}
