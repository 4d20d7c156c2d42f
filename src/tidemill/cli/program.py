"""The program: its verbs in the order of a command's life, and the handling of errors that a verb does not expect."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from tidemill import __version__
from tidemill.app import devkit
from tidemill.cli import (
    audit,
    command,
    context,
    dead_letters,
    generations,
    lanes,
    migrate,
    outbox,
    principals,
    projections,
    publish,
    query,
    schemas,
    secrets,
    serve,
    status,
    tail,
    topics,
    verify_password,
)
from tidemill.cli.output import examples, fail
from tidemill.cli.retention import verbs
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import TidemillError, UsageError

PREPARE = "Prepare"
SPEAK = "Publish and read"
SERVE = "Serve"
ASK = "Ask"
OPERATE = "Operate"

_ORDER: Final = (
    "dev",
    "context",
    "migrate",
    "schemas",
    "topics",
    "publish",
    "tail",
    "serve",
    "query",
    "verify-password",
    "command",
    "status",
    "lanes",
    "generations",
    "outbox",
    "audit",
    "dead-letters",
    "projections",
    "principals",
    "secrets",
    "retention",
    "demo",
)


EXTRAS: Final = {
    "adbc_driver_manager": "archive",
    "adbc_driver_postgresql": "archive",
    "bokeh_sampledata": "demo",
    "duckdb": "demo",
    "fsspec": "archive",
    "pandas": "demo",
    "pyarrow": "archive",
    "pyiceberg": "iceberg",
}
"""What an installation may lack, by the extra of this distribution that brings it."""


class _Life(TyperGroup):
    """Lists verbs as they were added: in the order of a command's life, not groups after single verbs."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return [name for name in _ORDER if name in self.commands]


program = typer.Typer(
    name="tidemill",
    cls=_Life,
    help="A CQRS database service for TimescaleDB that is driven by Kafka: commands in, events out, read models kept.",
    epilog=examples(
        "tidemill demo             all of it once, on real data",
        "tidemill dev up           real servers, for development",
        "tidemill migrate          the tables",
        "tidemill topics create    the topics, and a lane for each partition",
        "tidemill serve all        the work",
        "tidemill status           in another terminal",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

program.add_typer(context.app, name="context", rich_help_panel=PREPARE)
program.add_typer(migrate.app, name="migrate", rich_help_panel=PREPARE)
program.add_typer(schemas.app, name="schemas", rich_help_panel=PREPARE)
program.add_typer(topics.app, name="topics", rich_help_panel=PREPARE)
program.command("publish", rich_help_panel=SPEAK, epilog=publish.EXAMPLES)(publish.publish)
program.command("tail", rich_help_panel=SPEAK, epilog=tail.EXAMPLES)(tail.tail)
program.add_typer(serve.app, name="serve", rich_help_panel=SERVE)
program.command("query", rich_help_panel=ASK, epilog=query.EXAMPLES)(query.query)
program.command("verify-password", rich_help_panel=ASK, epilog=verify_password.EXAMPLES)(
    verify_password.verify_password
)
program.add_typer(command.app, name="command", rich_help_panel=ASK)
program.command("status", rich_help_panel=OPERATE, epilog=status.EXAMPLES)(status.status)
program.add_typer(lanes.app, name="lanes", rich_help_panel=OPERATE)
program.add_typer(generations.app, name="generations", rich_help_panel=OPERATE)
program.add_typer(outbox.app, name="outbox", rich_help_panel=OPERATE)
program.command("audit", rich_help_panel=OPERATE, epilog=audit.EXAMPLES)(audit.audit)
program.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=OPERATE)
program.add_typer(projections.app, name="projections", rich_help_panel=OPERATE)
program.add_typer(principals.app, name="principals", rich_help_panel=OPERATE)
program.add_typer(secrets.app, name="secrets", rich_help_panel=OPERATE)
program.add_typer(verbs.app, name="retention", rich_help_panel=OPERATE)
if add_verbs := devkit.part("verbs"):
    add_verbs(program, verbs.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@program.callback()
def options(
    env_file: Annotated[
        Path | None,
        typer.Option("--env-file", help="A file of lines NAME=value; the environment takes precedence."),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Read what concerns every verb."""
    from tidemill.cli import session

    session.env_file = env_file
    session.read_by_program = False  # until the verb is found to have `--json`


def main() -> None:
    """Run the program; a `TidemillError` becomes one or two lines and an exit code."""
    try:
        program()
    except TidemillError as error:
        sys.exit(fail(error))
    except ModuleNotFoundError as error:
        if (extra := EXTRAS.get((error.name or "").partition(".")[0])) is None:
            raise
        extras = "archive,demo" if "demo" in sys.argv[1:2] else extra
        missing = UsageError(f"this verb needs {error.name}", code=ErrorCode.EXTRA_MISSING, extras=extras)
        sys.exit(fail(missing))
    except BrokenPipeError:  # `tidemill tail ... | head` has seen enough
        sys.stderr.close()
        sys.exit(0)
