"""`tidemill retention`: plans, holds, restores and checks of copies."""

from __future__ import annotations

import typer

from tidemill.cli.retention import act, copies, inspect

app = typer.Typer(
    help="The archive: plan and status; hold, retry, release; restore ranges; check copies; "
    "test an archiver.",
    no_args_is_help=True,
)

for part in (inspect, act, copies):
    app.add_typer(part.app)
