"""`tidemill serve`: the processes that run until a signal stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import examples

if TYPE_CHECKING:
    from tidemill.app.admin import Admin
    from tidemill.settings import Settings

app = typer.Typer(
    help="Run a process until SIGTERM or Ctrl-C; it drains in at most 10 seconds. /health and /metrics by HTTP.",
    no_args_is_help=True,
)


@app.command(epilog=examples("TIDEMILL_HEALTH_PORT=8080 tidemill serve commands"))
def commands() -> None:
    """Process commands and publish their events, for the lanes that this process owns."""
    from tidemill.app.processes.commands import serve_commands

    raise typer.Exit(serve_commands(session.deployment()))


@app.command(epilog=examples("TIDEMILL_HEALTH_PORT=8081 tidemill serve projections"))
def projections() -> None:
    """Keep the read models up to date."""
    from tidemill.app.processes.projections import serve_projections

    raise typer.Exit(serve_projections(session.deployment()))


@app.command(epilog=examples("TIDEMILL_HTTP_PORT=8000 tidemill serve http"))
def http() -> None:
    """Answer over HTTP: read collections, and send commands. http://127.0.0.1:PORT/docs describes it."""
    from tidemill.app.processes.http import serve_http

    raise typer.Exit(serve_http(session.deployment()))


@app.command(epilog=examples("TIDEMILL_LAKE_ROOT=/srv/lake tidemill serve archiver"))
def archiver() -> None:
    """Copy sealed rows to the lake, as the archive requests it."""
    from tidemill.app.processes.archiver import serve_archiver

    raise typer.Exit(serve_archiver(session.deployment()))


@app.command(epilog=examples("TIDEMILL_LAKE_ROOT=/srv/lake tidemill serve retention"))
def retention() -> None:
    """Seal what is due, request copies from archivers, verify them, and only then drop the rows."""
    from tidemill.app.processes.retention import serve_retention

    raise typer.Exit(serve_retention(session.deployment()))


@app.command("all", epilog=examples("tidemill serve all", "tidemill serve all --prepare"))
def everything(
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="First migrate the database, register schemas, create topics."),
    ] = False,
) -> None:
    """Run everything in one process, for development and small deployments.

    Retention and the archiver are included if TIDEMILL_LAKE_ROOT is set, HTTP if TIDEMILL_HTTP_PORT is.
    """
    from tidemill.app.processes.all import serve_all

    if prepare:
        settings = session.settings()
        session.ask(lambda admin: _prepared(admin, settings))
    raise typer.Exit(serve_all(session.deployment()))


async def _prepared(admin: Admin, settings: Settings) -> None:
    """Bring servers to what this version expects; all of it may be repeated."""
    await admin.migrations.apply(["heads"], lambda _: None)
    if settings.registry.url is not None:
        await admin.schemas.register()
    await admin.topic_setup.create()
