"""Cursors: only the service makes them, and each fits the request that it came from."""

from __future__ import annotations

import base64
from random import Random

import pytest

from tests.support.engine.collections import all_collections
from tidemill.domain.errors import RequestRefused
from tidemill.queries.cursors import Cursors, fingerprint
from tidemill.queries.order import OrderKey, Position, is_shared, total_order
from tidemill.queries.request import SortKey, page_request

COLLECTIONS = all_collections()
SAMPLES, READINGS = COLLECTIONS.visible("samples"), COLLECTIONS.visible("readings")
CURSORS = Cursors(b"k" * 32)
PLACE = Position(("NaN", None, "2026-11-30 10:00:00.123456+00", 'ä"\\'), 3)


def arguments(*pairs: tuple[str, str], hidden: frozenset[str] = frozenset()) -> str:
    collection = COLLECTIONS.visible("samples", hidden)
    request = page_request(collection, pairs)
    return fingerprint(collection, request.where, total_order(collection, request.sort))


def refused(text: str, made_for: str = "a", cursors: Cursors = CURSORS) -> str:
    with pytest.raises(RequestRefused) as caught:
        cursors.opened(text, made_for)
    return caught.value.code


def test_a_place_comes_back() -> None:
    assert CURSORS.opened(CURSORS.sealed(PLACE, "a"), "a") == PLACE


def test_processes_with_one_key_share_cursors() -> None:
    assert Cursors(b"k" * 32).opened(CURSORS.sealed(PLACE, "a"), "a") == PLACE
    assert refused(CURSORS.sealed(PLACE, "a"), cursors=Cursors(b"l" * 32)) == "CURSOR_MISMATCH"


def test_a_cursor_of_other_arguments_is_refused() -> None:
    base = arguments(("small", "1"), ("_sort", "name"))
    assert base == arguments(("_sort", "name"), ("small", "1"), ("_limit", "3"), ("_fields", "id"))
    others = [
        arguments(("_sort", "name")),
        arguments(("small", "2"), ("_sort", "name")),
        arguments(("small.neq", "1"), ("_sort", "name")),
        arguments(("small", "1"), ("_sort", "-name")),
        arguments(("small", "1"), ("_sort", "name,whole")),
        arguments(("small", "1"), ("_sort", "name"), hidden=frozenset({"big"})),
        fingerprint(READINGS, page_request(SAMPLES, [("small", "1")]).where, total_order(READINGS, [])),
    ]
    assert len({base, *others}) == len(others) + 1
    for other in others:
        assert refused(CURSORS.sealed(PLACE, base), other) == "CURSOR_MISMATCH"


def test_every_changed_byte_is_refused(seed: int) -> None:
    cursor = CURSORS.sealed(PLACE, "a")
    source = Random(seed)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place, character in enumerate(cursor):
        other = source.choice(alphabet.replace(character, ""))
        assert refused(cursor[:place] + other + cursor[place + 1 :]) == "CURSOR_MISMATCH"
    for bit in range(6):  # the last character, of which not every bit counts
        last = alphabet[alphabet.index(cursor[-1]) ^ (1 << bit)]
        assert refused(cursor[:-1] + last) == "CURSOR_MISMATCH"


@pytest.mark.parametrize("text", ["", "A", "====", "ä", "a b", "\x00", "A" * 8192, "../..", "e30", "\ud800"])
def test_what_never_was_a_cursor_is_refused(text: str) -> None:
    assert refused(text) == "CURSOR_MISMATCH"


@pytest.mark.parametrize("payload", [b"", b"x", b'[2,"a","f",0,[]]', b'[1,"a","b",0,[]]'])
def test_sealed_nonsense_is_refused(payload: bytes) -> None:
    sealed = payload + CURSORS._tag(payload)
    text = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    assert refused(text) == "CURSOR_MISMATCH"


def test_padding_and_truncation_are_refused() -> None:
    cursor = CURSORS.sealed(PLACE, "a")
    for text in (f"{cursor}=", f"{cursor}A", cursor[:-1], cursor[1:], f" {cursor}", cursor.swapcase()):
        assert refused(text) == "CURSOR_MISMATCH"


# --- orders ----------------------------------------------------------------------------------------------------------


def test_the_key_makes_an_order_total() -> None:
    assert total_order(SAMPLES, [SortKey("name", descending=True)]) == (
        OrderKey("name", descending=True, nullable=True),
        OrderKey("id"),
    )
    assert total_order(SAMPLES, [SortKey("id", descending=True)]) == (OrderKey("id", descending=True),)
    assert not is_shared(total_order(SAMPLES, []))


def test_facts_are_the_newest_first_then_by_command_then_by_all_that_is_visible() -> None:
    assert total_order(READINGS, []) == (
        OrderKey("time", descending=True),
        OrderKey("command_id"),
        OrderKey(None),
    )
    assert total_order(READINGS, [SortKey("time")])[0] == OrderKey("time")
    assert is_shared(total_order(READINGS, []))


def test_a_hidden_key_decides_no_order() -> None:
    hidden = COLLECTIONS.visible("samples", frozenset({"id"}))
    assert total_order(hidden, [SortKey("name")]) == (OrderKey("name", nullable=True), OrderKey(None))
