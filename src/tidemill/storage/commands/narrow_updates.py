"""Which columns an update of rows writes: each is an array that is encoded, sent, and read again for every row."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter, is_not
from typing import Any, Final

from tidemill.domain.state import State

_MIN_ROWS: Final = 100
"""From how many rows on an update leaves out the columns in which none of them changed."""


def names_to_write(state: State, old: Sequence[Any], new: Sequence[Any]) -> tuple[str, ...]:
    """Return the columns of an update, the key first: of a small batch all, otherwise those that differ in a row.

    The batches of a backlog change about the same columns, so that there are few statements; those of single commands
    may change any. Compared are the objects, which evolving a row leaves alone: equal values may be stored differently.
    """
    others = [column.name for column in state.table.columns if column.name != state.key]
    if len(new) >= _MIN_ROWS:
        others = [name for name in others if _is_changed(attrgetter(name), old, new)]
    return (state.key, *others)


def _is_changed(value_of: attrgetter[Any], old: Sequence[Any], new: Sequence[Any]) -> bool:
    return any(map(is_not, map(value_of, old), map(value_of, new)))
