"""`tidemill query`: read a read model."""

from __future__ import annotations

from typing import Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_records

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
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most this many rows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show rows of a read model, by key."""
    page = session.ask(lambda admin: admin.queries.page(name, key or [], limit))
    if as_json:
        print_json(page.rows)
        return
    if not page.rows:
        note("No rows. To see its progress: tidemill status")
        return
    own = _ENGINES_OWN if _ENGINES_OWN.issubset(page.columns) else frozenset()
    columns = [column for column in page.columns if column not in own]
    print_records(columns, [[row[column] for column in columns] for row in page.rows])
    if page.more:
        note(f"There are more: --limit {limit * 10}, or the first columns of the --key")


_ENGINES_OWN = frozenset({"id", "uuid"})
"""Columns of a projection that are made of its key; people see the key itself. The key of an entity is its id."""
