"""Ids follow from what was sent."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.support.engine.commands import uuid7
from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.submissions.identifiers import document_key, idempotency_key, line_id, new_command_id
from tidemill.submissions.preconditions import ANY, Precondition, precondition

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("order-7", "order-7"),
        (' "order-7" ', "order-7"),
        (r'"a \"b\" \\c"', 'a "b" \\c'),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_key_is_quoted_or_bare(header: str, key: str) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize("header", ["", " ", '""', '"open', "x" * 201, "a\tb", "é", '"a" "b"', r'"\x"'])
def test_a_key_that_cannot_be_used_is_refused(header: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        idempotency_key(header)
    assert refused.value.request_code is RequestCode.BAD_PARAMETER
    assert [(fault.kind, fault.where) for fault in refused.value.faults] == [("header", "Idempotency-Key")]


def test_a_made_id_is_a_uuid_7_of_its_time() -> None:
    made = UUID(new_command_id(NOON, bytes(range(10))))
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == int(NOON.timestamp() * 1000)
    assert str(made) != new_command_id(NOON, bytes(10))


def test_a_line_has_an_id_of_its_own_that_a_repeat_has_again() -> None:
    ids = [line_id("batch", "shop", number) for number in (1, 2, 3)]
    assert len(set(ids)) == 3
    assert ids == [line_id("batch", "shop", number) for number in (1, 2, 3)]
    assert ids[0] != line_id("batch", "other", 1), "ids that are no UUIDs are of their service"


def test_the_key_of_a_document_follows_from_its_command() -> None:
    command = uuid7(NOON)
    key = UUID(document_key(command, "shop", "CreateUser"))
    assert str(key) == document_key(command.upper(), "shop", "CreateUser")
    assert (key.version, key.int >> 80) == (7, int(NOON.timestamp() * 1000))
    assert str(key) != document_key(command, "shop", "CreateJob")
    assert UUID(document_key("order-7", "shop", "CreateUser")).version == 5
    assert document_key("order-7", "shop", "CreateUser") != document_key("order-7", "b", "CreateUser")


@pytest.mark.parametrize(
    ("header", "demanded"),
    [
        (None, ANY),
        ("*", Precondition(exists=True)),
        ('"v3"', Precondition(3, exists=True)),
        ('W/"v3"', Precondition(3, exists=True)),
        ('"v12-gzip"', Precondition(12, exists=True)),
    ],
)
def test_if_match_is_a_version_also_as_proxies_change_it(header: str | None, demanded: Precondition) -> None:
    assert precondition(header) == demanded


def test_if_match_may_be_demanded() -> None:
    with pytest.raises(RequestRefused) as refused:
        precondition(None, demanded=True)
    assert refused.value.request_code is RequestCode.MATCH_REQUIRED
    assert precondition("*", demanded=True) == Precondition(exists=True)


@pytest.mark.parametrize("header", ["", "v3", '"r3"', '"v0"', '"v3", "v4"', f'"v{2**63}"', '"v٣"'])
def test_another_etag_is_refused(header: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        precondition(header)
    assert refused.value.request_code is RequestCode.WRONG_ETAG
