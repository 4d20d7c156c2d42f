"""The conservation ledger: what goes into a step must come out of it. Pure: numbers in, findings out.

    records consumed = applied + rejected + duplicate + parked        the ledger, its chain of offsets, the log
    events written   = published = projected                         outbox, event topics, checkpoints
    rows applied     = hot + archived + diverted + removed           tables that commands append to, and their archive

What cannot be checked any more, because its generation has left, is noted and not guessed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tidemill.admin.rows import AuditRows, LaneState, ProjectionState, TableRows
from tidemill.outbox.ports import Tails

OUTCOMES: Final = {"applied": b"a", "rejected": b"r", "duplicate": b"d", "parked": b"p"}


@dataclass(frozen=True)
class Imbalance:
    """A step that does not balance. `place`: the lane (`market-data/3`) or the table.

    `expected` and `found` are None where rows cannot be counted.
    """

    hop: str
    place: str
    expected: int | None
    found: int | None
    what: str

    def __str__(self) -> str:
        numbers = "" if self.found is None else f": expected {self.expected:,}, found {self.found:,}"
        return f"{self.hop}, {self.place}: {self.what}{numbers}"


@dataclass(frozen=True)
class LaneBalance:
    """The counts of one lane. `published` is None while Kafka was not read; `projected`: by projection."""

    lane: int
    aggregate: str
    partition: int
    records: int
    applied: int
    rejected: int
    duplicate: int
    parked: int
    events: int
    published: int | None
    projected: Mapping[str, int]

    @property
    def name(self) -> str:
        """Return the lane's name for operators."""
        return f"{self.aggregate}/{self.partition}"


@dataclass(frozen=True)
class TableBalance:
    """A table that commands append to: what was applied must be somewhere. `applied` is None where it is not known.

    `rows` = `hot` + `archived` + `diverted` + `removed`. The `restored` ones are archived rows that were also brought
    back. The `removed` ones were of revisions that can never be current again.
    """

    table: str
    applied: int | None
    rows: int
    hot: int
    archived: int
    diverted: int
    restored: int
    removed: int = 0


@dataclass(frozen=True)
class Appended:
    """What appends to a table: the commands `types` (full names) of an aggregate; None if all of its commands do.

    `counted`: those of them whose rows are counted in every case, as decisions' are; of the others one row each is not.
    `removals`: the commands of the service's own that remove rows of it, which are counted.
    """

    table: str
    aggregate: str
    types: frozenset[str] | None
    counted: frozenset[str] = frozenset()
    removals: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Audit:
    """The result; it balances if there are no findings."""

    lanes: Sequence[LaneBalance]
    tables: Sequence[TableBalance]
    findings: Sequence[Imbalance]
    notes: Sequence[str]


@dataclass(frozen=True)
class Outside:
    """What follows the database: topics and checkpoints, read after the ledger."""

    tails: Mapping[int, Tails]
    projections: Mapping[str, ProjectionState]
    wanted: Mapping[str, Sequence[str]]
    """Aggregate -> names of its projections."""


@dataclass
class _LaneRows:
    """What the database holds of one lane."""

    state: LaneState
    ledger: Mapping[str, Any]
    totals: Mapping[str, int]
    by_generation: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    log: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    outbox: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    parked: int = 0

    def total(self, name: str) -> int:
        """Return a count since the lane's first record."""
        return int(self.ledger[name] + self.totals[name])


_NO_TOTALS: Final = dict.fromkeys(
    ("records", "applied", "rejected", "duplicate", "parked", "events", "rows"), 0
)


def audit(audit_rows: AuditRows, outside: Outside, appended: Sequence[Appended]) -> Audit:
    """Balance every step."""
    lanes = _by_lane(audit_rows)
    tables, notes = _tables(audit_rows, lanes, appended)
    findings = [
        finding
        for lane in lanes
        for check in (_ledger, _log, _outbox, _parked)
        for finding in check(lane, audit_rows)
    ]
    balances = [_balance(lane, outside) for lane in lanes]
    for lane, balance in zip(lanes, balances, strict=True):
        findings += _outside(lane, balance, outside)
    findings += [
        Imbalance("rows", table.table, table.applied, table.rows, _where(table))
        for table in tables
        if table.applied is not None and table.applied != table.rows
    ]
    return Audit(balances, tables, findings, [*_left(audit_rows), *notes])


