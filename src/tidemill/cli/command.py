"""`tidemill command`: what became of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, plain, print_json, print_table, say

if TYPE_CHECKING:
    from tidemill.admin.command_lookup import CommandShown

app = typer.Typer(help="What became of a command.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `show` a subcommand, although it is the only one."""


@app.command(
    epilog=examples(
        "tidemill command show 0190b3a0-...", "tidemill command show order-17 --service shop --repeats 10"
    )
)
def show(
    command_id: Annotated[str, typer.Argument(help="The command_id as the client wrote it.")],
    service: Annotated[
        str | None, typer.Option(help="The client's service_name; needed unless the id is a UUID.")
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=0, max=1_000, help="Also show at most this many repeats; reads the whole log.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show a command's outcome, its position and its events; exits 1 if it is not known."""
    found = session.ask(lambda admin: admin.commands.show(command_id, service, repeats=repeats))
    if as_json:
        print_json(found)
    for each in [] if as_json else found:
        print_command(each)
    if not found:
        note(
            f"No command {command_id} is known: it has not been consumed yet, or its generation has left the log."
        )
        raise typer.Exit(1)


def print_command(found: CommandShown) -> None:
    """Print what became of a command."""
    entry = found.entry
    colour = "green" if found.outcome == "applied" else "red"
    say(
        "[bold]{id}[/bold]  {type}  of {service}", id=found.command_id, type=entry.type, service=entry.service
    )
    say(
        f"outcome   [{colour}]{found.outcome}[/{colour}]" + (" {code}: {detail}" if entry.code else ""),
        **_why(found),
    )
    say(
        f"recorded  {entry.at:%Y-%m-%d %H:%M:%S.%f} UTC, {'published' if found.published else 'not yet published'}"
    )
    say("rows      {rows}", rows=entry.rows)
    say(f"position  {entry.position} of lane {entry.aggregate}/{entry.partition}")
    if found.record_offset is not None:
        say("record    offset {offset}, key {key}", offset=found.record_offset, key=found.key)
    say(f"token     {entry.sequence}  (a read model at this sequence or beyond has seen it)")
    if found.correlation:
        say("correlation {correlation}", correlation=found.correlation)
    for event in found.events:
        say("event     {sequence}  {type}  {id}", sequence=event.sequence, type=event.type, id=event.event_id)
        for name, value in (event.fields or {}).items():
            say("            {name}: {value}", name=name, value=plain(value))
    if found.repeats:
        rows = [
            (f"{each.aggregate}/{each.partition}", each.position, each.at, each.code)
            for each in found.repeats
        ]
        print_table(("lane", "position", "at", "code"), rows, title="Repeats")


def _why(found: CommandShown) -> dict[str, object]:
    return {"code": found.entry.code, "detail": found.entry.detail}
