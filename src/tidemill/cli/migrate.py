"""`tidemill migrate`: bring the database to what this version expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, plain, print_json, print_table, relative_path, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidemill.admin.setup.revisions import MigrationStep
    from tidemill.admin.setup.tables import TableDifference

app = typer.Typer(invoke_without_command=True)

EXAMPLES = examples(
    "tidemill migrate",
    "tidemill migrate --status",
    "tidemill migrate --sql > migrations.sql",
    "tidemill migrate --to market_data@head",
    "tidemill migrate --down market_data@base",
    "tidemill migrate --new market-data --about 'Add the spread'",
    "tidemill migrate draft market-data",
    "tidemill migrate check",
)


@app.callback(epilog=EXAMPLES)
def migrate(
    call: typer.Context,
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
    if call.invoked_subcommand is not None:
        return
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
        _say_next(steps)


def _say_next(steps: Sequence[MigrationStep]) -> None:
    registers = session.settings().registry.url is not None
    note(f"Next: {'tidemill schemas register, then ' if registers else ''}tidemill topics create")
    if all(step.revision != "core_0001" for step in steps):
        note("A process that runs already knows a new context once it is restarted.")


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


@app.command(
    epilog=examples(
        "tidemill migrate draft market-data",
        "tidemill migrate draft market-data --about 'Add the spread'",
        "tidemill migrate draft market-data --from-nothing --print",
    )
)
def draft(
    aggregate: Annotated[str, typer.Argument(metavar="CONTEXT", help="The context, or its aggregate.")],
    about: Annotated[str, typer.Option(help="What the revision does, in a few words.")] = "",
    from_nothing: Annotated[
        bool,
        typer.Option("--from-nothing", help="Compare with an empty database, and connect to none."),
    ] = False,
    printed: Annotated[bool, typer.Option("--print", help="Print the revision; write no file.")] = False,
) -> None:
    """Draft a revision that brings a context's tables and views to what it declares.

    A context without revisions needs no database. Nothing is dropped that holds rows; what you have to decide is a
    comment in the file.
    """
    drafted = session.ask(
        lambda admin: admin.migrations.tables.draft(aggregate, about, from_nothing=from_nothing)
    )
    if drafted is None:
        note("The tables of {context} are as declared: nothing to draft.", context=aggregate)
    elif printed:
        typer.echo(drafted.text, nl=False)
    else:
        drafted.write()
        say("wrote {path}", path=relative_path(drafted.path))
        for decision in drafted.changes.decisions:
            note("[yellow]decide[/yellow] {decision}", decision=decision)
        note("Next: read it, then tidemill migrate")


@app.command(epilog=examples("tidemill migrate check", "tidemill migrate check market-data --json"))
def check(
    aggregates: Annotated[
        list[str] | None, typer.Argument(metavar="[CONTEXT]...", help="Only these contexts.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the tables of every context with what it declares; exits 1 if something declared is missing or differs.

    What is wider than declared, or there in addition, is shown.
    """
    differences = session.ask(lambda admin: admin.migrations.tables.check(aggregates or []))
    failing = [difference for difference in differences if difference.fails]
    if as_json:
        print_json([_as_json(item) for item in differences])
    else:
        _show_differences(differences)
    if failing:
        raise typer.Exit(1)


def _as_json(item: TableDifference) -> dict[str, Any]:
    return {"context": item.context, "fails": item.fails, **plain(item.difference)}


def _show_differences(differences: Sequence[TableDifference]) -> None:
    for item in differences:  # not a table: statements are wider than any terminal, and are to be copied
        difference = item.difference
        say("{context}  {table}: {what}", context=item.context, table=difference.table, what=difference.what)
        if item.fails and difference.sql is not None:
            say("    would fix it: {sql}", sql=difference.sql)
    contexts = dict.fromkeys(item.context for item in differences if item.fails)
    if not contexts:
        say("All tables are as declared.")
    for context in contexts:
        note(
            "Next: tidemill migrate, if revisions are pending; else tidemill migrate draft {context}",
            context=context,
        )
