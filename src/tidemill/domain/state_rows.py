"""Rows of states without the price of a frozen dataclass's `__init__`, which sets each field by a call of its own.

A batch makes three rows per command: as loaded, as evolved, as stamped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1_000)
def _plain_fields(model: Any) -> frozenset[str] | None:
    """Return the fields of a class whose instances are nothing but them; None: only its own `__init__` makes one."""
    params = vars(model).get("__dataclass_params__")
    if params is None or hasattr(model, "__post_init__") or hasattr(model, "__slots__"):
        return None
    declared = fields(model)
    plain = params.init and all(field.init for field in declared)
    return frozenset(field.name for field in declared) if plain else None


def make_row(model: Any, values: Mapping[str, Any]) -> Any:
    """Return `model(**values)`. Raises `TypeError` as that does."""
    names = _plain_fields(model)
    if names is None or values.keys() != names:
        return model(**values)
    row = object.__new__(model)
    row.__dict__.update(values)
    return row


def row_maker(model: Any, names: Sequence[str]) -> Callable[[Iterable[Any]], Any]:
    """Return what makes rows of values in the order of `names`, of which further ones are ignored."""
    if _plain_fields(model) != frozenset(names):
        return lambda values: model(**dict(zip(names, values, strict=False)))

    def made(values: Iterable[Any]) -> Any:
        row = object.__new__(model)
        row.__dict__.update(zip(names, values, strict=False))
        return row

    return made


def changed_row(row: Any, values: Mapping[str, Any]) -> Any:
    """Return `dataclasses.replace(row, **values)`. Raises `TypeError` as that does."""
    model: Any = type(row)
    names = _plain_fields(model)
    if names is None or not values.keys() <= names:
        return replace(row, **values)
    changed = object.__new__(model)
    held = changed.__dict__
    held.update(row.__dict__)
    held.update(values)
    return changed if len(held) == len(names) else replace(row, **values)  # more: what a property computed
