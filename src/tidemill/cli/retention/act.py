"""`tidemill retention run|hold|release|retry`: an operator's decisions about slices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, progress, say
from tidemill.cli.retention.inspect import show_holds, show_status, show_warnings
from tidemill.cli.retention.options import (
    AnyTable,
    AsOf,
    From,
    Generation,
    Reason,
    Table,
    Time,
    To,
    moment,
)

if TYPE_CHECKING:
    from tidemill.retention.slices import Hold, Slice

app = typer.Typer()


@app.command(
    epilog=examples(
        "TIDEMILL_LAKE_ROOT=/srv/lake tidemill retention run --once",
        "tidemill retention run --once --as-of 2012-01-01",
    )
)
def run(
    once: Annotated[bool, typer.Option("--once", help="End when nothing more is due.")] = False,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Run `serve retention` in this process; an archiver must run beside it (`tidemill serve archiver`).

    With --once it ends when all requested slices are dropped, given up, quarantined or held.
    Then it exits 1 if a copy is quarantined, or a slice was given up.
    """
    deployment = session.deployment()
    if not once:
        from tidemill.app.processes.retention import serve_retention

        raise typer.Exit(serve_retention(deployment.rehearsed(as_of)))
    from tidemill.app.processes.retention_once import run_once

    with progress("slices") as shown:
        task = shown.add_task("archive", total=None)

        def tell(moved: int, total: int, words: str) -> None:
            shown.update(task, completed=moved, total=total, description=words or "archive")

        run_result = run_once(deployment, as_of, tell)
    if as_json:
        print_json(
            {"finished": run_result.finished, "dropped": run_result.moved, "tables": run_result.tables}
        )
    else:
        for each in run_result.tables:
            show_status(each)
        ending = "Nothing more is due" if run_result.finished else "[red]Stopped before all was done[/red]"
        say(f"{ending}: {run_result.moved:,} slices left in this run.")
    if not run_result.ok:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "tidemill retention hold market_data --from 2010-01-01 --to 2011-01-01 --reason 'lawsuit 17'",
        "tidemill retention hold market_data --reason 'until the audit is over'",
        "tidemill retention hold --list",
    )
)
def hold(
    table: AnyTable = None,
    start: From = None,
    end: To = None,
    reason: Reason = "",
    listing: Annotated[bool, typer.Option("--list", help="List the holds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hold the rows of a span, whatever the policy says: they are neither sealed nor dropped.

    Slices in progress are stopped. Only `release --hold` ends a hold.
    Without --from and --to the whole table is held.
    """
    from tidemill.domain.errors import UsageError

    if listing:
        found = session.ask(lambda admin: admin.archive.holds(table))
        if as_json:
            print_json(found)
        elif found:
            show_holds(found)
        else:
            say("Nothing is held.")
        return
    if table is None:
        raise UsageError("name the TABLE to hold, or use --list")
    named = table
    held, warnings = session.act(
        "retention hold",
        lambda admin: admin.archive_actions.hold(named, (start, end), reason),
        table=table,
        **_span_text(start, end),
        reason=reason,
    )
    if as_json:
        print_json({"hold": held.hold, "stopped": _named(held.stopped), "warnings": warnings})
        return
    say(
        f"{{span}} is held; {len(held.stopped):,} slices in progress were stopped.",
        span=_span(held.hold),
    )
    show_warnings(warnings)
    note(
        "It binds Tidemill only: the table's owner, a superuser and a retention policy of TimescaleDB can still drop "
        "its chunks, unless they are frozen under a seal. To end it: tidemill retention release --hold"
    )


def _span_text(start: datetime | None, end: datetime | None) -> dict[str, str]:
    return {name: time.isoformat() for name, time in (("start", start), ("end", end)) if time is not None}


def _span(hold: Hold) -> str:
    if hold.start is None and hold.end is None:
        return f"all of {hold.table}"
    start, end = ("..." if each is None else f"{each:%Y-%m-%d %H:%M}" for each in (hold.start, hold.end))
    return f"{hold.table} {start} .. {end}"


@app.command(
    epilog=examples(
        "tidemill retention release market_data 2010-03-01 --reason 'the archiver was removed'",
        "tidemill retention release market_data --hold --from 2010-01-01 --to 2011-01-01 --reason 'settled'",
    )
)
def release(
    table: Table,
    time: Annotated[
        datetime | None, typer.Argument(parser=moment, metavar="[TIME]", help="A time in the range; UTC.")
    ] = None,
    *,
    lift: Annotated[bool, typer.Option("--hold", help="Lift the holds within --from and --to.")] = False,
    start: From = None,
    end: To = None,
    generation: Generation = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Give up a slice, so that its range takes rows again (TIME); or lift holds (--hold).

    Its rows stay in the database, its late rows go back into the table, and its request is announced as failed.
    The policy archives it again later: to prevent this, hold it.
    """
    from tidemill.domain.errors import UsageError

    if lift == (time is not None):
        raise UsageError("give either TIME, to give up a slice, or --hold, to lift holds")
    if time is None:
        lifted = session.act(
            "retention release",
            lambda admin: admin.archive_actions.lift(table, (start, end), reason),
            table=table,
            hold=True,
            **_span_text(start, end),
            reason=reason,
        )
        if as_json:
            print_json(
                {"holds": lifted.holds, "going_on": _named(lifted.going_on), "still": _named(lifted.still)}
            )
            return
        say(
            f"{len(lifted.holds):,} holds lifted; {len(lifted.going_on):,} slices continue, "
            f"{len(lifted.still):,} are still held by other holds."
        )
        return
    given_up = session.act(
        "retention release",
        lambda admin: admin.archive_actions.release(table, time, generation, reason),
        table=table,
        time=time.isoformat(),
        generation=generation,
        reason=reason,
    )
    if as_json:
        print_json({"slice": given_up.released.slice.id, "returned": given_up.released.returned})
        return
    say(
        f"{{slice}} was given up; {given_up.released.returned:,} late rows went back into the table.",
        slice=given_up.released.slice.id,
    )
    note(
        f"It is archived again after {given_up.again_after}. To stop it: tidemill retention hold {table} --reason TEXT"
    )


@app.command(
    epilog=examples("tidemill retention retry market_data 2010-03-01 --reason 'the disk was replaced'")
)
def retry(
    table: Table, time: Time, generation: Generation = None, reason: Reason = "", as_json: AsJson = False
) -> None:
    """Copy a quarantined slice again, under a new seal and a new request that supersedes the first one."""
    retried = session.act(
        "retention retry",
        lambda admin: admin.archive_actions.retry(table, time, generation, reason),
        table=table,
        time=time.isoformat(),
        generation=generation,
        reason=reason,
    )
    if as_json:
        print_json({"slice": retried.id, "state": retried.state, "seal": retried.seal})
        return
    say("{slice} is sealed again; a new copy will be requested.", slice=retried.id)


def _named(slices: Sequence[Slice]) -> list[object]:
    return [each.id for each in slices]
