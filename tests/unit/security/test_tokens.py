"""A token is random, is recognised by its form, and is stored as nothing but a hash."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from tidemill.security.tokens import SCANNER_PATTERN, Token, digest, id_of, is_well_formed

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def test_it_has_the_form_that_scanners_look_for_and_a_checksum() -> None:
    token = Token.fresh()
    assert re.fullmatch(SCANNER_PATTERN, token.text)
    assert is_well_formed(token.text)
    assert id_of(token.text) == token.id


def test_no_two_have_anything_in_common() -> None:
    tokens = [Token.fresh() for _ in range(500)]
    assert len({token.id for token in tokens}) == len({token.text[14:57] for token in tokens}) == 500


def test_every_typing_error_of_one_character_is_seen() -> None:
    text = Token.fresh().text
    for place in range(len(text)):
        other = "a" if text[place] != "a" else "b"
        assert not is_well_formed(text[:place] + other + text[place + 1 :])


@pytest.mark.parametrize("text", ["", "tm_", "tm_a_b", "\udcff", "tm_" + "a" * 60, "x" * 100_000, "tm_é"])
def test_any_other_text_is_none_and_still_has_a_digest(text: str) -> None:
    assert not is_well_formed(text)
    assert len(digest(text)) == 32


def test_a_text_with_something_behind_it_is_none() -> None:
    assert not is_well_formed(Token.fresh().text + "\n")


def test_what_is_stored_is_a_hash_and_four_characters() -> None:
    token = Token.fresh()
    row = token.row("billing", label="ci", created_at=NOW, expires_at=NOW + timedelta(days=1))
    assert row.hash == sha256(token.text.encode()).digest()
    assert row.last_characters == token.text[-4:]
    assert token.text[14:] not in str(row)
    assert "hash" not in row.described()


def test_its_repr_does_not_show_it() -> None:
    token = Token.fresh()
    assert token.text[14:] not in repr(token)
