"""`tidemill retention restore|scrub`: bring rows back from the lake, and check the copies there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, progress, say
from tidemill.cli.retention.options import AnyTable, Table, bytes_text, moment

if TYPE_CHECKING:
    from tidemill.admin.archive.restore import Restored
    from tidemill.admin.archive.scrub import Scrubbed
    from tidemill.retention.restore_plan import RestorableRange

app = typer.Typer()


@app.command(
    epilog=examples(
        "tidemill retention restore market_data --from 2010-01-01 --to 2010-07-01 --dry-run",
        "tidemill retention restore market_data --from 2010-01-01 --to 2010-07-01 --days 14 --yes",
    )
)
def restore(
    table: Table,
    start: Annotated[
        datetime, typer.Option("--from", parser=moment, metavar="TIME", help="From this time on.")
    ],
    end: Annotated[datetime, typer.Option("--to", parser=moment, metavar="TIME", help="Up to this time.")],
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Days until they are dropped again.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would come back.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring archived ranges back from the lake, whole ranges with all their generations, verified against what left.

    They stay closed: late rows for them are diverted as before.
    After --days they are dropped without a new copy, if they were not changed.
    Exits 1 if a range cannot come back.
    """
    found = session.ask(lambda admin: admin.restore.restorable(table, start, end))
    chosen = [each for each in found if each.refused is None]
    if not as_json:
        _show_ranges(found)
    if dry_run:
        if as_json:
            print_json([_range_json(each) for each in found])
        raise typer.Exit(0 if len(chosen) == len(found) else 1)
    if chosen and not yes:
        typer.confirm(
            f"Bring {sum(each.row_count for each in chosen):,} rows back for {days} days?",
            abort=True,
            err=True,
        )
    with progress("rows") as shown:
        task = shown.add_task(f"restore {table}", total=sum(each.row_count for each in chosen))
        keep = timedelta(days=days)
        restored = session.act(
            "retention restore",
            lambda admin: admin.restore.restore(chosen, keep, lambda rows: shown.advance(task, rows)),
            table=table,
            ranges=len(chosen),
            days=days,
        )
    if as_json:
        print_json(restored)
    else:
        _show_restored(restored)
    if len(chosen) < len(found) or any(each.trouble for each in restored):
        raise typer.Exit(1)


def _range_json(each: RestorableRange) -> dict[str, object]:
    return {
        "start": each.start,
        "end": each.end,
        "generations": [archive_slice.id.generation for archive_slice in each.slices],
        "rows": each.row_count,
        "bytes": each.size_bytes,
        "files": each.files,
        "refused": each.refused,
    }


def _show_ranges(found: Sequence[RestorableRange]) -> None:
    rows = [
        (each.start, each.end, len(each.slices), each.row_count, bytes_text(each.size_bytes), each.files,
         each.refused or "can come back")
        for each in found
    ]  # fmt: skip
    print_table(("from", "to", "generations", "rows", "in the lake", "files", ""), rows)


def _show_restored(restored: Sequence[Restored]) -> None:
    for each in restored:
        if each.trouble is None:
            say(
                f"[green]restored[/green] {each.row_count:,} rows of {{start}} .. {{end}} as {{chunk}}, "
                "until {until}",
                start=each.start,
                end=each.end,
                chunk=each.chunk,
                until=each.until,
            )
        else:
            say(
                "[red]not restored[/red] {start} .. {end}: {why}",
                start=each.start,
                end=each.end,
                why=each.trouble,
            )


@app.command(epilog=examples("tidemill retention scrub", "tidemill retention scrub market_data --json"))
def scrub(table: AnyTable = None, as_json: AsJson = False) -> None:
    """Read every copy of dropped rows again and compare it with the registry; exits 1 if one is damaged.

    Files by size and sha256, rows by count, times and digest.
    """
    with progress("copies") as shown:
        task = shown.add_task("scrub", total=None)
        scrubbed = session.ask(
            lambda admin: admin.scrub.scrub(
                table, lambda count, total: shown.update(task, completed=count, total=total)
            )
        )
    wrong = [each for each in scrubbed if each.wrong]
    if as_json:
        print_json({"copies": len(scrubbed), "wrong": wrong})
    else:
        _show_scrubbed(scrubbed, wrong)
    if wrong:
        raise typer.Exit(1)


def _show_scrubbed(scrubbed: Sequence[Scrubbed], wrong: Sequence[Scrubbed]) -> None:
    files, rows = sum(each.files for each in scrubbed), sum(each.row_count for each in scrubbed)
    size = bytes_text(sum(each.size_bytes for each in scrubbed))
    say(f"{len(scrubbed):,} copies read: {files:,} files, {size}, {rows:,} rows.")
    if not wrong:
        say("[green]All copies are intact.[/green]")
        return
    print_table(
        ("slice", "event", "what is wrong"),
        [(each.slice, each.event_id, text) for each in wrong for text in each.wrong],
    )
    note(
        "Restore missing or damaged files from a backup of the lake: the database no longer has these rows. "
        "Files outside the allowed roots were not read: set TIDEMILL_LAKE_ROOT to the archiver's value"
    )
