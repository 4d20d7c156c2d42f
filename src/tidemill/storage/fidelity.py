"""Which PostgreSQL types a copy holds exactly, which by their text, and which it refuses: one table of rules.

From a table's attributes come the columns of its copy, and from these all SQL that reads, checks and measures the
rows. A *source* is what may stand behind FROM without a name of its own: a quoted table, or a SELECT in parentheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tidemill.domain.archive import LakeColumn, Refusal


class Shape(NamedTuple):
    """What a table's copy looks like; with a refusal there must be none."""

    columns: tuple[LakeColumn, ...]
    refused: tuple[Refusal, ...]


def pin_settings_sql() -> str:
    """Return the `SET LOCAL` statements under which a value has one text; they hold until the transaction ends."""
    raise NotImplementedError


def select_list(columns: Sequence[LakeColumn]) -> str:
    """Return the expressions that give a copy's columns, casts included, each under its name."""
    raise NotImplementedError


def read_sql(columns: Sequence[LakeColumn], source: str) -> str:
    """Return the SELECT that gives exactly the copy's columns and rows."""
    raise NotImplementedError


def preflight_sql(columns: Sequence[LakeColumn], source: str) -> str | None:
    """Return a SELECT of one row that counts, per column, the values that cannot be held; None if any can."""
    raise NotImplementedError


def digest_sql(columns: Sequence[LakeColumn], time_column: str, source: str) -> str:
    """Return a SELECT of one row `row_count, digest, min_time, max_time`, as `Measured`, in one scan."""
    raise NotImplementedError


def schema_fingerprint(columns: Sequence[LakeColumn]) -> str:
    """Return a short text that changes with any name, type, order or nullability of the columns."""
    raise NotImplementedError
