"""Which values of a command its event takes without a second validation, which takes longer than all else about it.

They are those that cannot be refused: the event declares plain types, as the command does beside its rules, or the very
rules that the value has passed. Everything else is validated: other types, records, validators of the event's class.
"""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

M = TypeVar("M", bound=BaseModel)

_PLAIN: Final = frozenset({str, int, float, bool, datetime, date, UUID, NoneType, (list, str)})
"""Types of which every value is accepted; `(list, str)` stands for a list of texts."""


# What pydantic sets of a new message, each by its own setter: `object.__setattr__` looks the name up first.
_set_values, _set_names, _set_extra, _set_private = (
    vars(BaseModel)[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


@lru_cache(maxsize=1_000)
def left_out_by(event: type[BaseModel], command: type[BaseModel]) -> tuple[str, ...] | None:
    """Return the fields of a command that its event leaves out, if it takes all others as they are; otherwise None."""
    carried = [name for name in command.model_fields if name in event.model_fields]
    if carried != list(event.model_fields) or has_own_validation(event):
        return None
    if not all(_is_carried(event.model_fields[name], command.model_fields[name]) for name in carried):
        return None
    return tuple(name for name in command.model_fields if name not in event.model_fields)


def unvalidated(model: type[M], values: dict[str, Any]) -> M:
    """Return a message with these values of all fields; the dictionary becomes a part of it."""
    message = object.__new__(model)
    _set_values(message, values)
    _set_names(message, set(values))
    _set_extra(message, None)
    _set_private(message, None)
    return message


def changed_message(message: M, values: dict[str, Any]) -> M:
    """Return a message with other values of some fields, which are not validated."""
    if message.__pydantic_private__ is not None or message.__pydantic_extra__ is not None:
        return message.model_copy(update=values)
    return unvalidated(type(message), {**vars(message), **values})


def has_own_validation(model: type[BaseModel]) -> bool:
    """Tell whether a message may be refused, or changed, although each of its fields is valid by itself."""
    decorators = model.__pydantic_decorators__
    validators = (decorators.field_validators, decorators.model_validators, decorators.root_validators)
    special = (model.__pydantic_post_init__, model.__private_attributes__, getattr(model, "checks", ()))
    return any((*validators, decorators.validators, *special)) or _is_replaced(model)


def _is_replaced(model: type[BaseModel]) -> bool:
    """Tell whether a class makes its instances in a way of its own."""
    return model.__init__ is not BaseModel.__init__ or model.model_config.get("extra") != "forbid"


def _is_carried(event: FieldInfo, command: FieldInfo) -> bool:
    same = (event.annotation, event.metadata) == (command.annotation, command.metadata)
    if same and all(isinstance(rule, StringConstraints) for rule in _rules(event)):
        return True
    return not _rules(event) and kinds_of(command.annotation) <= kinds_of(event.annotation) <= _PLAIN


def _rules(info: FieldInfo) -> list[Any]:
    return [*info.metadata, *_rules_within(info.annotation)]


def _rules_within(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        inner, *rules = get_args(kind)
        return [*rules, *_rules_within(inner)]
    return [rule for part in get_args(kind) for rule in _rules_within(part)]


def kinds_of(kind: Any) -> frozenset[Any]:
    """Return the types that a value of a field may have, without rules; `(list, type)` for a list of one plain type."""
    if get_origin(kind) is Annotated:
        return kinds_of(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return frozenset().union(*map(kinds_of, get_args(kind)))
    if get_origin(kind) is list:
        return frozenset({(list, item) for item in kinds_of(get_args(kind)[0])})
    return frozenset({kind})
