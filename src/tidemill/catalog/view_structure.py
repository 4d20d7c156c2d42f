"""A declared view compared with the one in the database. Pure. No write depends on it, so no lane waits for it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from tidemill.catalog.table_rights import reader_grant, reader_rights
from tidemill.catalog.tables import DeclaredView, Difference, FoundTable, Kind

_QUALIFIED: Final = re.compile(r"(?:\"[^\"]+\"|\w+)\.")
_LINE: Final = 100


def compare_view(declared: DeclaredView, actual: FoundTable | None) -> list[Difference]:
    """Return how the view differs, missing parts first; `actual` is None if there is none."""
    if actual is None:
        sql, undo = "; ".join([create_view(declared), reader_grant(declared.name)]), drop_view(declared)
        return [Difference(declared.name, "the view is missing", Kind.MISSING, sql, harmless=True, undo=undo)]
    if actual.kind != "view":
        what = f"it is a {actual.kind}, not a view"
        return [Difference(declared.name, what, Kind.DIFFERS, harmless=True)]
    differences = [*_shown(declared, actual), *reader_rights(declared, actual), *_others(declared, actual)]
    return sorted(differences, key=lambda difference: list(Kind).index(difference.kind))


def _shown(declared: DeclaredView, actual: FoundTable) -> Iterator[Difference]:
    sql = None if others(declared, actual) else "; ".join(replacement(declared, actual))
    for what, kind in _faults(declared, actual):
        yield Difference(declared.name, what, kind, sql, harmless=True)


def _faults(declared: DeclaredView, actual: FoundTable) -> Iterator[tuple[str, Kind]]:
    shown = {column.name for column in actual.columns}
    for name in declared.columns:
        if name not in shown:
            yield f"column {name} is missing", Kind.MISSING
    for name in sorted(shown & declared.left_out):
        yield f"it shows column {name}, which no reader is to see", Kind.DIFFERS
    present = _condition(actual.definition)
    if _plain(present) != _plain(_QUALIFIED.sub("", declared.where or "")):
        yield f"it shows {_rows(present)}, not {_rows(declared.where or '')}", Kind.DIFFERS


def _others(declared: DeclaredView, actual: FoundTable) -> Iterator[Difference]:
    for name in others(declared, actual):
        yield Difference(declared.name, f"column {name} is not declared", Kind.EXTRA)


def others(declared: DeclaredView, actual: FoundTable) -> list[str]:
    """Return the columns that the view has and the table it is of does not declare."""
    declares = declared.left_out.union(declared.columns)
    return [column.name for column in actual.columns if column.name not in declares]


def _condition(definition: str) -> str:
    """Return the condition of a view's rows, empty if it has none."""
    _, _, condition = definition.partition("WHERE ")
    return _QUALIFIED.sub("", condition.strip().rstrip(";"))


def _plain(condition: str) -> str:
    return re.sub(r"[\s()]+", " ", condition).strip().lower()


def _rows(condition: str) -> str:
    return f"rows where {condition}" if condition else "all rows"


# --- statements ------------------------------------------------------------------------------------------------------


def create_view(declared: DeclaredView) -> str:
    """Return the statement that creates the view."""
    return f"create view {declared.name} as\n{_query(declared, declared.columns)}"


def drop_view(declared: DeclaredView) -> str:
    """Return the statement that drops the view; it holds no rows."""
    return f"drop view {declared.name}"


def replacement(declared: DeclaredView, actual: FoundTable) -> list[str]:
    """Return the statements that make the present view the declared one.

    Columns can be added to a view in place, behind those that it has; for everything else it is made anew.
    """
    if not grows(declared, actual):
        return [drop_view(declared), create_view(declared), reader_grant(declared.name)]
    present = [column.name for column in actual.columns]
    added = [name for name in declared.columns if name not in present]
    return [f"create or replace view {declared.name} as\n{_query(declared, [*present, *added])}"]


def grows(declared: DeclaredView, actual: FoundTable) -> bool:
    """Return whether the view needs only more columns."""
    return all(kind is Kind.MISSING for _, kind in _faults(declared, actual))


def former_view(declared: DeclaredView, actual: FoundTable) -> list[str]:
    """Return the statements that create the view as it is in the database."""
    made = [f"create view {declared.name} as\n{actual.definition.rstrip().rstrip(';')}"]
    return [*made, reader_grant(declared.name)] if "select" in actual.readers else made


def _query(declared: DeclaredView, columns: Sequence[str]) -> str:
    listed = textwrap.fill(
        ", ".join(columns),
        _LINE,
        initial_indent="  select ",
        subsequent_indent="    ",
        break_long_words=False,
    )
    where = f" where {declared.where}" if declared.where else ""
    return f"{listed}\n  from {declared.source}{where}"
