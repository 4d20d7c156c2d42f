"""Random commands of any context, from what it declares: few keys and few values, so that nearly everything
collides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tests.support.engine.commands import base
from tidemill.domain.context import Context
from tidemill.domain.messages import BASE_FIELDS, CommandBase

KEYS = ["k0", "k1", "k2"]
TEXTS = ["a", "A", "b"]
TIME = datetime.fromisoformat("2026-01-01T00:00:00Z")


def commands_of(context: Context) -> st.SearchStrategy[CommandBase]:
    """Return a strategy of valid commands of a context, each verb as often as the others."""
    return st.one_of([_command(spec.model) for spec in context.commands])


def _command(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    own = {name: _values(name, info) for name, info in model.model_fields.items() if name not in BASE_FIELDS}
    return st.fixed_dictionaries(own).map(lambda fields: _made(model, fields)).filter(bool)


def _made(model: type[BaseModel], fields: dict[str, Any]) -> BaseModel | None:
    try:
        return model.model_validate(base(**fields))
    except ValidationError:
        return None


def _values(name: str, info: Any) -> st.SearchStrategy[Any]:
    kind, nullable = _unwrapped(info.annotation)
    found = _of_type(name, kind)
    return st.none() | found if nullable else found


def _unwrapped(kind: Any) -> tuple[Any, bool]:
    """Return a field's type without rules and None, and whether it may be None."""
    if get_origin(kind) is Annotated:
        return _unwrapped(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        (present,) = [each for each in get_args(kind) if each is not NoneType]
        return _unwrapped(present)[0], True
    return kind, False


def _of_type(name: str, kind: Any) -> st.SearchStrategy[Any]:
    if name.endswith("_id"):
        return st.sampled_from(KEYS)
    if kind is str:
        return st.sampled_from(TEXTS)
    if kind is int:
        return st.integers(1, 3)
    if kind is bool:
        return st.booleans()
    if kind is float:
        return st.sampled_from([0.0, 1.5])
    if kind is datetime:
        return st.just(TIME)
    if get_origin(kind) is list:
        return st.sampled_from([[], ["full_name"]])
    raise TypeError(f"no values for {name}: {kind}")


def cut(records: Sequence[Any], sizes: Sequence[int]) -> list[Sequence[Any]]:
    """Return the records in batches of these sizes; the rest is one more."""
    batches, at = [], 0
    for size in sizes:
        batches.append(records[at : at + size])
        at += size
    return [batch for batch in (*batches, records[at:]) if batch]
