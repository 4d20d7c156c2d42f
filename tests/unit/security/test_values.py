"""Encrypted values: whole texts, and members of JSON objects, of which the others keep every digit."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.domain.secrets import CREDENTIALS, SealedText, Secret
from tidemill.security.data_keys import DataKey, Place
from tidemill.security.values import SealedElsewhere, generations, opened_members, sealed

PLACE = Place("doors", "d1", "settings")
KEY = DataKey.fresh(3)
NAMES = Secret(("password", "oauth.token"))


def opened(text: str, place: Place = PLACE) -> Any:
    return json.loads(opened_members(text, place, KEY.open), parse_float=Decimal)


def test_members_of_the_declared_names_are_encrypted_at_any_depth_and_no_others() -> None:
    text = json.dumps(
        {"host": "h", "PassWord": "p1", "a": [{"pass-word": 7}, {"token": "t0", "OAuth": {"token": "t1"}}]}
    )
    hidden = sealed(NAMES, KEY, PLACE, text, None)
    parts = json.loads(hidden)
    assert (parts["host"], parts["a"][1]["token"]) == ("h", "t0")
    secrets = [parts["PassWord"], parts["a"][0]["pass-word"], parts["a"][1]["OAuth"]["token"]]
    assert all(SealedText.of(each) for each in secrets)
    assert opened(hidden) == json.loads(text)
    assert generations(hidden) == {3}


def test_a_member_of_any_type_is_encrypted_whole_and_null_stays() -> None:
    text = json.dumps({"password": {"a": [1, "x"], "password": None}, "oauth": {"token": None}})
    hidden = sealed(NAMES, KEY, PLACE, text, None)
    assert SealedText.of(json.loads(hidden)["password"])
    assert json.loads(hidden)["oauth"] == {"token": None}
    assert opened(hidden) == json.loads(text)


def test_numbers_keep_every_digit() -> None:
    text = (
        '{"n": 0.12345678901234567890123, "big": 123456789012345678901234567890, "e": 1E5, "password": 1.50}'
    )
    hidden = sealed(NAMES, KEY, PLACE, text, None)
    assert '"n": 0.12345678901234567890123' in hidden
    assert '"e": 1E5' in hidden
    assert '"password": 1.50' in opened_members(hidden, PLACE, KEY.open)


def test_a_text_without_such_members_is_unchanged_to_the_byte() -> None:
    text = '{ "host" : "h\\u00e4",\n "n": 1.0 }'
    assert sealed(NAMES, KEY, PLACE, text, None) == text
    assert generations(text) == frozenset()
    assert generations("no JSON") == frozenset()


def test_a_member_that_was_moved_does_not_open() -> None:
    hidden = json.loads(sealed(NAMES, KEY, PLACE, '{"password": "p"}', None))
    with pytest.raises(Exception, match="SECRET_DAMAGED"):
        opened(json.dumps({"other": {"password": hidden["password"]}}))


def test_what_is_stored_may_be_sent_back_and_nothing_else_that_is_encrypted() -> None:
    stored = sealed(NAMES, KEY, PLACE, '{"password": "p", "host": "a"}', None)
    changed = json.dumps(json.loads(stored) | {"host": "b"})
    again = sealed(NAMES, DataKey.fresh(4), PLACE, changed, stored)
    assert opened(again) == {"password": "p", "host": "b"}
    for foreign in (None, sealed(NAMES, KEY, PLACE, '{"password": "p"}', None)):
        with pytest.raises(SealedElsewhere, match="settings/password"):
            sealed(NAMES, KEY, PLACE, changed, foreign)


def test_a_whole_text_that_is_encrypted_already_has_to_be_the_stored_one() -> None:
    place = Place("doors", "d1", "code")
    stored = sealed(Secret(), KEY, place, "4711", "clear before")
    assert sealed(Secret(), KEY, place, stored, stored) == stored
    with pytest.raises(SealedElsewhere, match="code"):
        sealed(Secret(), KEY, place, stored, None)


@pytest.mark.parametrize(
    "name", ["apiKey", "API_KEY", "private-key", "Credentials", "token", "client_secret"]
)
def test_names_of_credentials_are_found_however_they_are_written(name: str) -> None:
    assert Secret(CREDENTIALS).covers(("a", name))
    assert not Secret(CREDENTIALS).covers((name, "a"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["password", "oauth", "token", "a"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["password", "oauth", "token", "b"]), JSON, max_size=4))
def test_any_object_is_the_same_after_sealing_and_opening(data: dict[str, Any]) -> None:
    hidden = sealed(NAMES, KEY, PLACE, json.dumps(data), None)
    assert json.loads(opened_members(hidden, PLACE, KEY.open)) == data
