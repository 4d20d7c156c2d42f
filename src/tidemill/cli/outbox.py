"""`tidemill outbox`: what is sent, or was sent, of a position."""

from __future__ import annotations

from typing import Annotated

import typer

from tidemill.cli import session
from tidemill.cli.command import print_command
from tidemill.cli.lanes import Lane
from tidemill.cli.output import AsJson, examples, print_json

app = typer.Typer(help="What the outbox holds, in packs or in rows.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `show` a subcommand, although it is the only one."""


@app.command(epilog=examples("tidemill outbox show market-data/3 1042", "tidemill outbox show 7 1042 --json"))
def show(
    lane: Lane,
    position: Annotated[int, typer.Argument(min=1, help="The position: `tm_position` of its records.")],
    as_json: AsJson = False,
) -> None:
    """Show a position of a lane: its outcome, and its events as long as the outbox holds them."""
    command = session.ask(lambda admin: admin.commands.at(lane, position))
    if as_json:
        print_json(command)
    else:
        print_command(command)
