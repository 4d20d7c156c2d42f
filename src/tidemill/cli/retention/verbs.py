"""`tidemill retention`: what leaves for the lake and why not; holds; the way back; and looking after copies."""

from __future__ import annotations

import typer

from tidemill.cli.retention import act, copies, inspect

app = typer.Typer(
    help="The archive: what leaves for the lake, and why not; hold, retry, release; bring back; look after copies; "
    "try an archiver.",
    no_args_is_help=True,
)

for part in (inspect, act, copies):
    app.add_typer(part.app)
