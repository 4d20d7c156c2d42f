"""`tidemill query`: read a collection (a read model, an entity, facts), or ask a declared query."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import session
from tidemill.cli.output import AsJson, examples, note, print_json, print_records
from tidemill.cli.retention.options import From, To
from tidemill.domain.strict_json import signed_integer

if TYPE_CHECKING:
    from tidemill.queries.read_models import Page

EXAMPLES = examples(
    "tidemill query latest-quotes",
    "tidemill query daily-bars --key AAPL --key 2013-02-01 --json",
    "tidemill query market-data --where symbol=AAPL --from 2013-02-01 --to 2013-02-02",
    "tidemill query service-proposals --where status=submitted --limit 100",
    "tidemill query analyses-by-status --param user_id=ada --param status=running",
)


def query(
    name: Annotated[
        str,
        typer.Argument(
            metavar="COLLECTION",
            help="A read model, the plural of an entity, a table of facts, or a declared query; a wrong name lists "
            "the collections.",
        ),
    ],
    *,
    key: Annotated[
        list[str] | None,
        typer.Option(help="Only rows with this value of the key; repeat it for further key columns."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value of a column; may be repeated."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="The value of a declared query's parameter; repeat it."),
    ] = None,
    since: From = None,
    until: To = None,
    limit: Annotated[
        int,
        typer.Option(
            min=1, max=1_000_000, help="Show at most this many rows; of a collection, up to 10,000."
        ),
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Show rows of a collection: read models and entities in key order, facts newest first.

    --from (inclusive) and --to (exclusive) are about the time of facts. Facts that left for the archive, and late ones
    that are about to leave, are not shown. The database has five seconds for an answer.
    """
    from tidemill.queries.read_models import MAX_ROWS, RowFilter

    if param or session.deployment().catalog.queries().get(name) is not None:
        if key or where or since or until:
            raise typer.BadParameter("a declared query is asked with --param only", param_hint="COLLECTION")
        _ask(name, _pairs(param or [], "--param"), limit, as_json=as_json)
        return
    if limit > MAX_ROWS:
        raise typer.BadParameter(f"a collection shows {MAX_ROWS:,} rows at most", param_hint="--limit")
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


def _ask(name: str, values: dict[str, str], limit: int, *, as_json: bool) -> None:
    """Show the rows of a declared query."""
    answer = session.ask(lambda admin: admin.declared_queries.walk(name, values, limit))
    rows = [json.loads(row, parse_int=signed_integer) for row in answer.rows]
    if as_json:
        print_json(rows)
        return
    if not rows:
        note("No rows")
        return
    columns = list(rows[0])
    print_records(columns, [[row[column] for column in columns] for row in rows])
    if answer.more:
        note("There are more: raise --limit")


def _show(page: Page) -> None:
    own = _ENGINES_OWN if _ENGINES_OWN.issubset(page.columns) else frozenset()
    columns = [column for column in page.columns if column not in own]
    print_records(columns, [[row[column] for column in columns] for row in page.rows])


def _pairs(written: list[str], option: str = "--where") -> dict[str, str]:
    form = "COLUMN=VALUE" if option == "--where" else "NAME=VALUE"
    pairs = [condition.partition("=") for condition in written]
    if unfit := [column for column, equals, _ in pairs if not (column and equals)]:
        raise typer.BadParameter(f"write {form}, not {unfit[0]!r}", param_hint=option)
    if len({column for column, *_ in pairs}) < len(pairs):
        raise typer.BadParameter("a column can have one value: name each column once", param_hint=option)
    return {column: value for column, _, value in pairs}


_ENGINES_OWN = frozenset({"id", "uuid"})
"""Columns of a projection that are made of its key; people see the key itself. The key of an entity is its id."""