def _by_lane(audit_rows: AuditRows) -> list[_LaneRows]:
    ledgers = {row["lane"]: row for row in audit_rows.ledger_sums}
    totals = {row["lane"]: row for row in audit_rows.ledger_totals}
    found = {
        state.lane: _LaneRows(state, ledgers[state.lane], totals.get(state.lane, _NO_TOTALS))
        for state in audit_rows.lanes
    }
    for row in audit_rows.ledger_by_generation:
        found[row["lane"]].by_generation[row["gen"]] = row
    names = {letter: name for name, letter in OUTCOMES.items()}
    for row in audit_rows.log_by_generation:
        counts = found[row["lane"]].log[row["gen"]]
        counts[names[row["outcome"]]] += row["records"]
        counts["events"] += row["events"]
        counts["rows"] += row["rows"]
    for row in audit_rows.outbox_by_generation:
        found[row["lane"]].outbox[row["gen"]] = row
    for row in audit_rows.parked_by_lane:
        found[row["lane"]].parked = row["records"]
    return list(found.values())


# --- the database ----------------------------------------------------------------------------------------------------


def _ledger(lane: _LaneRows, audit_rows: AuditRows) -> Iterator[Imbalance]:
    """The chain of offsets, and numbers that advance by what was counted."""
    del audit_rows
    name, ledger = lane.state.name, lane.ledger
    for column, what in (
        ("torn_at", "a batch does not begin where the one before it ended; the batch"),
        ("miscounted_at", "a batch's position or sequence does not advance by its counts; the batch"),
    ):
        if ledger[column] is not None:
            yield Imbalance("ledger", name, ledger[column] - 1, ledger[column], what)
    if lane.state.timeline == 1:  # a reconciliation may skip numbers, and its row may have left
        for column, counted, what in (
            ("base_position", "records", "records of ledgers that have left"),
            ("base_sequence", "events", "events of ledgers that have left"),
        ):
            if ledger[column] != lane.totals[counted]:
                yield Imbalance("ledger", name, ledger[column], lane.totals[counted], what)


def _log(lane: _LaneRows, audit_rows: AuditRows) -> Iterator[Imbalance]:
    """One row per record, by outcome, in every generation that is still there."""
    for gen, ledger in lane.by_generation.items():
        if gen in _kept(audit_rows, "has_log"):
            for counted in (*OUTCOMES, "events", "rows"):
                found = lane.log[gen][counted]
                if found != ledger[counted]:
                    what = f"{counted} in generation {gen} of the log"
                    yield Imbalance("log", lane.state.name, ledger[counted], found, what)


def _outbox(lane: _LaneRows, audit_rows: AuditRows) -> Iterator[Imbalance]:
    """One outcome per record and every event, in every generation that has not left."""
    for gen, ledger in lane.by_generation.items():
        if gen in _kept(audit_rows, "has_outbox"):
            row = lane.outbox.get(gen, {"outcomes": 0, "events": 0, "rows": 0})
            wanted = {"outcomes": sum(ledger[name] for name in OUTCOMES)}
            wanted |= {name: ledger[name] for name in ("events", "rows")}
            for counted, expected in wanted.items():
                if row[counted] != expected:
                    what = f"{counted} in generation {gen} of the outbox"
                    yield Imbalance("outbox", lane.state.name, expected, row[counted], what)


def _parked(lane: _LaneRows, audit_rows: AuditRows) -> Iterator[Imbalance]:
    del audit_rows
    expected = lane.total("parked")
    if lane.parked != expected:
        yield Imbalance("parked", lane.state.name, expected, lane.parked, "records that were parked")


def _kept(audit_rows: AuditRows, part: str) -> set[int]:
    return {row["gen"] for row in audit_rows.generations_kept if row[part]}


def _left(audit_rows: AuditRows) -> Iterator[str]:
    """What cannot be compared row by row any more."""
    kept = {row["gen"] for row in audit_rows.ledger_by_generation}
    for part, what in (("has_log", "log"), ("has_outbox", "outbox")):
        lost = sorted(kept - _kept(audit_rows, part))
        if lost:
            yield f"the {what} of generation {', '.join(map(str, lost))} has left; its rows are not compared"


# --- after the database ----------------------------------------------------------------------------------------------


def _balance(lane: _LaneRows, outside: Outside) -> LaneBalance:
    state, tails = lane.state, outside.tails.get(lane.state.lane)
    published = None
    if tails is not None:
        published = tails.events.sequence if tails.events is not None else 0
    projected = {}
    for name in outside.wanted.get(state.aggregate, ()):
        projection = outside.projections.get(name)
        projected[name] = projection.sequences.get(state.partition, 0) if projection else 0
    return LaneBalance(
        lane=state.lane,
        aggregate=state.aggregate,
        partition=state.partition,
        records=lane.total("records"),
        applied=lane.total("applied"),
        rejected=lane.total("rejected"),
        duplicate=lane.total("duplicate"),
        parked=lane.total("parked"),
        events=state.sequence,
        published=published,
        projected=projected,
    )


