"""`tidemill audit`: the conservation ledger, and the journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import journal, session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, say
from tidemill.domain.errors import UsageError

if TYPE_CHECKING:
    from tidemill.admin.audit.balance import Audit, LaneBalance

EXAMPLES = examples(
    "tidemill audit",
    "tidemill audit --lanes",
    "tidemill audit --wait 60 --json",
    "tidemill audit --journal --anchor kept/journal.anchors --write-anchor kept/journal.anchors",
)


def audit(
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for records in flight.")] = 10.0,
    lanes: Annotated[bool, typer.Option("--lanes", help="Show every lane, not only the totals.")] = False,
    of_journal: Annotated[
        bool, typer.Option("--journal", help="Check the journal instead: who did what by hand or over HTTP.")
    ] = False,
    anchor: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare the journal with ends of chains that were kept here."),
    ] = None,
    write_anchor: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the ends of the journal's chains, to be kept elsewhere."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Balance every step: what went in must have come out.

    Records consumed = applied + rejected + duplicate + parked.
    Events written = published = projected.
    Rows applied = hot + archived + diverted + removed, by table.
    All counts are of one moment; later records do not count.
    Exits 1, and names step and lane, if one does not balance.
    With --journal: walk its chains, find what was changed or removed (then it exits 1), and list what was begun without
    an outcome.
    """
    if of_journal:
        journal.check(anchor, write_anchor, as_json)
        return
    if anchor is not None or write_anchor is not None:
        raise UsageError("--anchor and --write-anchor are options of --journal")
    result = session.ask(lambda admin: admin.audit.run(wait_s=wait))
    if as_json:
        print_json({"balanced": not result.findings, **_plain(result)})
    else:
        _show(result, lanes)
    if result.findings:
        raise typer.Exit(1)


def _plain(result: Audit) -> dict[str, object]:
    return {
        "lanes": result.lanes,
        "tables": result.tables,
        "findings": result.findings,
        "notes": result.notes,
    }


def _show(result: Audit, every_lane: bool) -> None:
    rows = [_row(aggregate, lanes) for aggregate, lanes in _grouped(result).items()]
    if every_lane:
        rows += [_row(lane.name, [lane]) for lane in result.lanes if lane.records]
    columns = ("", "records", "applied", "rejected", "duplicate", "parked", "events", "published")
    print_table(columns, rows, title="Every record, every event")
    folded = [
        (name, aggregate, sum(lane.events for lane in lanes), sum(lane.projected[name] for lane in lanes))
        for aggregate, lanes in _grouped(result).items()
        for name in lanes[0].projected
    ]
    print_table(("read model", "of", "events", "folded"), folded, title="Every read model")
    tables = [
        (
            table.table,
            "?" if table.applied is None else table.applied,
            table.hot,
            table.archived,
            table.diverted,
            table.removed,
            table.restored,
        )
        for table in result.tables
    ]
    places = ("table", "applied", "hot", "archived", "diverted", "removed", "restored")
    print_table(places, tables, title="Every row")
    for text in result.notes:
        note("[dim]{what}[/dim]", what=text)
    for finding in result.findings:
        say("[red]does not balance[/red] {finding}", finding=finding)
    if not result.findings:
        say("[green]Everything balances.[/green]")


def _grouped(result: Audit) -> dict[str, list[LaneBalance]]:
    grouped: dict[str, list[LaneBalance]] = {}
    for lane in result.lanes:
        grouped.setdefault(lane.aggregate, []).append(lane)
    return grouped


def _row(name: str, lanes: Sequence[LaneBalance]) -> tuple[object, ...]:
    counts = [
        sum(getattr(lane, counted) for lane in lanes)
        for counted in ("records", "applied", "rejected", "duplicate", "parked", "events")
    ]
    return (name, *counts, sum(lane.published for lane in lanes if lane.published is not None))
