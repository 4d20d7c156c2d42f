"""`tidemill schemas`: draft, check and register the public contract."""

from __future__ import annotations

from typing import Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, relative_path, say

app = typer.Typer(help="The public contract: draft, check and register schemas.", no_args_is_help=True)


@app.command(
    epilog=examples(
        "tidemill schemas new RecordSensorReading",
        "tidemill schemas new RecordSensorReading SensorReadingRecorded",
    )
)
def new(
    messages: Annotated[
        list[str],
        typer.Argument(metavar="MESSAGE...", help="Names of command and event classes of contexts."),
    ],
) -> None:
    """Draft the schema of each new command or event from its class, including its docs."""
    from tidemill.admin.setup import schema_drafts

    for path in schema_drafts.draft_schemas(session.deployment().catalog, messages):
        say("wrote {path}", path=relative_path(path))
    note("Next: complete their docs, then tidemill schemas check")


@app.command(epilog=examples("tidemill schemas check"))
def check(as_json: AsJson = False) -> None:
    """Compare all schemas with their classes and with released versions; exits 1 if a change breaks readers."""
    from tidemill.admin.setup import schema_drafts

    findings = schema_drafts.check(session.deployment().catalog)
    if as_json:
        print_json(findings)
    elif not findings:
        say("Every schema keeps the contract.")
    for finding in [] if as_json else findings:
        note(f"[red]{finding}[/red]")
    if findings:
        raise typer.Exit(1)


@app.command(epilog=examples("tidemill schemas register"))
def register(as_json: AsJson = False) -> None:
    """Register all schemas and set their compatibility rules; may be repeated."""
    registered = session.ask(lambda admin: admin.schemas.register())
    if as_json:
        print_json(registered)
        return
    print_table(
        ("subject", "version", "id"), [(each.subject, each.version, each.schema_id) for each in registered]
    )
