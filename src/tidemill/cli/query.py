"""`tidemill query`: read a collection: a read model, an entity, facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_records
from tidemill.cli.retention.options import From, To

if TYPE_CHECKING:
    from tidemill.queries.read_models import Page

EXAMPLES = examples(
    "tidemill query latest-quotes",
    "tidemill query daily-bars --key AAPL --key 2013-02-01 --json",
    "tidemill query market-data --where symbol=AAPL --from 2013-02-01 --to 2013-02-02",
    "tidemill query service-proposals --where status=submitted --limit 100",
)


def query(
    name: Annotated[
        str,
        typer.Argument(
            metavar="COLLECTION",
            help="A read model, the plural of an entity, or a table of facts; a wrong name lists all of them.",
        ),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(help="Only rows with this value of the key; repeat it for further key columns."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value of a column; may be repeated."),
    ] = None,
    since: From = None,
    until: To = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Show at most this many rows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show rows of a collection: read models and entities in key order, facts newest first.

    --from (inclusive) and --to (exclusive) are about the time of facts. Facts that left for the archive, and late ones
    that are about to leave, are not shown. The database has five seconds for an answer.
    """
    from tidemill.queries.read_models import MAX_ROWS, RowFilter

    wanted = RowFilter(key or [], _pairs(where or []), since, until)
    page = session.ask(lambda admin: admin.queries.page(name, wanted, limit))
    if as_json:
        print_json(page.rows)
        return
    if not page.rows:
        note("No rows. To see its progress: tidemill status")
        return
    _show(page)
    if page.more:
        note(f"There are more: --limit {min(limit * 10, MAX_ROWS)}, --key or --where")


def _show(page: Page) -> None:
    own = _ENGINES_OWN if _ENGINES_OWN.issubset(page.columns) else frozenset()
    columns = [column for column in page.columns if column not in own]
    print_records(columns, [[row[column] for column in columns] for row in page.rows])


def _pairs(where: list[str]) -> dict[str, str]:
    pairs = [condition.partition("=") for condition in where]
    if unfit := [column for column, equals, _ in pairs if not (column and equals)]:
        raise typer.BadParameter(f"write COLUMN=VALUE, not {unfit[0]!r}", param_hint="--where")
    if len({column for column, *_ in pairs}) < len(pairs):
        raise typer.BadParameter("a column can have one value: name each column once", param_hint="--where")
    return {column: value for column, _, value in pairs}


_ENGINES_OWN = frozenset({"id", "uuid"})
"""Columns of a projection that are made of its key; people see the key itself. The key of an entity is its id."""
