"""Clean texts: the unclean is refused with its clean form, and the cleaner makes what is accepted."""

from __future__ import annotations

from typing import Any

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tests.support.engine.commands import base
from tidemill.api import CleanKey, CleanLabel, CleanText, CommandBase, Email, Label, Message, clean


class Invite(CommandBase):
    """A command with fields of every clean type."""

    name: CleanLabel
    email: Email
    note: CleanText | None = None
    plain: Label = "x"


def refusal(kind: Any, text: str) -> str:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python(text)
    return str(refused.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" Ann", "has spaces around it: send 'Ann'"),
        ("Ann\u00a0", "has spaces around it: send 'Ann'"),
        ("A\u0308nn", "is not composed (NFC): send 'Änn'"),
        ("An\x00n", "has control characters: send 'Ann'"),
        ("Ann\tLee", "has control characters: send 'Ann Lee'"),
        ("nna\u202e", "has control characters: send 'nna'"),
        (" A\u0308\x07 ", "has spaces around it, is not composed (NFC), has control characters: send 'Ä'"),
    ],
)
def test_an_unclean_label_is_refused_with_its_clean_form(text: str, said: str) -> None:
    assert refusal(CleanLabel, text) == f"Value error, {said}"


@pytest.mark.parametrize("text", ["Ann", "Änn Lee", "日本", "👩\u200d👩\u200d👧", "a  b"])
def test_clean_texts_pass_unchanged(text: str) -> None:
    assert TypeAdapter(CleanLabel).validate_python(text) == text
    assert TypeAdapter(CleanText).validate_python(text) == text


def test_a_text_may_have_lines_and_tabs() -> None:
    assert TypeAdapter(CleanText).validate_python("a\n\tb") == "a\n\tb"
    assert refusal(CleanText, "a\r\nb") == "Value error, has control characters: send 'a\\nb'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ann@EXAMPLE.com", "is not in its usual form: send 'ann@example.com'"),
        (" ann@example.com", "has spaces around it: send 'ann@example.com'"),
        ("nothing", "is not an e-mail address: "),
        ("a@b@c.de", "is not an e-mail address: "),
        ("ann@exa mple.com", "is not an e-mail address: "),
        ("", "is not an e-mail address: "),
    ],
)
def test_an_address_is_refused_unless_it_is_in_its_usual_form(text: str, said: str) -> None:
    assert refusal(Email, text).startswith(f"Value error, {said}")


def test_an_address_is_not_looked_up() -> None:
    address = "ann@no-such-domain-of-anybody.com"
    assert TypeAdapter(Email).validate_python(address) == address


def test_every_field_with_a_fault_is_named_at_once() -> None:
    with pytest.raises(ValidationError) as refused:
        Invite.model_validate(base(name=" Ann", email="no", note="a\x00"))
    assert [fault["loc"] for fault in refused.value.errors()] == [("name",), ("email",), ("note",)]


def test_a_long_text_is_not_quoted_whole() -> None:
    assert len(refusal(CleanText, " " + "x" * 5_000)) < 200


def test_the_cleaner_makes_what_is_accepted_and_leaves_the_rest() -> None:
    values = base(name=" An\tn ", email="Ann@EXAMPLE.com ", note="a\r\n", plain=" x ", other=" y ")
    cleaned = clean(Invite, values)
    assert cleaned == values | {"name": "An n", "email": "Ann@example.com", "note": "a"}
    assert Invite.model_validate(clean(Invite, base(name=" A", email="a@B.de", note=None))).email == "a@b.de"


def test_what_cannot_be_cleaned_stays_to_be_refused() -> None:
    assert clean(Invite, {"email": " nothing ", "name": 7}) == {"email": " nothing ", "name": 7}


@given(st.text())
def test_clean_of_clean_is_clean(text: str) -> None:
    once = clean(Invite, {"name": text, "note": text})
    assert clean(Invite, once) == once
    for name, kind in (("name", CleanLabel), ("note", CleanText)):
        if 0 < len(once[name]) <= 200 and once[name].isprintable():
            assert TypeAdapter(kind).validate_python(once[name]) == once[name]


PARTS = st.text(st.sampled_from("abzA09.-_+@ é"), max_size=8)


@given(
    PARTS, PARTS, st.sampled_from(["", ".com", ".example", ".test", ".local", ".de.", ".xn--p1ai", "-.org"])
)
def test_a_usual_address_is_accepted_at_once_as_the_library_would(local: str, domain: str, end: str) -> None:
    address = f"{local}@{domain}{end}"
    try:
        usual = validate_email(address, check_deliverability=False).normalized
    except EmailNotValidError:
        usual = None
    assert accepts(Email, address) == (usual == address)


@pytest.mark.parametrize(
    ("local", "domain"), [(64, 3), (65, 3), (3, 63), (3, 64), (64, 180), (64, 189), (64, 190)]
)
def test_lengths_are_those_of_the_library(local: int, domain: int) -> None:
    labels = ".".join(["x" * 40] * 8)[: domain - 3].strip(".") if domain > 64 else "x" * domain
    address = f"{'a' * local}@{labels}.de"
    try:
        validate_email(address, check_deliverability=False)
        usual = len(address) <= 254
    except EmailNotValidError:
        usual = False
    assert accepts(Email, address) == usual


def accepts(kind: Any, text: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(text)
    except ValidationError:
        return False
    return True


def test_a_key_is_refused_with_its_clean_form_and_left_to_its_sender() -> None:
    class Keyed(Message):
        key: CleanKey
        name: CleanLabel = "a"

    with pytest.raises(ValidationError, match="has spaces around it: send 'k1'"):
        Keyed(key=" k1")
    assert clean(Keyed, {"key": " k1", "name": " b"}) == {"key": " k1", "name": "b"}
