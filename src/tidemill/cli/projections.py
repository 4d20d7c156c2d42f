"""`tidemill projections`: read models: shown, rebuilt, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, progress, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidemill.projections.ports import Comparison

app = typer.Typer(
    help="The read models: show their progress, rebuild one, compare one with its events.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="A read model, as `tidemill projections list` names it.")]


@app.command("list", epilog=examples("tidemill projections list --json"))
def list_(as_json: AsJson = False) -> None:
    """List read models: their table, their progress, when they were rebuilt and verified."""
    found = session.ask(lambda admin: admin.read_models.every())
    if as_json:
        print_json(found)
        return
    columns = ("read model", "table", "events", "to fold", "halted", "rebuilt", "verified")
    rows = [
        (
            each.name,
            each.table,
            each.events,
            each.lag,
            each.halted,
            each.rebuilt_at,
            each.verified_at,
        )
        for each in found
    ]
    print_table(columns, rows)


@app.command(epilog=examples("tidemill projections rebuild daily-bars"))
def rebuild(name: Name, as_json: AsJson = False) -> None:
    """Rebuild a read model from its first event, beside the live one, then swap them; readers are not interrupted.

    Of an entity or a state, by which commands are decided, the rows that differ are corrected instead, while its lanes
    wait.
    """
    with progress("events") as shown:
        task = shown.add_task(f"rebuild {name}", total=None)
        rebuilt = session.act(
            "projections rebuild",
            lambda admin: admin.read_model_repair.rebuild(
                name, lambda done, total: shown.update(task, completed=done, total=total)
            ),
            projection=name,
        )
    if as_json:
        print_json({"projection": name, "events": rebuilt.events, "corrected": rebuilt.corrected})
        return
    if rebuilt.corrected is None:
        say(f"{name} was rebuilt from {rebuilt.events:,} events, and replaced the old one.")
    else:
        _show_corrected(name, rebuilt.events, rebuilt.corrected)


@app.command(epilog=examples("tidemill projections verify latest-quotes"))
def verify(name: Name, as_json: AsJson = False) -> None:
    """Fold the events of a read model or a state again and compare every cell; exits 1 if one differs."""
    with progress("events") as shown:
        task = shown.add_task(f"verify {name}", total=None)
        found = session.ask(
            lambda admin: admin.read_model_repair.verify(
                name, lambda done, total: shown.update(task, completed=done, total=total)
            )
        )
    if as_json:
        print_json(found)
    else:
        _show(name, found)
    if found.differing:
        raise typer.Exit(1)


def _show_corrected(name: str, events: int, comparison: Comparison) -> None:
    if not comparison.differing:
        say(f"{name} was rebuilt from {events:,} events, and equals them: {comparison.rows:,} rows compared.")
        return
    say(
        f"{name} was rebuilt from {events:,} events: {_differing(comparison)} differed and were corrected; for example:"
    )
    _show_examples(
        comparison, only={"live": "its events do not have it: removed", "rebuilt": "was missing: added"}
    )
    note("Next: find out which program wrote to the table")


def _show(name: str, comparison: Comparison) -> None:
    if not comparison.differing:
        say(f"[green]{name} equals its events[/green]: {comparison.rows:,} rows compared.")
        return
    say(f"[red]{name} differs from its events[/red] in {_differing(comparison)}; for example:")
    _show_examples(comparison, only={side: f"only the {side} rows have it" for side in ("live", "rebuilt")})
    note(f"Next: find out which program wrote to the table, then tidemill projections rebuild {name}")


def _differing(comparison: Comparison) -> str:
    return f"{comparison.differing:,} of {comparison.rows:,} rows"


def _show_examples(comparison: Comparison, only: Mapping[str, str]) -> None:
    """Show rows that differ. `only`: what is said of a row that one side alone has."""
    for example in comparison.examples:
        key = ", ".join(example.key)
        if example.side is not None:
            say("  {key}: {what}", key=key, what=only[example.side])
        for column, (live, rebuilt) in example.columns.items():
            text = "  {key}: {column} is {live}, its events give {rebuilt}"
            say(text, key=key, column=column, live=live, rebuilt=rebuilt)
