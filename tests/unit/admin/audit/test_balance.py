"""The audit finds every row that is deleted or doubled, at the hop where it happened, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from tidemill.admin.audit.balance import OUTCOMES, Appended, Audit, Outside, ahead, audit
from tidemill.admin.rows import AuditRows, LaneState, ProjectionState, TableRows
from tidemill.outbox.ports import Tail, Tails

AT = datetime(2026, 1, 1, tzinfo=UTC)
TYPE = "tidemill.market_data.RecordMarketData"
TABLE = "public.market_data"
APPENDED = [Appended(TABLE, "market-data", None)]
WANTED = {"market-data": ["latest-quotes"]}


def lane_state(lane_id: int, *, position: int, sequence: int, **changed: Any) -> LaneState:
    known: dict[str, Any] = dict.fromkeys(LaneState._fields)
    known |= {
        "lane": lane_id,
        "aggregate": "market-data",
        "partition": lane_id - 1,
        "partitions": 2,
        "command_topic": "c",
        "event_topic": "e",
        "outcome_topic": "o",
        "dead_letter_topic": "d",
        "epoch": 1,
        "gen": 2,
        "batch": 3,
        "timeline": 1,
        "next_offset": position,
        "position": position,
        "sequence": sequence,
        "chain": 0,
        "at": AT,
    }
    return LaneState(**known | changed)


def counts(**given: int) -> dict[str, int]:
    """Counts of a generation; one row for each applied command, unless `rows` says otherwise."""
    known = {"applied": 0, "rejected": 0, "duplicate": 0, "parked": 0, "events": 0} | given
    return {"rows": known["applied"]} | known


def records(row: dict[str, int]) -> int:
    return sum(row[name] for name in OUTCOMES)


@dataclass
class World:
    """Two lanes over two generations, all hops in balance: lane 1 has ten records, lane 2 three."""

    lanes: list[LaneState] = field(
        default_factory=lambda: [
            lane_state(1, position=10, sequence=6),
            lane_state(2, position=3, sequence=3),
        ]
    )
    ledger: dict[tuple[int, int], dict[str, int]] = field(
        default_factory=lambda: {
            (1, 1): counts(applied=4, rejected=1, events=4),
            (1, 2): counts(applied=2, duplicate=2, parked=1, events=2),
            (2, 1): counts(applied=3, events=3),
            (2, 2): counts(),
        }
    )
    totals: dict[int, dict[str, int]] = field(default_factory=dict)
    judged: dict[int, dict[str, Any]] = field(default_factory=dict)
    log: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)
    outbox: dict[tuple[int, int], dict[str, int]] = field(default_factory=dict)
    parked: dict[int, int] = field(default_factory=lambda: {1: 1})
    kept: dict[int, dict[str, bool]] = field(
        default_factory=lambda: {
            gen: {"has_log": True, "has_outbox": True, "has_ledger": True} for gen in (1, 2)
        }
    )
    rows: dict[str, TableRows] = field(default_factory=lambda: {TABLE: TableRows(9)})
    tails: dict[int, Tails] = field(
        default_factory=lambda: {
            1: Tails(Tail(9, 6, "x:1"), Tail(10, 6, None), Tail(8, 6, None)),
            2: Tails(Tail(3, 3, "y:1"), Tail(3, 3, None), None),
        }
    )
    folded: dict[int, int] = field(default_factory=lambda: {0: 6, 1: 3})

    def __post_init__(self) -> None:
        self.log = deepcopy(self.ledger)
        self.outbox = {
            place: {"outcomes": records(row), "events": row["events"], "rows": row["rows"]}
            for place, row in self.ledger.items()
        }

    def audit_rows(self) -> AuditRows:
        return AuditRows(
            lanes=self.lanes,
            ledger_sums=[self._summed(state.lane) for state in self.lanes],
            ledger_by_generation=[
                {"lane": lane, "gen": gen, **row} for (lane, gen), row in self.ledger.items()
            ],
            ledger_totals=[{"lane": lane, **row} for lane, row in self.totals.items()],
            log_by_generation=[
                {
                    "lane": lane,
                    "gen": gen,
                    "type": TYPE if name != "parked" else None,
                    "outcome": name[0].encode(),
                    "records": row[name],
                    "events": row["events"] if name == "applied" else 0,
                    "rows": row["rows"] if name == "applied" else 0,
                    "counted_rows": row.get("counted_rows", 0) if name == "applied" else 0,
                }
                for (lane, gen), row in self.log.items()
                for name in ("applied", "rejected", "duplicate", "parked")
                if row[name]
            ],
            outbox_by_generation=[
                {"lane": lane, "gen": gen, **row} for (lane, gen), row in self.outbox.items()
            ],
            parked_by_lane=[{"lane": lane, "records": records} for lane, records in self.parked.items()],
            generations_kept=[{"gen": gen, **parts} for gen, parts in self.kept.items()],
            rows=self.rows,
        )

    def _summed(self, lane_id: int) -> dict[str, Any]:
        rows = [row for (of, _), row in self.ledger.items() if of == lane_id]
        summed = {name: sum(row[name] for row in rows) for name in counts()}
        base = self.totals.get(lane_id, {"records": 0, "events": 0})
        fixed = {"base_position": base["records"], "base_sequence": base["events"], "leapt": False}
        return (
            {"lane": lane_id, "records": records(summed), "torn_at": None, "miscounted_at": None}
            | summed
            | fixed
            | self.judged.get(lane_id, {})
        )

    def outside(self) -> Outside:
        projection = ProjectionState("latest-quotes", "market-data", 1, "t", None, None, self.folded, [])
        return Outside(self.tails, {"latest-quotes": projection}, WANTED)

    def audit(self) -> Audit:
        return audit(self.audit_rows(), self.outside(), APPENDED)


def test_a_world_in_balance_has_no_findings() -> None:
    result = World().audit()
    assert result.findings == []
    assert result.notes == []
    first, second = result.lanes
    assert (first.records, first.applied, first.rejected, first.duplicate, first.parked) == (10, 6, 1, 2, 1)
    assert (first.events, first.published, first.projected) == (6, 6, {"latest-quotes": 6})
    assert (second.name, second.records) == ("market-data/1", 3)
    assert [(table.table, table.applied, table.rows) for table in result.tables] == [(TABLE, 9, 9)]


CORRUPTIONS: dict[str, tuple[Callable[[World], Any], str, str]] = {
    "a log row deleted": (lambda w: w.log[1, 1].update(rejected=0), "log", "market-data/0"),
    "a log row doubled": (lambda w: w.log[1, 2].update(duplicate=3), "log", "market-data/0"),
    "an outcome changed in the log": (
        lambda w: w.log[1, 1].update(rejected=0, duplicate=1),
        "log",
        "market-data/0",
    ),
    "an outbox outcome deleted": (lambda w: w.outbox[2, 1].update(outcomes=2), "outbox", "market-data/1"),
    "an outbox event deleted": (lambda w: w.outbox[2, 1].update(events=2), "outbox", "market-data/1"),
    "a row counted twice in the log": (lambda w: w.log[1, 1].update(rows=5), "log", "market-data/0"),
    "a row not counted in the outbox": (lambda w: w.outbox[2, 1].update(rows=2), "outbox", "market-data/1"),
    "an outbox event doubled": (lambda w: w.outbox[1, 2].update(events=3), "outbox", "market-data/0"),
    "a parked record deleted": (lambda w: w.parked.clear(), "parked", "market-data/0"),
    "a parked record doubled": (lambda w: w.parked.update({1: 2}), "parked", "market-data/0"),
    "a ledger row deleted": (lambda w: w.judged.update({1: {"torn_at": 7}}), "ledger", "market-data/0"),
    "a ledger row edited": (lambda w: w.judged.update({2: {"miscounted_at": 7}}), "ledger", "market-data/1"),
    "the first ledger rows deleted": (
        lambda w: w.judged.update({1: {"base_position": 4}}),
        "ledger",
        "market-data/0",
    ),
    "an event not published": (
        lambda w: w.tails.update({1: w.tails[1]._replace(events=Tail(8, 5, "w:1"))}),
        "published",
        "market-data/0",
    ),
    "an event topic emptied": (
        lambda w: w.tails.update({2: Tails(None, None, None)}),
        "published",
        "market-data/1",
    ),
    "an outcome not published": (
        lambda w: w.tails.update({1: w.tails[1]._replace(outcomes=Tail(9, 6, None))}),
        "outcomes",
        "market-data/0",
    ),
    "an event not folded": (lambda w: w.folded.update({1: 2}), "projected latest-quotes", "market-data/1"),
    "a lane never folded": (lambda w: w.folded.pop(0), "projected latest-quotes", "market-data/0"),
    "a row deleted": (lambda w: w.rows.update({TABLE: TableRows(8)}), "rows", TABLE),
    "a row doubled": (lambda w: w.rows.update({TABLE: TableRows(10)}), "rows", TABLE),
}


SPREAD = TableRows(in_table=5, archived=5, restored=2, diverted=1)
"""Nine rows: three that never left, two that came back besides, five in the lake (those two among them), one late."""


def test_rows_balance_wherever_they_are() -> None:
    world = World(rows={TABLE: SPREAD})
    (table,) = world.audit().tables
    assert world.audit().findings == []
    assert (table.rows, table.hot, table.archived, table.diverted, table.restored) == (9, 3, 5, 1, 2)


@pytest.mark.parametrize("place", TableRows._fields)
def test_a_row_that_is_lost_or_doubled_anywhere_is_found(place: str) -> None:
    for change in (-1, 1):
        world = World(rows={TABLE: SPREAD._replace(**{place: getattr(SPREAD, place) + change})})
        (finding,) = world.audit().findings
        assert (finding.hop, finding.place) == ("rows", TABLE)
        assert "archived" in finding.what


@pytest.mark.parametrize(("corrupt", "hop", "place"), CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_a_corruption_is_found_at_its_hop(corrupt: Callable[[World], Any], hop: str, place: str) -> None:
    world = World()
    corrupt(world)
    findings = world.audit().findings
    assert {(finding.hop, finding.place) for finding in findings} == {(hop, place)}
    assert f"{hop}, {place}: " in str(findings[0])


def test_what_is_ahead_of_the_database_is_found() -> None:
    world = World()
    world.tails[2] = Tails(Tail(4, 4, "z:1"), Tail(4, 4, None), None)
    world.folded[1] = 4
    assert world.audit().findings == []
    found = ahead(world.lanes, world.outside())
    assert [(finding.hop, finding.place) for finding in found] == [
        ("published", "market-data/1"),
        ("projected latest-quotes", "market-data/1"),
    ]
    assert (
        ahead(
            [lane_state(1, position=10, sequence=6), lane_state(2, position=4, sequence=4)], world.outside()
        )
        == []
    )


def test_what_came_after_the_snapshot_is_no_matter() -> None:
    world = World()
    world.tails[1] = Tails(Tail(30, 20, "z:1"), Tail(30, 20, None), None)
    world.folded[0] = 15
    assert world.audit().findings == []


def test_an_outcome_topic_emptied_by_retention_proves_nothing() -> None:
    world = World()
    world.tails[1] = world.tails[1]._replace(outcomes=None)
    assert world.audit().findings == []


def test_a_reconciled_lane_may_leap() -> None:
    world = World()
    world.lanes[0] = lane_state(1, position=110, sequence=106, timeline=2)
    world.judged[1] = {"leapt": True, "base_position": 100, "base_sequence": 100}
    world.tails[1] = Tails(Tail(109, 106, "x:1"), Tail(110, 106, None), None)
    world.folded[0] = 106
    assert world.audit().findings == []


def test_a_log_that_has_left_is_noted_and_its_sums_still_count() -> None:
    world = World()
    world.kept[1]["has_log"] = world.kept[1]["has_outbox"] = False
    for lane in (1, 2):
        del world.log[lane, 1], world.outbox[lane, 1]
    result = world.audit()
    assert result.findings == []
    assert [note.split(" has left")[0] for note in result.notes] == [
        "the log of generation 1",
        "the outbox of generation 1",
    ]
    assert result.tables[0].applied == 9
    world.rows[TABLE] = TableRows(8)
    assert [finding.hop for finding in world.audit().findings] == ["rows"]


def test_of_several_kinds_of_commands_the_log_tells_which_were_appended() -> None:
    world = World()
    some = [Appended(TABLE, "market-data", frozenset({TYPE}))]
    assert audit(world.audit_rows(), world.outside(), some).tables[0].applied == 9
    none = [Appended(TABLE, "market-data", frozenset({"another"}))]
    assert audit(world.audit_rows(), world.outside(), none).tables[0].applied == 0
    world.kept[1]["has_log"] = False
    result = audit(world.audit_rows(), world.outside(), some)
    assert result.tables[0].applied is None
    assert any(note.startswith(TABLE) for note in result.notes)


def test_commands_with_many_rows_balance_by_their_rows() -> None:
    """Four commands of before, which had one each, and two of now, which have ten each."""
    many = {(1, 2): counts(applied=2, duplicate=2, parked=1, events=2, rows=20)}
    world = World(rows={TABLE: TableRows(27)})
    world = World(ledger=world.ledger | many, rows=world.rows)
    assert world.audit().findings == []
    assert world.audit().tables[0].applied == 27
    world.rows[TABLE] = TableRows(26)
    assert [(each.hop, each.expected, each.found) for each in world.audit().findings] == [("rows", 27, 26)]


def test_of_decisions_only_the_counted_rows_were_appended() -> None:
    """A decision without a count is of before its declaration had a table: it appended nothing."""
    counted = {(1, 2): counts(applied=2, duplicate=2, parked=1, events=2, rows=20) | {"counted_rows": 20}}
    world = World(ledger=World().ledger | counted)
    decided = [Appended(TABLE, "market-data", frozenset({TYPE}), frozenset({TYPE}))]
    assert audit(world.audit_rows(), world.outside(), decided).tables[0].applied == 20


@pytest.mark.parametrize(("in_table", "found"), [(5, []), (4, [(9, 8)]), (6, [(9, 10)])])
def test_removed_rows_are_those_that_the_log_counts(in_table: int, found: list[tuple[int, int]]) -> None:
    world = World(rows={TABLE: TableRows(in_table)})
    row = {"lane": 1, "gen": 2, "type": "Remove", "outcome": b"a", "records": 1, "events": 0}
    logged = [
        row | {"rows": 4, "counted_rows": 4},
        row | {"type": "Other", "rows": 3, "counted_rows": 3},
    ]
    rows = world.audit_rows()
    rows = rows._replace(log_by_generation=[*rows.log_by_generation, *logged])
    appended = [Appended(TABLE, "market-data", frozenset({TYPE}), removals=frozenset({"Remove"}))]
    result = audit(rows, world.outside(), appended)
    (table,) = result.tables
    assert (table.applied, table.hot, table.removed, table.rows) == (9, in_table, 4, in_table + 4)
    wrong = [finding for finding in result.findings if finding.hop == "rows"]
    assert [(finding.expected, finding.found) for finding in wrong] == found
    assert all(", 4 removed)" in finding.what for finding in wrong)


def test_a_ledger_that_has_left_goes_on_in_its_totals() -> None:
    world = World()
    for lane in (1, 2):
        gone = world.ledger.pop((lane, 1))
        world.totals[lane] = {"records": records(gone), **gone}
        del world.log[lane, 1], world.outbox[lane, 1]
    world.kept.pop(1)
    result = world.audit()
    assert result.findings == []
    assert result.lanes[0].records == 10
    world.totals[1]["records"] += 1
    world.judged[1] = {"base_position": 5}
    assert [finding.hop for finding in world.audit().findings] == ["ledger"]
