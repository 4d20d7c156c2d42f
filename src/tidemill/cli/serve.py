"""`tidemill serve`: the processes that work until they are told to stop."""

from __future__ import annotations

import typer

from tidemill.cli import session
from tidemill.cli.output import examples

app = typer.Typer(
    help="Run a process until SIGTERM or Ctrl-C; it drains in at most 10 seconds. /health and /metrics by HTTP.",
    no_args_is_help=True,
)


@app.command(epilog=examples("TIDEMILL_HEALTH_PORT=8080 tidemill serve commands"))
def commands() -> None:
    """Take commands in and send their events out, for the lanes that this process owns."""
    from tidemill.app.processes.commands import serve_commands

    raise typer.Exit(serve_commands(session.deployment()))


@app.command(epilog=examples("TIDEMILL_HEALTH_PORT=8081 tidemill serve projections"))
def projections() -> None:
    """Keep the read models up to date."""
    from tidemill.app.processes.projections import serve_projections

    raise typer.Exit(serve_projections(session.deployment()))


@app.command(epilog=examples("TIDEMILL_LAKE_ROOT=/srv/lake tidemill serve archiver"))
def archiver() -> None:
    """Copy what is about to leave the database to the lake, as the archive's requests ask for it."""
    from tidemill.app.processes.archiver import serve_archiver

    raise typer.Exit(serve_archiver(session.deployment()))


@app.command(epilog=examples("TIDEMILL_LAKE_ROOT=/srv/lake tidemill serve retention"))
def retention() -> None:
    """Seal what is due, ask archivers for copies, verify them, and only then let the rows go."""
    from tidemill.app.processes.retention import serve_retention

    raise typer.Exit(serve_retention(session.deployment()))


@app.command("all", epilog=examples("tidemill serve all"))
def everything() -> None:
    """Do everything in one process, for development and small deployments.

    Retention and the archiver are part of it if TIDEMILL_LAKE_ROOT says where the lake is.
    """
    from tidemill.app.processes.all import serve_all

    raise typer.Exit(serve_all(session.deployment()))
