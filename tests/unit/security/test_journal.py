"""Chains of the journal: any single change of what is stored is found, wherever it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from tidemill.security.journal import (
    BEFORE_ALL,
    Chain,
    ChainEnd,
    EntryKind,
    EntryRef,
    JournalEntry,
    JournalRow,
    WriterIdentity,
    canonical_detail,
    link_of,
    payload_detail,
    row_hash,
)
from tidemill.security.journal_check import JournalFault, JournalFinding, faults

AT = datetime(2026, 12, 1, 10, 0, 0, 123456, tzinfo=UTC)
PROCESS = WriterIdentity("http", "host-1", 17, "0.6.0", AT)
TEXT_FIELDS = ("kind", "principal", "action", "collection", "detail")


def some_uuid(source: Random) -> UUID:
    return UUID(int=source.getrandbits(128))


def chain_of(source: Random, length: int, after: ChainEnd | None = None) -> list[JournalRow]:
    """A chain as a process writes it: an anchor, then entries of any kind, in inserts of several."""
    chain = Chain(some_uuid(source))
    rows = chain.rows([JournalEntry(kind=EntryKind.ANCHOR, action="start", detail=PROCESS.detail(after))], AT)
    while len(rows) < length:
        entries = [entry_of(source, rows[-1].ref) for _ in range(source.randint(1, 4))]
        at = AT + timedelta(microseconds=source.randrange(10**12))
        rows += chain.after(rows).rows(entries, at)
    return rows


def entry_of(source: Random, before: EntryRef) -> JournalEntry:
    kind = source.choice([EntryKind.INTENT, EntryKind.OUTCOME, EntryKind.REFUSAL, EntryKind.CHANGE])
    return JournalEntry(
        kind=kind,
        principal=source.choice([None, "pricing", "änne"]),
        action=source.choice(["create", "grant", "lanes resume"]),
        collection=source.choice([None, "market-data"]),
        command_id=source.choice([None, some_uuid(source)]),
        of=before if kind is EntryKind.OUTCOME else None,
        detail=payload_detail(source.sample(["symbol", "price", "naïve"], 2), source.randbytes(9)),
    )


def stored(row: JournalRow) -> JournalRow:
    """The row as the database gives it back: jsonb orders keys by length and puts spaces between them."""
    detail = json.loads(row.detail)
    ordered = {name: detail[name] for name in sorted(detail, key=lambda name: (len(name), name))}
    return row._replace(detail=json.dumps(ordered, ensure_ascii=False))


def mutated(source: Random, row: JournalRow) -> JournalRow:
    """The row with one value changed in one place."""
    name = source.choice([name for name in JournalRow._fields if getattr(row, name) is not None])
    return row._replace(**{name: other(source, name, getattr(row, name))})


def other(source: Random, name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        place = source.randrange(len(value))
        return value[:place] + bytes([value[place] ^ (1 << source.randrange(8))]) + value[place + 1 :]
    if isinstance(value, UUID):
        return UUID(bytes=other(source, name, value.bytes))
    if isinstance(value, datetime):
        return value + timedelta(microseconds=source.choice([-1, 1]))
    if isinstance(value, int):
        return value + source.choice([1, 7])
    if name == "detail":
        detail = json.loads(value)
        changed = source.choice(sorted(detail))
        return json.dumps(detail | {changed: "x"} if detail[changed] != "x" else {})
    place = source.randrange(len(value))
    return value[:place] + chr(ord(value[place]) ^ 1) + value[place + 1 :]


def kinds(findings: list[JournalFinding]) -> set[JournalFault]:
    return {finding.fault for finding in findings}


def test_chains_as_they_are_written_have_no_fault(seed: int) -> None:
    source = Random(seed)
    chains = [row for _ in range(5) for row in chain_of(source, 20)]
    assert faults(map(stored, chains)) == []


def test_any_single_change_of_any_column_of_any_row_is_found(seed: int) -> None:
    source = Random(seed)
    for _ in range(500):
        rows = [stored(row) for row in chain_of(source, 8)]
        place = source.randrange(len(rows))
        rows[place] = mutated(source, rows[place])
        assert faults(rows), (place, rows[place])


def test_any_change_to_null_or_from_null_is_found(seed: int) -> None:
    source = Random(seed)
    for name in ("principal", "collection", "command_id", "of_writer", "of_number", "at"):
        rows = chain_of(source, 30)
        place = next(place for place, row in enumerate(rows) if getattr(row, name) is not None)
        emptied: dict[str, Any] = {name: None}
        rows[place] = rows[place]._replace(**emptied)
        assert kinds(faults(rows)) == {JournalFault.CHANGED}, name


def test_a_removed_entry_is_found_wherever_it_was_but_at_the_end(seed: int) -> None:
    rows = chain_of(Random(seed), 10)
    for place in range(len(rows) - 1):
        found = faults(rows[:place] + rows[place + 1 :])
        assert JournalFault.MISSING in kinds(found)
        assert found[0].number == place + 1


def test_the_end_that_was_cut_off_is_found_by_an_anchor_from_outside(seed: int) -> None:
    rows = chain_of(Random(seed), 10)
    anchor = ChainEnd(rows[-1].writer, rows[-1].number, rows[-1].hash)
    assert faults(rows[:-1]) == []
    assert kinds(faults(rows[:-1], [anchor])) == {JournalFault.CUT_OFF}
    assert kinds(faults([], [anchor])) == {JournalFault.CUT_OFF}
    assert faults(rows, [anchor]) == []


def test_a_chain_that_was_written_anew_is_found_by_an_anchor_from_outside(seed: int) -> None:
    source = Random(seed)
    rows = chain_of(source, 4)
    forged = Chain(rows[0].writer).rows(
        [
            JournalEntry(kind=EntryKind.ANCHOR, action="start", detail=PROCESS.detail(None)),
            *(entry_of(source, rows[0].ref) for _ in rows[1:]),
        ],
        AT,
    )
    assert faults(forged) == []
    anchor = ChainEnd(rows[-1].writer, rows[3].number, rows[3].hash)
    assert kinds(faults(forged, [anchor])) == {JournalFault.OTHER}


def test_exchanged_entries_are_found(seed: int) -> None:
    rows = chain_of(Random(seed), 6)
    rows[3], rows[4] = rows[4]._replace(number=rows[3].number), rows[3]._replace(number=rows[4].number)
    assert JournalFault.CHANGED in kinds(faults(rows))


def test_a_chain_that_another_continues_may_not_be_shortened(seed: int) -> None:
    source = Random(seed)
    first = chain_of(source, 5)
    second = chain_of(source, 3, ChainEnd(first[-1].writer, first[-1].number, first[-1].hash))
    assert faults([*first, *second]) == []
    assert kinds(faults([*first[:-1], *second])) == {JournalFault.CUT_OFF}
    assert kinds(faults(second)) == {JournalFault.CUT_OFF}
    link = link_of(second[0])
    assert link is not None
    assert link.number == first[-1].number


def test_only_the_first_entry_is_an_anchor(seed: int) -> None:
    chain = Chain(some_uuid(Random(seed)))
    change = JournalEntry(kind=EntryKind.CHANGE, action="grant")
    anchor = JournalEntry(kind=EntryKind.ANCHOR, action="start")
    assert kinds(faults(chain.rows([change], AT))) == {JournalFault.NO_ANCHOR}
    assert kinds(faults(chain.rows([anchor, anchor], AT))) == {JournalFault.NO_ANCHOR}


@pytest.mark.parametrize(
    "planted",
    [
        '{"a": 1.0}',
        '{"a": 1e2}',
        '{"a": 123456789012345678901}',
        '{"a": "1"}',
        '{"a": 1, "b": null}',
        "[]",
        "1",
    ],
)
def test_no_other_json_has_the_hash_of_a_detail(planted: str) -> None:
    entry = JournalEntry(kind=EntryKind.ANCHOR, action="start", detail={"a": 1})
    (row,) = Chain(UUID(int=1)).rows([entry], AT)
    assert row_hash(BEFORE_ALL, row) == row.hash
    assert row_hash(BEFORE_ALL, row._replace(detail=planted)) != row.hash


def test_the_bytes_that_are_hashed_stay_as_they_are() -> None:
    """A chain of another version is checked by this one: the form may not change without a new name."""
    entry = JournalEntry(
        kind=EntryKind.OUTCOME,
        principal="pricing",
        action="applied",
        collection="market-data",
        command_id=UUID(int=7),
        of=EntryRef(UUID(int=1), 3),
        detail={"b": ["x", "ä"], "a": 1},
    )
    (row,) = Chain(UUID(int=1), 3, bytes(range(32))).rows([entry], AT)
    assert row.detail == '{"a":1,"b":["x","ä"]}'
    assert row.hash.hex() == "c8c19b1bd789f3b153301f977832e2dde6f995e02310fbf00361173eea02c4c9"


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "x" * 201},
        {"principal": "a\0b"},
        {"collection": "\ud800"},
        {"detail": {"a": 1.5}},
        {"detail": {"a": 10**18}},
        {"detail": {"a": "\0"}},
        {"detail": {"a": ["\ud800"]}},
        {"detail": {"a": {"b": "c"}}},
        {"detail": {"a": "x" * 2_000}},
    ],
)
def test_an_entry_that_could_not_be_stored_or_read_back_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        JournalEntry(**({"kind": EntryKind.CHANGE, "action": "grant"} | wrong))


def test_no_value_of_a_payload_reaches_an_entry() -> None:
    detail = payload_detail({"symbol": "s3cr3t", "price": 1}, b'{"symbol":"s3cr3t"}')
    assert "s3cr3t" not in canonical_detail(detail)
    assert detail["fields"] == ["symbol", "price"]


def test_what_a_client_sends_bounds_no_entry() -> None:
    detail = payload_detail((f"{number}\0\ud800" * 50 for number in range(1_000)), b"")
    entry = JournalEntry(kind=EntryKind.INTENT, action="create", detail=detail)
    names, more = entry.detail["fields"], entry.detail["more_fields"]
    assert isinstance(names, list)
    assert names
    assert len(names) + int(str(more)) == 1_000


def test_an_anchor_is_read_as_it_was_written() -> None:
    anchor = ChainEnd(UUID(int=5), 12, bytes(range(32)))
    assert ChainEnd.parse(anchor.text()) == anchor


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"writer": 1, "number": 1, "hash": ""}', "1"])
def test_a_line_that_is_not_an_anchor_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        ChainEnd.parse(line)


@pytest.mark.parametrize(
    "detail",
    [
        {"a": "\0"},
        {"a": ["ä", "\ud800"]},
        {"\0": 1},
        {"ä": ["\0"]},
        {"a": 10**18},
        {"a": [-(10**18)]},
        {"a": 1.5},
        {"a": {"b": 1}},
    ],
)
def test_a_detail_that_has_no_one_form_is_refused(detail: Any) -> None:
    with pytest.raises(ValueError, match="expected texts that PostgreSQL stores"):
        JournalEntry(kind=EntryKind.CHANGE, action="grant", detail=detail)


def test_a_text_that_only_looks_like_an_escape_is_kept() -> None:
    detail: Any = {"b": "\\u0000", "a": ["ä", None, True]}
    entry = JournalEntry(kind=EntryKind.CHANGE, action="grant", detail=detail)
    assert json.loads(entry.detail_text) == entry.detail
    assert entry.detail_text == canonical_detail(entry.detail)
    assert "ä" in entry.detail_text
