"""What brings a database's tables to what a context declares: statements, and those that undo them. Pure.

Nothing is dropped that holds rows, and no type becomes narrower. What a person has to decide is said in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidemill.catalog.column_types import is_same, is_wider
from tidemill.catalog.structure import create_index, make_hypertable, prepare_late, room, table_lines
from tidemill.catalog.table_rights import reader_grant, schema_grant, table_grants
from tidemill.catalog.tables import (
    READER_ROLE,
    SERVICE_ROLE,
    Comparison,
    Declared,
    Difference,
    FoundTable,
    Kind,
    TableComparison,
    ViewComparison,
    literal,
)
from tidemill.catalog.view_structure import (
    create_view,
    drop_view,
    former_view,
    grows,
    others,
    replacement,
)

_CHUNKS = """\
-- A chunk is the unit in which rows leave. Choose its span before there are rows: a few dozen in all are good."""


@dataclass(frozen=True, slots=True)
class Change:
    """A step of a revision, and what undoes it: statements in the order in which they run."""

    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableChanges:
    """The steps of a revision in their order.

    `decisions`: what a person has to decide. `archive`: it calls routines of the archive.
    """

    changes: tuple[Change, ...]
    decisions: tuple[str, ...]
    archive: bool

    @property
    def upgrade(self) -> list[str]:
        """Return the statements of all steps."""
        return [statement for change in self.changes for statement in change.up]

    @property
    def downgrade(self) -> list[str]:
        """Return the statements that undo all steps, the last step first."""
        return [statement for change in reversed(self.changes) for statement in change.down]


def table_changes(comparisons: Sequence[Comparison]) -> TableChanges:
    """Return what brings tables and views to what is declared; a view is remade around changes of its table."""
    tables = [comparison for comparison in comparisons if isinstance(comparison, TableComparison)]
    views = [comparison for comparison in comparisons if isinstance(comparison, ViewComparison)]
    retyped = {comparison.declared.name for comparison in tables if _retypes(comparison)}
    remade = [view for view in views if _is_remade(view, retyped)]
    changes = [
        *(_dropped(view) for view in remade),
        *(change for table in tables for change in _table(table)),
        *(_created(view) for view in remade),
        *(change for view in views if view not in remade for change in _view(view)),
    ]
    return TableChanges(
        tuple(change for change in changes if change.up or change.down),
        tuple(decision for comparison in comparisons for decision in _decisions(comparison)),
        archive=any("tm.prepare_late" in statement for change in changes for statement in change.up),
    )


# --- tables ----------------------------------------------------------------------------------------------------------


def _table(comparison: TableComparison) -> Iterator[Change]:
    declared = comparison.declared
    if comparison.actual is None:
        yield from _new_table(declared)
        return
    drafts = [difference for difference in comparison.differences if _is_drafted(difference)]
    altered = [difference for difference in drafts if difference.sql and " column " in difference.sql]
    follow = bool(altered) and declared.archived and comparison.actual.late
    if follow:
        yield Change(down=(prepare_late(declared),))  # it runs last of all that is undone
    for difference in drafts:
        yield Change((difference.sql or "",), tuple(_undone(difference, declared, comparison.actual.late)))
    if follow:
        yield Change((prepare_late(declared),))


def _new_table(declared: Declared) -> Iterator[Change]:
    if declared.schema != "public":  # it stays when the table is dropped: others may use it
        roles = f"{SERVICE_ROLE}, {READER_ROLE}"
        yield Change((f"create schema if not exists {declared.schema}", schema_grant(declared.schema, roles)))
    lines = ",\n  ".join(table_lines(declared)).replace("timestamp with time zone", "timestamptz")
    made = f"create table {declared.name} (\n  {lines}){room(declared)}"
    yield Change((made,), (f"drop table {declared.name}",))
    if declared.time_column is not None:
        yield Change((f"{_CHUNKS}\n{make_hypertable(declared)}",))
    yield Change(tuple(create_index(declared, index) for index in declared.indexes))
    yield Change(tuple(table_grants(declared)))
    if declared.archived:
        yield Change((prepare_late(declared),), tuple(_forget_late(declared)))


def _undone(difference: Difference, declared: Declared, late: bool) -> Iterator[str]:  # noqa: FBT001  of the table
    if difference.undo is None:
        if "tm.prepare_late" in (difference.sql or ""):
            yield from _forget_late(declared)
        return
    yield difference.undo
    if late and declared.archived and " drop column " in difference.undo:
        yield difference.undo.replace(
            f"alter table {declared.name} ", f"alter table {_late_table(declared)} "
        )


def _forget_late(declared: Declared) -> Iterator[str]:
    yield f"call tm.refuse_to_forget({literal(_plain_name(declared))})"
    yield f"drop table {_late_table(declared)}"


def _late_table(declared: Declared) -> str:
    name = _plain_name(declared).replace(".", "__")
    return f'tm_late."{name}"' if '"' in declared.name else f"tm_late.{name}"


def _plain_name(declared: Declared) -> str:
    return declared.name.replace('"', "")


def _is_drafted(difference: Difference) -> bool:
    return difference.sql is not None and difference.kind is not Kind.EXTRA


def _retypes(comparison: TableComparison) -> bool:
    """Return whether the type of a column is changed, which PostgreSQL refuses while a view shows it."""
    if comparison.actual is None:
        return False
    present = {column.name: column.type for column in comparison.actual.columns}
    pairs = [(column.type, present.get(column.name)) for column in comparison.declared.columns]
    return any(
        declared is not None and now is not None and not is_same(declared, now) and is_wider(declared, now)
        for declared, now in pairs
    )


# --- views -----------------------------------------------------------------------------------------------------------


def _view(comparison: ViewComparison) -> Iterator[Change]:
    declared, actual = comparison.declared, comparison.actual
    if actual is None:
        yield _created(comparison)
        return
    if actual.kind != "view" or others(declared, actual):
        return
    rights = [difference for difference in comparison.differences if _is_right(difference)]
    if len(rights) < len(comparison.differences):
        added = tuple(replacement(declared, actual))
        yield Change(added, (drop_view(declared), *former_view(declared, actual)))
    for difference in rights:
        yield Change((difference.sql or "",), (difference.undo or "",))


def _is_right(difference: Difference) -> bool:
    return (difference.sql or "").startswith("grant ")


def _is_remade(comparison: ViewComparison, retyped: set[str]) -> bool:
    declared, actual = comparison.declared, comparison.actual
    if actual is None or actual.kind != "view" or others(declared, actual):
        return False
    return declared.source in retyped or not grows(declared, actual)


def _dropped(comparison: ViewComparison) -> Change:
    declared, actual = comparison.declared, comparison.actual
    return Change((drop_view(declared),), () if actual is None else tuple(former_view(declared, actual)))


def _created(comparison: ViewComparison) -> Change:
    declared = comparison.declared
    return Change((create_view(declared), reader_grant(declared.name)), (drop_view(declared),))


# --- decisions -------------------------------------------------------------------------------------------------------


def _decisions(comparison: Comparison) -> Iterator[str]:
    for difference in comparison.differences:
        if difference.sql is None and difference.kind is not Kind.EXTRA:
            yield f"{difference}: nothing is drafted for it, decide what becomes of it"
    if isinstance(comparison, ViewComparison):
        yield from _view_decisions(comparison)
    elif comparison.actual is not None:
        yield from _hypertable_decisions(comparison.declared, comparison.actual)
        present = {column.name for column in comparison.actual.columns}
        for column in comparison.declared.columns:
            if column.name not in present and not column.nullable:
                yield (
                    f"{comparison.declared.name}: column {column.name} may be null in rows that exist: "
                    "fill it in them, and set it NOT NULL in a later revision"
                )


def _hypertable_decisions(declared: Declared, actual: FoundTable) -> Iterator[str]:
    if declared.archived and declared.time_column and actual.divided_by is None and actual.kind == "table":
        yield (
            f"{declared.name}: its rows move into chunks while nothing else can use the table, and no downgrade brings "
            "them back: choose the span of a chunk, and a quiet hour"
        )


def _view_decisions(comparison: ViewComparison) -> Iterator[str]:
    declared, actual = comparison.declared, comparison.actual
    if (
        actual is not None
        and actual.kind == "view"
        and not others(declared, actual)
        and not grows(declared, actual)
    ):
        yield f"{declared.name} is made anew: repeat what else was granted on it"
