"""What is kept of a record, whatever it holds."""

from __future__ import annotations

import re
from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.engine.commands import FakeRecord
from tests.support.engine.outbox import BEGAN, claim_of, lane_of
from tidemill.commands.decide_fold import AppliedRows, EncodedEvent, HandlerResult
from tidemill.commands.numbering import BatchRows, LaneNumbering, checksum, clean, header
from tidemill.commands.ports import Decoded
from tidemill.commands.replies import wanted
from tidemill.commands.rows import LogRow, OutboxRow
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.identity import SERVICES, chain, event_id, identify
from tidemill.domain.messages import CommandBase


def with_headers(*headers: tuple[str, bytes | None]) -> FakeRecord:
    return FakeRecord(0, 0, b"k", b"v", headers)


def test_a_header_is_text_or_nothing() -> None:
    record = with_headers(
        ("trace", b"first"), ("trace", b"last"), ("nul", b"a\x00"), ("bad", b"\xff"), ("none", None)
    )
    assert header(record, "trace") == "last"
    assert [header(record, name) for name in ("nul", "bad", "none", "absent")] == [None] * 4


@given(st.binary(max_size=6), st.binary(max_size=6), st.binary(max_size=6), st.binary(max_size=6))
def test_moving_a_byte_from_key_to_value_changes_the_checksum(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    if (a, b) != (c, d) and a + b == c + d:
        assert checksum(FakeRecord(0, 0, a, b)) != checksum(FakeRecord(0, 0, c, d))


def test_a_detail_is_fit_for_a_column() -> None:
    assert clean("a\x00b") == "a\\0b"
    assert clean("half a smile: \ud83d") == "half a smile: \\ud83d"
    assert clean("a whole one: \U0001f600") == "a whole one: \U0001f600"
    assert [len(clean(letter * 5000)) for letter in "x\ud800\x00"] == [1000] * 3


def test_identity_keeps_uuids_and_names_the_rest_within_their_service() -> None:
    uuid = "0190a3b4-0000-7000-8000-000000000001"
    assert identify(uuid, "a") == identify(uuid.upper(), "b") == uuid
    assert identify("1", "a") != identify("1", "b")
    assert identify("x" * 36, "a") == identify("x" * 36, "a")


@pytest.mark.parametrize(
    "text",
    [
        "2026-1-11-00000000000000001-00000042",
        "0190a3b400007000800000000000000001----",
        "{0190a3b400007000800000000000000001}",
        "0190a3b4-0000-7000-8000-00000000_001",
        "+190a3b4-0000-7000-8000-000000000001",
        " 190a3b4-0000-7000-8000-000000000001",
        "0x90a3b4-0000-7000-8000-000000000001",
        "\uff10190a3b4-0000-7000-8000-000000000001",
        "\u0660190a3b4-0000-7000-8000-000000000001",
        "0190a3b4-0000-7000-8000-000000000001\n",
        "0190a3b40-000-7000-8000-000000000001",
        "urn:uuid:0190a3b4-0000-7000-8000-000000000001",
        "0190a3b4000070008000000000000001",
    ],
)
def test_what_is_not_written_as_a_uuid_is_a_name_in_its_service(text: str) -> None:
    assert identify(text, "billing") != identify(text, "shipping")
    assert identify(text, "billing") == str(uuid5(uuid5(SERVICES, "billing"), text))


def test_ids_of_two_services_never_become_one() -> None:
    """Both lose their hyphens to the same 32 digits."""
    one, other = "2026-1-11-00000000000000001-00000042", "2026-11-1-00000000000000001-00000042"
    assert len({identify(text, service) for text in (one, other) for service in ("billing", "shipping")}) == 4


def test_the_chain_depends_on_every_event_and_their_order() -> None:
    first, second = event_id(identify("1", "a"), 1), event_id(identify("2", "a"), 1)
    assert chain(chain(0, first), second) != chain(chain(0, second), first)
    assert -(2**63) <= chain(-(2**63), first) < 2**63


def test_nobody_who_did_not_ask_gets_a_reply() -> None:
    assert wanted([], re.compile(".*")) == []


FIELDS = {"command_id": "the client's own", "service_name": "s", "timestamp": BEGAN, "correlation_id": "c"}


def numbering() -> LaneNumbering:
    claim = claim_of(lane_of())
    return LaneNumbering(BatchRows(), claim, claim.progress, 3, BEGAN, 0.25)


@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("key", [None, b"k", b"k" * 5000])
@pytest.mark.parametrize("command_id", [FIELDS["command_id"], str(uuid5(SERVICES, "x"))])
def test_a_command_with_one_event_has_the_rows_of_the_general_way(
    rows: int | None, key: bytes | None, command_id: str
) -> None:
    record = FakeRecord(0, 5, key, b"v", (("traceparent", b"00-1-2-01"),))
    decoded = Decoded("a.Command", FIELDS, b"", None)
    arrival = IncomingCommand(1, record, decoded, CommandBase.model_validate(FIELDS), None, command_id, 7)
    event = EncodedEvent("a.Event", b"payload")
    short, general = numbering(), numbering()
    disposition: HandlerResult = [event] if rows is None else AppliedRows([event], rows)
    for way in (short, general):
        way._position += way is general  # what `enter` does
    row = short.enter(arrival, disposition)
    general._log(arrival, b"a", command_id, events=1, rows=rows)
    assert row == general._send(arrival, b"a", command_id, event=event, rows=rows)
    assert type(row) is OutboxRow
    for way in (short, general):
        way._more_rows = None
        way.close(record)
    assert short._rows == general._rows
    assert {type(logged) for logged in short._rows.log} == {LogRow}
