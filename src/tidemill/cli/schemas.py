"""`tidemill schemas`: draft, check and register the public contract."""

from __future__ import annotations

from typing import Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table, relative_path, say

app = typer.Typer(help="The public contract: draft, check and register schemas.", no_args_is_help=True)

_UNRELEASED = (
    "Messages of {names} have no released version, with which a change would be compared: "
    "tidemill schemas release CONTEXT"
)


@app.command(
    epilog=examples(
        "tidemill schemas new RecordSensorReading",
        "tidemill schemas new RecordSensorReading SensorReadingRecorded",
        "tidemill schemas new --all sensor-reading",
    )
)
def new(
    messages: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MESSAGE]...", help="Names of command and event classes of contexts."),
    ] = None,
    every_of: Annotated[
        str | None,
        typer.Option(
            "--all", metavar="CONTEXT", help="All commands and events of a context without a schema."
        ),
    ] = None,
) -> None:
    """Draft the schema of each new command or event from its class, including its docs."""
    from tidemill.admin.setup import schema_drafts
    from tidemill.domain.errors import UsageError

    if bool(messages) == (every_of is not None):
        raise UsageError("name the messages, or a context with --all")
    catalog = session.deployment().catalog
    if every_of is not None:
        drafted = schema_drafts.draft_missing_schemas(catalog.of(every_of))
        written, kept = drafted.written, drafted.kept
    else:
        written, kept = schema_drafts.draft_schemas(catalog, messages or []), []
    for path in written:
        say("wrote {path}", path=relative_path(path))
    for path in kept:
        note("left {path} as it is", path=relative_path(path))
    note("Next: complete their docs, then tidemill schemas check")


@app.command(epilog=examples("tidemill schemas check"))
def check(as_json: AsJson = False) -> None:
    """Compare all schemas with their classes and with released versions; exits 1 if a change breaks readers."""
    from tidemill.admin.setup import schema_drafts, schema_releases

    catalog = session.deployment().catalog
    findings = schema_drafts.check(catalog)
    if as_json:
        print_json(findings)
    elif not findings:
        say("Every schema keeps the contract.")
        if names := ", ".join(schema_releases.unreleased(catalog)):
            note(_UNRELEASED, names=names)
    for finding in [] if as_json else findings:
        note(f"[red]{finding}[/red]")
    if findings:
        raise typer.Exit(1)


@app.command(epilog=examples("tidemill schemas release market_data"))
def release(
    context: Annotated[str, typer.Argument(help="The context whose messages others may use from now on.")],
    as_json: AsJson = False,
) -> None:
    """Copy the current schemas of a context to its released versions, with which later ones are compared."""
    from tidemill.admin.setup import schema_releases

    released = schema_releases.release(session.deployment().catalog.of(context))
    if as_json:
        print_json(released)
        return
    for path in released.written:
        say("wrote {path}", path=relative_path(path))
    if not released.written:
        say("Every schema is released as it is.")
        return
    note("Next: commit the files; they are never edited and never removed")


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
