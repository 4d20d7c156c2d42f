"""Signing in: the right password of an active account, and in every other case the same answer for the same work."""

from __future__ import annotations

import pytest

from tests.support.security.hashes import OF_PEARS
from tests.unit.runtime.test_rate_limits import Hands
from tidemill.api import Account, RateLimiter, SignIn, SignInOutcome, sign_in, verify_password
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import SecretUnreadable


class Rows:
    """The accounts of a test, by name."""

    def __init__(self) -> None:
        self.asked = 0
        self.accounts = {
            "ann": Account("u1", "tms1:u1", is_active=True),
            "ben": Account("u2", "tms1:u2", is_active=False),
            "eve": Account("u3", "tms1:u3", is_active=True),
        }

    async def account(self, name: str) -> Account | None:
        self.asked += 1
        return self.accounts.get(name)


class Secrets:
    """Opens what the test encrypted; the key of u3 is erased."""

    def __init__(self, code: ErrorCode = ErrorCode.SECRET_ERASED) -> None:
        self.code = code

    async def open(self, collection: str, key: str, field: str, text: str) -> str:
        assert (collection, field, text) == ("users", "hashed_password", f"tms1:{key}")
        if key == "u3":
            raise SecretUnreadable("hashed_password of users 'u3'", "erased", code=self.code)
        return OF_PEARS

    async def open_members(self, collection: str, key: str, field: str, text: str) -> str:
        return text


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Every check of a password that was made."""
    checks: list[str | None] = []
    real = verify_password

    def counted(stored: str | None, password: str) -> bool:
        checks.append(stored)
        return real(stored, password)

    monkeypatch.setattr(sign_in, "verify_password", counted)
    return checks


def desk(rows: Rows | None = None, secrets: Secrets | None = None, clock: Hands | None = None) -> SignIn:
    limiter = RateLimiter(clock or Hands(), burst=2, every_s=30.0)
    return SignIn(rows or Rows(), secrets or Secrets(), limiter, collection="users", field="hashed_password")


async def test_the_right_password_signs_in() -> None:
    answer = await desk().verify("ann", "pears")
    assert (answer.outcome, answer.key) == (SignInOutcome.ACCEPTED, "u1")


@pytest.mark.parametrize(
    ("name", "password"),
    [("ann", "apples"), ("nobody", "pears"), ("ben", "pears"), ("eve", "pears"), ("ann", "")],
)
async def test_every_other_attempt_is_refused_alike_after_the_same_work(
    name: str, password: str, work: list[str | None]
) -> None:
    answer = await desk().verify(name, password)
    assert (answer.outcome, answer.key, answer.retry_after_s) == (SignInOutcome.REFUSED, None, 0.0)
    assert len(work) == 1


async def test_too_many_attempts_are_refused_before_anything_is_read(work: list[str | None]) -> None:
    rows, clock = Rows(), Hands()
    asked = desk(rows, clock=clock)
    for name in ("ann", "ANN "):  # one name, however it is written
        assert (await asked.verify(name, "apples")).outcome is SignInOutcome.REFUSED
    locked = await asked.verify("ann", "pears")
    assert (locked.outcome, locked.retry_after_s) == (SignInOutcome.TOO_OFTEN, 30.0)
    assert (rows.asked, len(work)) == (2, 2)
    clock.at_s += 30.0
    assert (await asked.verify("ann", "pears")).outcome is SignInOutcome.ACCEPTED
    assert (await asked.verify("ann", "apples")).outcome is SignInOutcome.REFUSED, "a success begins anew"


async def test_a_hash_that_was_changed_is_an_error_and_not_a_wrong_password() -> None:
    with pytest.raises(SecretUnreadable):
        await desk(secrets=Secrets(ErrorCode.SECRET_DAMAGED)).verify("eve", "pears")
