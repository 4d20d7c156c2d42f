"""`tidemill principals` refuses what is wrong in itself before a server is asked for anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.cli import principals, session
from tidemill.domain.errors import UsageError

WRONG: dict[str, tuple[Callable[[], None], str]] = {
    "verb": (lambda: principals.grant("billing", "*", verbs="reed"), "reed.*read"),
    "no verb": (lambda: principals.grant("billing", "*", verbs=","), "at least one verb"),
    "operate": (lambda: principals.grant("billing", "users", verbs="operate"), "whole deployment"),
    "name": (lambda: principals.add("bill ing", service=True), "cannot name a principal"),
    "subject": (lambda: principals.add("billing", service=True, subject=""), "printable"),
    "life": (lambda: principals.token("billing", expires_days=0.0), "more than 0"),
    "label": (lambda: principals.token("billing", label="x" * 101), "at most 100"),
}


@pytest.mark.parametrize(("call", "said"), WRONG.values(), ids=WRONG.keys())
def test_it_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, call: Callable[[], None], said: str) -> None:
    monkeypatch.setattr(session, "act", lambda *_, **__: pytest.fail("a server was asked"))
    with pytest.raises(UsageError, match=said):
        call()
