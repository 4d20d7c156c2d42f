"""What a data key and a master key promise: only the right key opens, only at its place, and nothing is quoted."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine.secret_contexts import BOTH, NEW, NEW_ONLY, OLD, OLD_ONLY
from tidemill.domain.errors import MasterKeyMissing, SecretUnreadable
from tidemill.domain.secrets import SealedText
from tidemill.security.data_keys import DataKey, Place
from tidemill.security.master_keys import MasterKey, MasterKeys

HERE = Place("doors", "d1", "code")
KEY = DataKey.fresh(1)


def sealed(text: str, key: DataKey = KEY, place: Place = HERE) -> SealedText:
    found = SealedText.of(key.seal(text, place))
    assert found is not None
    return found


@pytest.mark.parametrize("text", ["", "4711", "Ω\x00\n", "x" * 70_000])
def test_what_was_sealed_is_opened_and_twice_the_same_text_looks_different(text: str) -> None:
    assert KEY.open(sealed(text), HERE) == text
    assert KEY.seal(text, HERE) != KEY.seal(text, HERE)
    assert len(text) < 4 or text not in KEY.seal(text, HERE)


@pytest.mark.parametrize(
    "place",
    [
        Place("doors", "d2", "code"),
        Place("doors", "d1", "name"),
        Place("gates", "d1", "code"),
        HERE.within(("a",)),
    ],
)
def test_a_ciphertext_opens_only_where_it_was_written(place: Place) -> None:
    with pytest.raises(SecretUnreadable) as refused:
        KEY.open(sealed("4711"), place)
    assert refused.value.code == "SECRET_DAMAGED"
    assert "find out who wrote it there" in refused.value.advice


def test_a_ciphertext_with_any_bit_changed_does_not_open() -> None:
    whole = sealed("4711")
    for at in range(len(whole.box)):
        box = bytearray(whole.box)
        box[at] ^= 1
        with pytest.raises(SecretUnreadable):
            KEY.open(SealedText(1, bytes(box)), HERE)


def test_a_key_of_another_generation_or_row_does_not_open() -> None:
    for other in (DataKey.fresh(1), DataKey(2, KEY.secret)):
        with pytest.raises(SecretUnreadable):
            other.open(sealed("4711"), HERE)


def test_names_in_a_path_cannot_be_shifted_into_each_other() -> None:
    assert Place("a", "bc", "d").bound("value", 1) != Place("ab", "c", "d").bound("value", 1)
    assert Place("a", "b").bound("key", 1) != Place("a", "b").bound("value", 1)


@pytest.mark.parametrize(
    "text", ["4711", "tms1:0:" + "A" * 40, "tms1:1:short", "tms1:1:" + "A" * 41, "tms2:1:" + "A" * 40]
)
def test_a_text_that_only_resembles_a_sealed_one_is_clear(text: str) -> None:
    assert SealedText.of(text) is None


def test_a_sealed_text_is_its_own_parts() -> None:
    text = KEY.seal("4711", HERE)
    assert text.startswith("tms1:1:")
    assert sealed("4711").generation == 1
    whole = SealedText.of(text)
    assert whole is not None
    assert whole.text == text


# --- master keys ---


def test_a_wrapped_key_is_unwrapped_by_its_master_key() -> None:
    row = OLD_ONLY.wrap(KEY, "doors", "d1")
    assert (row.master, row.generation) == ("old", 1)
    assert BOTH.unwrap(row) == DataKey(1, KEY.secret)


def test_without_its_master_key_it_is_missing() -> None:
    with pytest.raises(MasterKeyMissing, match="SECRET_KEYS_MISSING: master key old is not set") as missing:
        NEW_ONLY.unwrap(OLD_ONLY.wrap(KEY, "doors", "d1"))
    assert missing.value.fields["masters"] == ("old",)


def test_another_key_of_the_same_name_is_wrong() -> None:
    impostor = MasterKeys([MasterKey("old", NEW.secret)])
    with pytest.raises(MasterKeyMissing) as wrong:
        impostor.unwrap(OLD_ONLY.wrap(KEY, "doors", "d1"))
    assert wrong.value.code == "SECRET_KEY_WRONG"
    assert impostor.faults({"old": OLD.check_value()}) == {
        "old": "is another key than the one that had this name before"
    }


def test_a_wrapped_key_that_was_moved_to_another_row_is_refused() -> None:
    row = OLD_ONLY.wrap(KEY, "doors", "d1")
    with pytest.raises(MasterKeyMissing):
        OLD_ONLY.unwrap(row._replace(key="d2"))


def test_an_erased_key_says_so() -> None:
    with pytest.raises(SecretUnreadable) as erased:
        OLD_ONLY.unwrap(OLD_ONLY.wrap(KEY, "doors", "d1")._replace(wrapped=None))
    assert erased.value.code == "SECRET_ERASED"
    assert erased.value.advice.startswith("nothing brings the value back")


def test_faults_name_what_is_missing_and_nothing_else() -> None:
    registered = {"old": OLD.check_value(), "new": NEW.check_value()}
    assert BOTH.faults(registered) == {}
    assert BOTH.faults({}) == {}
    assert NEW_ONLY.faults(registered) == {"old": "is not set"}


def test_a_setting_gives_the_keys_back_the_first_one_first() -> None:
    keys = MasterKeys.parse(f"{NEW.setting}, {OLD.setting}")
    assert (keys.names, keys.first) == (("new", "old"), NEW)


@pytest.mark.parametrize(
    "setting",
    [
        "",
        "old",
        "old:",
        "old:not base64!",
        f"Old:{base64.b64encode(OLD.secret).decode()}",
        f"old:{base64.b64encode(b'c4n4ry' * 3).decode()}",
        f"{OLD.setting},old:{base64.b64encode(NEW.secret).decode()}",
        f"{OLD.setting},other:{base64.b64encode(OLD.secret).decode()}",
        f"{OLD.setting},",
    ],
)
def test_a_setting_that_is_not_as_expected_is_refused_without_being_quoted(setting: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        MasterKeys.parse(setting)
    assert all(
        part not in str(refused.value) for part in setting.replace(",", ":").split(":") if len(part) > 5
    )


def test_a_key_shows_no_secret() -> None:
    assert "secret" not in repr(OLD)
    assert "secret" not in repr(KEY)


@given(st.text(), st.text(), st.text(), st.integers(1, 9))
def test_what_a_box_is_bound_to_is_json(collection: str, key: str, field: str, generation: int) -> None:
    bound = json.dumps(["value", collection, key, field, generation]).encode()
    assert Place(collection, key, field).bound("value", generation) == bound
