"""Password hashes: only argon2id with a bounded cost is one, and an unknown user costs the same work."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher
from pydantic import TypeAdapter, ValidationError

from tidemill.api import PasswordHash, hash_password, passwords, verify_password

HASH = TypeAdapter(PasswordHash)
ANNS = hash_password("Äpfel und Birnen")
SALT, TAG = "A" * 22, "A" * 43


def phc(m: int = 65_536, t: int = 3, p: int = 4, salt: str = SALT, tag: str = TAG) -> str:
    return f"$argon2id$v=19$m={m},t={t},p={p}${salt}${tag}"


def test_a_hash_is_accepted_by_its_own_type_and_has_a_salt() -> None:
    assert HASH.validate_python(ANNS) == ANNS
    assert hash_password("Äpfel und Birnen") != ANNS


def test_the_right_password_and_no_other_matches() -> None:
    assert verify_password(ANNS, "Äpfel und Birnen")
    assert verify_password(ANNS, "A\u0308pfel und Birnen"), "another keyboard composes it in another way"
    assert not verify_password(ANNS, "Äpfel und Birne")
    assert not verify_password(ANNS, "")
    assert not verify_password(None, "Äpfel und Birnen")


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        "$argon2i$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        "$2b$12$abcdefghijklmnopqrstuu",
        phc(m=1_000),
        phc(m=4_000_000),
        phc(t=0),
        phc(t=100),
        phc(p=64),
        phc(salt="AAAA"),
        phc(tag="AAAA"),
        phc(tag="A" * 150),
        phc() + "\n",
        phc().replace("v=19", "v=16"),
    ],
)
def test_what_is_no_hash_or_costs_too_little_or_too_much_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="argon2id hash") as refused:
        HASH.validate_python(text)
    assert text not in refused.value.errors(include_input=False)[0]["msg"]


@pytest.mark.parametrize("password", ["", "x" * 1_025, "ä" * 513])
def test_a_password_has_a_length(password: str) -> None:
    with pytest.raises(ValueError, match="1 to 1024 bytes"):
        hash_password(password)
    assert not verify_password(ANNS, password)


@pytest.mark.parametrize(
    ("stored", "password"),
    [(ANNS, "wrong"), (None, "x"), ("no hash", "x"), (phc(t=100), "x"), (ANNS, "")],
    ids=["wrong", "unknown", "no hash", "dear hash", "empty"],
)
def test_each_refusal_does_the_work_of_one_check(
    monkeypatch: pytest.MonkeyPatch, stored: str | None, password: str
) -> None:
    checked: list[str] = []
    real = passwords._matches

    def counted(known: str, given: bytes) -> bool:
        checked.append(known)
        return real(known, given)

    monkeypatch.setattr(passwords, "_matches", counted)
    assert not verify_password(stored, password)
    assert [known.split("$")[3] for known in checked] == ["m=65536,t=3,p=4"]


def test_the_hash_of_nobody_costs_what_new_hashes_cost() -> None:
    assert HASH.validate_python(passwords._OF_NO_PASSWORD)
    hasher = PasswordHasher()
    assert not hasher.check_needs_rehash(passwords._OF_NO_PASSWORD)
