"""The file of a drafted revision: statements for a person to read, each on its own."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

from tidemill.admin.setup.revisions import NextRevision
from tidemill.catalog.table_changes import TableChanges

_LINE: Final = 110
_STATEMENT: Final = 90
_SLUG: Final = 40

_FILE: Final = '''"""{about}.

Revision ID: {name}
Revises: {revises}

Drafted from what the context declares. Read it before it is applied: a waiting ALTER TABLE stops every batch behind it,
an index on a large table is built in a revision of its own, with `concurrently`, or for a hypertable with
`(timescaledb.transaction_per_chunk)`.
"""

from __future__ import annotations

from tidemill.migration import run_script

revision = "{name}"
down_revision = {down_revision}
branch_labels = {labels}
depends_on = {depends_on}


def upgrade() -> None:
    """{about}."""
{upgrade}


def downgrade() -> None:
    """Undo it, with all that its tables and columns hold."""
{downgrade}
'''


def revision_text(place: NextRevision, about: str, changes: TableChanges) -> str:
    """Return the file of a revision; what a person has to decide is in its comments."""
    before = place.earlier[-1] if place.earlier else None
    text = _FILE.format(
        about=about.rstrip("."),
        name=place.name,
        revises=before or "",
        down_revision=_constant(before),
        labels=None if before else f'("{place.branch}",)',
        depends_on=_constant(_needed(changes, is_first=before is None)),
        upgrade=_body(changes.upgrade, changes.decisions),
        downgrade=_body(changes.downgrade, ()),
    )
    return text.replace("Revises: \n", "Revises:\n").rstrip() + "\n"


def file_name(place: NextRevision, about: str) -> str:
    """Return the name of a revision's file (`0002_add_the_spread.py`)."""
    slug = re.sub(r"\W+", "_", about.lower()).strip("_")
    return f"{place.number:04d}_{slug[:_SLUG].rstrip('_') or 'tables'}.py"


def _needed(changes: TableChanges, *, is_first: bool) -> str | None:
    if changes.archive:
        return "core_0002"
    return "core_0001" if is_first else None


def _constant(name: str | None) -> str:
    return "None" if name is None else f'"{name}"'


def _body(statements: Sequence[str], decisions: Iterable[str]) -> str:
    lines = [line for decision in decisions for line in _comment(decision)]
    lines += [line for statement in statements for line in _call(statement)]
    return "\n".join(lines)


def _comment(decision: str) -> list[str]:
    return textwrap.wrap(decision, _LINE, initial_indent="    # ", subsequent_indent="    # ")


def _call(statement: str) -> list[str]:
    if statement.startswith("create ") and len(statement) > _STATEMENT and "\n" not in statement:
        statement = statement.replace(" on ", "\n  on ", 1)
    if "\\" in statement or '"""' in statement:
        return [f"    run_script({statement!r})"]
    if "\n" not in statement and '"' not in statement and len(statement) <= _STATEMENT:
        return [f'    run_script("{statement}")']
    return ['    run_script("""', textwrap.indent(statement, "      "), '    """)']