def _outside(lane: _LaneRows, balance: LaneBalance, outside: Outside) -> Iterator[Imbalance]:
    """Everything written must have arrived; later arrivals do not count."""
    name, written = balance.name, balance.events
    if balance.published is not None and balance.published < written:
        yield Imbalance("published", name, written, balance.published, "the last event in the topic")
    tails = outside.tails.get(lane.state.lane)
    if tails is not None and tails.outcomes is not None and tails.outcomes.position < lane.state.position:
        what = "the last position in the outcome topic"
        yield Imbalance("outcomes", name, lane.state.position, tails.outcomes.position, what)
    for projection, folded in balance.projected.items():
        if folded < written:
            yield Imbalance(f"projected {projection}", name, written, folded, "the last event folded")


def ahead(lanes: Sequence[LaneState], outside: Outside) -> list[Imbalance]:
    """Return where topics or projections hold more than the database ever wrote.

    `lanes` must have been read after `outside`.
    """
    findings = []
    for state in lanes:
        tails = outside.tails.get(state.lane)
        last = tails.events.sequence if tails is not None and tails.events is not None else 0
        if last > state.sequence:
            what = "the last event in the topic is ahead of the database"
            findings.append(Imbalance("published", state.name, state.sequence, last, what))
        for name in outside.wanted.get(state.aggregate, ()):
            projection = outside.projections.get(name)
            folded = projection.sequences.get(state.partition, 0) if projection else 0
            if folded > state.sequence:
                what = "the last event folded is ahead of the database"
                findings.append(Imbalance(f"projected {name}", state.name, state.sequence, folded, what))
    return findings


# --- tables ----------------------------------------------------------------------------------------------------------


def _tables(
    audit_rows: AuditRows, lanes: Sequence[_LaneRows], appended: Sequence[Appended]
) -> tuple[list[TableBalance], list[str]]:
    tables, notes = [], []
    for each in appended:
        if each.table in audit_rows.unread:
            continue
        ours = [lane for lane in lanes if lane.state.aggregate == each.aggregate]
        applied = _applied(audit_rows, ours, each)
        if applied is None:
            notes.append(f"{each.table}: the log that identifies its commands has left; not compared")
        removed = _counted(audit_rows, ours, each.removals, each.removals)
        tables.append(_table_balance(each.table, applied, audit_rows.rows[each.table], removed))
    return tables, notes


def _table_balance(table: str, applied: int | None, rows: TableRows, removed: int) -> TableBalance:
    return TableBalance(
        table=table,
        applied=applied,
        rows=rows.total + removed,
        hot=rows.hot,
        archived=rows.archived,
        diverted=rows.diverted,
        restored=rows.restored,
        removed=removed,
    )


def _where(table: TableBalance) -> str:
    """Return what a finding says of a table: only the counts that exist."""
    if not (table.archived or table.diverted or table.removed):
        return "rows applied and rows in the table"
    parts = f"{table.hot:,} hot, {table.archived:,} archived, {table.diverted:,} diverted"
    parts += f", {table.removed:,} removed" if table.removed else ""
    back = f", {table.restored:,} of the archived ones restored" if table.restored else ""
    return f"rows applied and rows found ({parts}{back})"


def _applied(audit_rows: AuditRows, lanes: Sequence[_LaneRows], appended: Appended) -> int | None:
    """Return how many rows commands appended to a table; None if that is not known any more."""
    if appended.types is None:
        return sum(lane.total("rows") for lane in lanes)
    left = {gen for lane in lanes for gen in lane.by_generation} - _kept(audit_rows, "has_log")
    if left or any(lane.totals["records"] for lane in lanes):
        return None
    return _counted(audit_rows, lanes, appended.types, appended.counted)


def _counted(
    audit_rows: AuditRows, lanes: Sequence[_LaneRows], types: frozenset[str], counted: frozenset[str]
) -> int:
    """Return how many rows the log says of applied commands of these types."""
    numbers = {lane.state.lane for lane in lanes}
    rows: int = sum(
        row["counted_rows" if row["type"] in counted else "rows"]
        for row in audit_rows.log_by_generation
        if row["lane"] in numbers and row["outcome"] == OUTCOMES["applied"] and row["type"] in types
    )
    return rows
