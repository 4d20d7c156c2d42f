"""`tidemill context`: begin a context of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import examples, note, relative_path, say

app = typer.Typer(help="Begin a context of your own.", no_args_is_help=True)

HERE = Path()


@app.callback()
def context() -> None:
    """Begin a context of your own."""


@app.command(
    epilog=examples(
        "tidemill context new tide-gauges --entity",
        "tidemill context new tide-readings --facts --directory packages",
    )
)
def new(
    name: Annotated[str, typer.Argument(help="Of its topics, table and package, such as tide-gauges.")],
    entity: Annotated[
        bool, typer.Option("--entity", help="Rows that are created, changed and deleted, one for each key.")
    ] = False,
    facts: Annotated[bool, typer.Option("--facts", help="Facts by time, in a hypertable.")] = False,
    directory: Annotated[Path, typer.Option(help="Where its folder is made.")] = HERE,
) -> None:
    """Write a package with a context that works as it is: fields, schemas, migration, test. No server is needed."""
    from tidemill.admin.setup.new_context import write_context
    from tidemill.domain.errors import UsageError

    if entity == facts:
        raise UsageError("say what it is: --entity or --facts")
    made = session.ask(lambda admin: write_context(name, directory, admin.migrations.tables, facts=facts))
    for path in made.files:
        say("wrote {path}", path=relative_path(path))
    folder = relative_path(made.folder)
    note("Next: pip install --editable {folder}", folder=folder)
    note("      tidemill serve all --prepare      in another terminal")
    note("      tidemill publish {command} {file} --wait", command=made.command, file=folder / "first.jsonl")
    note("      tidemill query {name}", name=made.read_model)
