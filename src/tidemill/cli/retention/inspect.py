"""`tidemill retention plan|status|why-not-dropped`: what leaves, what left, and why the rest is still there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, say
from tidemill.cli.retention.options import AnyTable, AsOf, bytes_text, moment

if TYPE_CHECKING:
    from tidemill.admin.archive.inspection import TablePlan, TableStatus
    from tidemill.retention.slices import Hold

app = typer.Typer()

_MAX_LINES = 20
_SEALS: Final = {
    "freeze": "freeze the chunk (TimescaleDB's Community edition); it is measured again before the drop",
    "lock": "leave the chunk open (TimescaleDB's Apache edition); it is measured again before the drop",
}
"""What a seal does against external writers, by `SealMode`."""


@app.command(
    epilog=examples("tidemill retention plan", "tidemill retention plan market_data --as-of 2012-01-01 --all")
)
def plan(
    table: AnyTable = None,
    as_of: AsOf = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every chunk, not only the first of each.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what would leave, the space it needs in the lake, and why and when the rest leaves. Changes nothing."""
    found = session.ask(lambda admin: admin.archive.plans(table, as_of))
    if as_json:
        print_json([_plan_json(each) for each in found])
        return
    for each in found:
        _show_plan(each, None if every else _MAX_LINES)


def _plan_json(found: TablePlan) -> dict[str, object]:
    return {
        "table": found.table,
        "as_of": found.as_of,
        "lake_bytes": found.plan.lake_bytes,
        "bytes_in_lake_per_byte": found.plan.ratio,
        "quiet_until": found.plan.quiet_until,
        "seal_mode": found.seal_mode,
        "seal": [_candidate(each) for each in found.plan.seal],
        "queued": [_candidate(each) for each in found.plan.queued],
        "waiting": found.plan.waiting,
        "warnings": found.warnings,
    }


def _candidate(each: Any) -> dict[str, object]:
    return {
        "id": each.id,
        "chunk": each.chunk,
        "source": each.source,
        "size_bytes": each.size_bytes,
        "lake_bytes": each.lake_bytes,
    }


def _show_plan(found: TablePlan, most: int | None) -> None:
    intended = found.plan
    leaving = [*intended.seal, *intended.queued]
    size = sum(each.size_bytes for each in leaving)
    say(
        f"[bold]{{table}}[/bold] as of {{at}}: {len(leaving):,} to leave, {bytes_text(size)} here, "
        f"about {bytes_text(intended.lake_bytes)} in the lake; {len(intended.waiting):,} stay",
        table=found.table,
        at=found.as_of,
    )
    say("seals: " + _SEALS[found.seal_mode])
    show_warnings(found.warnings)
    if intended.quiet_until:
        say("quiet hours: nothing is sealed before {until}", until=intended.quiet_until)
    rows = []
    for number, each in enumerate(leaving):
        when = "next" if number < len(intended.seal) else "later"
        sizes = (bytes_text(each.size_bytes), bytes_text(each.lake_bytes))
        rows.append((each.chunk, each.id.start, each.id.end, each.id.generation, *sizes, when))
    if rows:
        print_table(("leaves", "from", "to", "generation", "here", "lake", "when"), rows[:most])
    stays = [(each.chunk, each.id.start, each.code, each.until, each.message) for each in intended.waiting]
    if stays:
        print_table(("stays", "from", "code", "until", "why"), stays[:most])
    if most is not None and max(len(rows), len(stays)) > most:
        note(f"Only the first {most} of each: --all shows all")


@app.command(epilog=examples("tidemill retention status", "tidemill retention status market_data --json"))
def status(table: AnyTable = None, as_json: AsJson = False) -> None:
    """Show the progress of every slice, where rows are, late rows, and what waits for an operator.

    Exits 1 if a copy is quarantined.
    """
    found = session.ask(lambda admin: admin.archive.statuses(table))
    if as_json:
        print_json(found)
    else:
        for each in found:
            show_status(each)
    if any(note.state == "quarantined" for each in found for note in each.notes):
        raise typer.Exit(1)


def show_status(found: TableStatus) -> None:
    """Print the progress of a table."""
    say("[bold]{table}[/bold]" + ("" if found.enabled else "  (disabled)"), table=found.table)
    say(
        f"here       {found.hot_chunks:,} chunks, {bytes_text(found.hot_bytes)}; the oldest from {{at}}",
        at=found.oldest,
    )
    say("seals      " + _SEALS[found.seal_mode])
    say(
        f"archived   {found.archived_rows:,} rows, {bytes_text(found.archived_bytes)} in the lake; "
        f"{found.restored_rows:,} of them restored"
    )
    say(f"late       {found.late_rows:,} rows wait to be archived")
    if found.oldest_seal:
        say("sealed     the longest without a verified copy since {at}", at=found.oldest_seal)
    if found.states:
        rows = [(each.state.value, each.slices, each.rows, each.oldest) for each in found.states]
        print_table(("state", "slices", "rows", "the first since"), rows)
    if found.notes:
        notes = [(each.slice, each.state.value, each.since, each.why) for each in found.notes]
        print_table(("for you", "state", "since", "why"), notes)
    show_holds(found.holds)
    show_warnings(found.warnings)


@app.command(
    "why-not-dropped",
    epilog=examples(
        "tidemill retention why-not-dropped _timescaledb_internal._hyper_1_7_chunk",
        "tidemill retention why-not-dropped market_data 2010-03-01",
    ),
)
def why_not_dropped(
    named: Annotated[str, typer.Argument(metavar="CHUNK|TABLE", help="A chunk; or a table, with a time.")],
    time: Annotated[
        datetime | None, typer.Argument(parser=moment, metavar="[TIME]", help="A time in the range; UTC.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain in one sentence why a chunk is still in the database, and show its history."""
    found = session.ask(lambda admin: admin.archive.why(named, time))
    if as_json:
        print_json(found)
        return
    for each in found:
        say("[bold]{slice}[/bold], {chunk}", slice=each.slice, chunk=each.chunk)
        say("{state}: {answer}", state=each.state or "live", answer=each.answer)
        if each.trail:
            rows = [
                (step["at"], step["before"], step["after"], step["who"], step["why"]) for step in each.trail
            ]
            print_table(("at", "from", "to", "who", "why"), rows)


def show_warnings(warnings: Sequence[str]) -> None:
    """Print what other programs do to a table's rows."""
    for each in warnings:
        say("[red]beware[/red]: {what}", what=each)


def show_holds(holds: Sequence[Hold]) -> None:
    """Print holds, if there are any."""
    if holds:
        rows = [(each.table, each.start, each.end, each.who, each.since, each.reason) for each in holds]
        print_table(("held", "from", "to", "by", "since", "reason"), rows)
