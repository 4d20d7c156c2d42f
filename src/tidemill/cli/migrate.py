"""`tidemill migrate`: bring the database to what this version expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, relative_path, say

if TYPE_CHECKING:
    from tidemill.admin.setup.revisions import MigrationStep

EXAMPLES = examples(
    "tidemill migrate",
    "tidemill migrate --status",
    "tidemill migrate --sql > migrations.sql",
    "tidemill migrate --to market_data@head",
    "tidemill migrate --down market_data@base",
    "tidemill migrate --new market-data --about 'Add the spread'",
)


def migrate(
    *,
    to: Annotated[
        list[str] | None,
        typer.Option(help="Apply only up to this revision, or BRANCH@head. May be repeated."),
    ] = None,
    down: Annotated[
        str | None,
        typer.Option(help="Undo down to this revision, or BRANCH@base, and delete all data in its tables."),
    ] = None,
    show: Annotated[bool, typer.Option("--status", help="Only show what is applied.")] = False,
    sql: Annotated[
        bool,
        typer.Option("--sql", help="Only print the SQL for an empty database; connect to nothing."),
    ] = False,
    new: Annotated[
        str | None, typer.Option(metavar="AGGREGATE", help="Only create a new revision of its context.")
    ] = None,
    about: Annotated[str, typer.Option(help="What the new revision does, in a few words.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before data is deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database to what this version expects.

    Several processes may run it at once: one does the work, the others wait for it.
    """
    from tidemill.app.admin import Admin
    from tidemill.domain.errors import UsageError

    chosen = {
        "--status": show,
        "--sql": sql,
        "--new": new is not None,
        "--down": down is not None,
        "--to": bool(to),
    }
    given = [name for name, is_given in chosen.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are different tasks: choose one")
    if show:
        _show(as_json)
        return
    if sql:
        typer.echo(Admin(session.deployment()).migrations.sql(), nl=False)
        return
    if new is not None:
        _begin(new, about)
        return
    on_step = _silent if as_json else _say
    if down is None:
        steps = session.ask(lambda admin: admin.migrations.apply(to or ["heads"], on_step))
    else:
        _confirm(down, yes)
        steps = session.ask(lambda admin: admin.migrations.undo([down], on_step))
    if as_json:
        print_json(steps)
    elif not steps:
        say("The database is up to date.")
    elif down is None:
        note("Next: tidemill topics create")


def _show(as_json: bool) -> None:
    known = session.ask(lambda admin: admin.migrations.status())
    if as_json:
        print_json(known)
        return
    rows = [(each.revision, each.service_name, each.applied_at, each.description) for each in known]
    print_table(("revision", "branch", "applied", "what"), rows)
    if any(each.applied_at is None for each in known):
        note("Next: tidemill migrate")


def _begin(aggregate: str, about: str) -> None:
    from tidemill.app.admin import Admin

    path = Admin(session.deployment()).migrations.draft(aggregate, about)
    say("wrote {path}", path=relative_path(path))
    note("Next: write its upgrade and its downgrade, then tidemill migrate")


def _confirm(down: str, yes: bool) -> None:
    if not yes:
        typer.confirm(f"Undo down to {down}, and delete all data in the tables that are dropped?", abort=True)


def _say(step: MigrationStep) -> None:
    arrow = "[green]applied[/green]" if step.direction == "up" else "[yellow]undone[/yellow] "
    say(f"{arrow} {step.revision}  [dim]{step.description}[/dim]")


def _silent(step: MigrationStep) -> None:
    del step
