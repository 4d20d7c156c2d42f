"""`tidemill query`: ask a read model."""

from __future__ import annotations

from typing import Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_table

EXAMPLES = examples(
    "tidemill query latest-quotes", "tidemill query daily-bars --key AAPL --key 2013-02-01 --json"
)


def query(
    name: Annotated[
        str, typer.Argument(metavar="READ-MODEL", help="As `tidemill projections list` names it.")
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(help="Only rows with this value of the key; repeat it for further key columns."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many rows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show rows of a read model, by key."""
    from tidemill.app import views
    from tidemill.app.running import run

    rows = run(views.read_view(session.deployment(), name, key or [], limit))
    if as_json:
        print_json(rows)
        return
    if not rows:
        note("No rows. How far it is: tidemill status")
        return
    hidden = {"id", "uuid"}
    columns = [column for column in rows[0] if column not in hidden]
    print_table(columns, [[row[column] for column in columns] for row in rows])
