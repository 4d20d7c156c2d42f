"""`tidemill dev up|down|status`: real servers for development."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from tidemill_devkit import stack as devstack

app = typer.Typer(
    help="Real servers for development. They and their data are in ~/.cache/tidemill, or in TIDEMILL_CACHE.",
    no_args_is_help=True,
)

Name = Annotated[str | None, typer.Option(help="The stack; by default the one of this checkout.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
VARIABLES = {
    "TIDEMILL_DATABASE_URL": "database_url",
    "TIDEMILL_KAFKA_BOOTSTRAP": "kafka_bootstrap",
    "TIDEMILL_REGISTRY_URL": "registry_url",
}
COLOURS = {"up": "green", "down": "dim", "frozen": "yellow", "not answering": "red"}


def _variables(stack: devstack.Stack) -> dict[str, str]:
    """The variables that make a program use this stack."""
    found = {variable: getattr(stack, field) for variable, field in VARIABLES.items()}
    return {variable: address for variable, address in found.items() if address}


def _fail(error: devstack.DevstackError) -> typer.Exit:
    Console(stderr=True, soft_wrap=True).print(f"[red]Error:[/red] {error}", highlight=False)
    return typer.Exit(1)


@app.command()
def up(name: Name = None, as_json: AsJson = False) -> None:
    """Start TimescaleDB, Kafka and a schema registry, unless they run."""
    from tidemill_devkit import stack as devstack
    from tidemill_devkit.stack.progress import shown

    try:
        with shown() as progress:
            stack = devstack.up(name, progress=progress)
    except devstack.DevstackError as error:
        raise _fail(error) from error
    if as_json:
        described = {"name": stack.name, "origin": stack.origin, "reason": stack.reason}
        typer.echo(json.dumps(described | {"environment": _variables(stack)}, indent=2))
        return
    for variable, address in _variables(stack).items():
        typer.echo(f"export {variable}={address}")
    if stack.owned:
        named = f" --name {name}" if name else ""
        typer.echo(f"The servers stay up until: tidemill dev down{named}", err=True)


@app.command()
def down(
    name: Name = None,
    purge: Annotated[bool, typer.Option("--purge", help="Also delete the data of all three.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the servers that `up` started; their data are kept."""
    from tidemill_devkit import stack as devstack
    from tidemill_devkit.stack.progress import shown

    try:
        with shown() as progress:
            taken_down = devstack.down(name, purge=purge, progress=progress)
    except devstack.DevstackError as error:
        raise _fail(error) from error
    if as_json:
        typer.echo(json.dumps({"stopped": taken_down.stopped, "purged": taken_down.deleted is not None}))
        return
    typer.echo(
        f"{_stopped(taken_down)}; {_data(taken_down, purge)}"
        if purge or taken_down.stopped
        else _stopped(taken_down)
    )


def _stopped(taken_down: devstack.TakenDown) -> str:
    return f"stopped {', '.join(taken_down.stopped)}" if taken_down.stopped else "nothing was running"


def _data(taken_down: devstack.TakenDown, purge: bool) -> str:
    if taken_down.deleted is not None:
        return f"the data of all three servers are deleted, and their logs with them ({taken_down.deleted})"
    if purge:
        return "there were no data to delete: this stack has never been up, or was purged before"
    return "the data are kept for the next `tidemill dev up`"


@app.command()
def status(name: Name = None, as_json: AsJson = False) -> None:
    """Show where each server is and how to reach it; exits 1 unless all are up."""
    from tidemill_devkit import stack as devstack

    try:
        found = devstack.status(name)
    except devstack.DevstackError as error:
        raise _fail(error) from error
    if as_json:
        typer.echo(json.dumps(_described(found), indent=2))
    else:
        _show(found)
    if not found.is_up:
        raise typer.Exit(1)


def _described(found: devstack.StackStatus) -> dict[str, object]:
    return {
        "name": found.name,
        "origin": found.origin,
        "reason": found.reason,
        "up": found.is_up,
        "advice": found.advice,
        "folder": str(found.folder) if found.folder else None,
        "servers": [asdict(server) for server in found.servers],
        "environment": _variables(found.stack) if found.stack else {},
    }


def _show(found: devstack.StackStatus) -> None:
    table = Table(title=f"{found.name}: {found.origin} ({found.reason})", title_justify="left")
    for column in ("server", "condition", "address", "log"):
        table.add_column(column, overflow="fold")
    for server in found.servers:
        condition = f"[{COLOURS[server.condition]}]{server.condition}[/]"
        table.add_row(server.name, condition, server.address or "-", server.log or "-")
    Console().print(table)
    if found.advice is not None:
        typer.echo(found.advice[0].upper() + found.advice[1:])
    elif found.stack is not None:
        for variable, address in _variables(found.stack).items():
            typer.echo(f"export {variable}={address}")
