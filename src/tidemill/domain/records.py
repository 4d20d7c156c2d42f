"""Records within a message: fields that hold many of one class, such as what a command reports at once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel


@lru_cache(maxsize=1_000)
def record_fields(model: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    """Return the fields of a message that hold a list of records, each with the class of its records."""
    classes = {name: _record_class(info.annotation) for name, info in model.model_fields.items()}
    return {name: record for name, record in classes.items() if record is not None}


def _record_class(hint: Any) -> type[BaseModel] | None:
    if get_origin(hint) is Annotated:
        return _record_class(get_args(hint)[0])
    if get_origin(hint) not in (list, tuple):
        return None
    item = get_args(hint)[0]
    return item if isinstance(item, type) and issubclass(item, BaseModel) else None
