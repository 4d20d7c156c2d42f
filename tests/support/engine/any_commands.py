"""Random commands of any context, from what it declares: few keys and few values, so that nearly everything
collides."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from uuid import UUID

from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from tests.support.engine.commands import base
from tidemill.domain.context import Context
from tidemill.domain.messages import BASE_FIELDS, CommandBase

KEYS = ["k0", "k1", "k2"]
TEXTS = ["a", "A", "b"]
STRICTER_TEXTS = [
    "{}",
    '{"type": "a"}',
    '{"type": "b", "n": 1}',
    "0" * 64,
    "f" * 64,
    "a@example.org",
    "A@example.org",
    "b@example.org",
    "en",
    "info",
    "error",
    '["a", "b"]',
    '["A", "a", "b"]',
    "datetime",
    "float64",
    "int64",
    "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43,
]
"""What fields take that refuse the plain texts: JSON, hashes, addresses, levels, axes."""
TIME = datetime.fromisoformat("2026-01-01T00:00:00Z")
LATER = datetime.fromisoformat("2999-01-01T00:00:00Z")
"""When what expires is over, unless it is over already: no test runs until then."""
PLAIN: dict[Any, list[Any]] = {
    str: TEXTS,
    int: [0, 1, 2, 3],
    bool: [False, True],
    float: [0.0, 1.5],
    datetime: [TIME],
}

MAX_TRIES = 1_000


def commands_of(context: Context) -> st.SearchStrategy[CommandBase]:
    """Return a strategy of valid commands of a context, each verb as often as the others."""
    return st.one_of([_strategy(spec.model) for spec in context.commands])


def random_commands(context: Context, source: random.Random, keys: Sequence[str]) -> Iterator[CommandBase]:
    """Yield valid commands of a context without end; half of them create a row. `keys`: of the aggregates."""
    models = [spec.model for spec in context.commands]
    creating = [model for model in models if model.__name__.startswith("Create")] or models
    while True:
        model = source.choice(creating if source.random() < 0.5 else models)
        yield _valid(model, source, keys)


def _valid(model: type[BaseModel], source: random.Random, keys: Sequence[str]) -> Any:
    for _ in range(MAX_TRIES):
        own = {name: source.choice(options(model, name, keys)) for name in _own(model)}
        made = _made(model, own | {"command_id": str(UUID(int=source.getrandbits(128), version=4))})
        if made is not None:
            return made
    raise AssertionError(f"none of {MAX_TRIES} random commands is a valid {model.__name__}")


def _strategy(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    own = {name: st.sampled_from(options(model, name, KEYS)) for name in _own(model)}
    return st.fixed_dictionaries(own).map(lambda fields: _made(model, fields)).filter(bool)


def _own(model: type[BaseModel]) -> list[str]:
    return [name for name in model.model_fields if name not in BASE_FIELDS]


def _made(model: type[BaseModel], fields: dict[str, Any]) -> Any:
    try:
        return model.model_validate({**base(), **fields})
    except ValidationError:
        return None


def options(model: type[BaseModel], name: str, keys: Sequence[str]) -> Sequence[Any]:
    """Return the values that a field may be given. `keys`: those of a field with a key."""
    if name.endswith("_id"):
        return keys
    return _options(model, name)


@lru_cache(maxsize=1_000)
def _options(model: type[BaseModel], name: str) -> list[Any]:
    info = model.model_fields[name]
    kind, nullable = _unwrapped(info.annotation)
    declared: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    valid: TypeAdapter[Any] = TypeAdapter(declared)
    candidates = (_of_type(model, name, kind), STRICTER_TEXTS if kind is str else [])
    fitting = (list(filter(lambda value: _is_valid(valid, value), each)) for each in candidates)
    values = next((each for each in fitting if each), [])
    assert values, f"no values for {model.__name__}.{name}"
    return [None, *values] if nullable else values


def _is_valid(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _unwrapped(kind: Any) -> tuple[Any, bool]:
    """Return a field's type without rules and None, and whether it may be None."""
    if get_origin(kind) is Annotated:
        return _unwrapped(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        (present,) = [each for each in get_args(kind) if each is not NoneType]
        return _unwrapped(present)[0], True
    return kind, False


def _of_type(model: type[BaseModel], name: str, kind: Any) -> list[Any]:
    item = get_args(kind)[0] if get_origin(kind) is list else None
    if isinstance(item, type) and issubclass(item, BaseModel):
        return _record_lists(item)
    if name == "clear":
        return [[], *([field] for field in model.model_fields)]  # what it does not take is left out
    if item is not None:
        return _pairs(item)
    if kind is datetime and name == "expires_at":
        return [TIME, LATER]
    if kind not in PLAIN:
        raise TypeError(f"no values for {name}: {kind}")
    return PLAIN[kind]


def _pairs(item: Any) -> list[Any]:
    """Return lists of two, since lists of one command belong together; and none, where that is valid."""
    plain, nullable = _unwrapped(item)
    first, second, *_ = [*PLAIN[plain], PLAIN[plain][0]]
    return [[], [first, second], [second, first], [None if nullable else first, first]]


def _record_lists(model: type[BaseModel]) -> list[Any]:
    """Return lists of one to three records."""
    first, last = ({name: options(model, name, KEYS)[at] for name in model.model_fields} for at in (0, -1))
    return [[first], [last, first], [first, last, first]]


def cut(records: Sequence[Any], sizes: Sequence[int]) -> list[Sequence[Any]]:
    """Return the records in batches of these sizes; the rest is one more."""
    batches, at = [], 0
    for size in sizes:
        batches.append(records[at : at + size])
        at += size
    return [batch for batch in (*batches, records[at:]) if batch]
