"""`fact_event`: the event of an append command, made from the command's class."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, create_model

from tidemill.api.entities.messages import plain_type
from tidemill.domain.errors import ContractError
from tidemill.domain.messages import BASE_FIELDS, CommandBase, EventBase, Message
from tidemill.domain.records import record_fields


def fact_event(name: str, command: type[CommandBase], doc: str) -> type[EventBase]:
    """Return the event that repeats a command: its fields without their rules, so that these may become stricter.

    `name`: of the class, such as `ReadingsRecorded`. `doc`: what happened, for its schema. The class of records within
    the command keeps its name, so that the event can be published in the command's own bytes.

    Raises:
        ContractError: `doc` is empty.
    """
    if not doc.strip():
        raise ContractError(f"{name}: its doc does not say what happened")
    return create_model(
        name, __base__=EventBase, __module__=command.__module__, __doc__=doc, **_plain_fields(command)
    )


def _plain_fields(model: type[BaseModel]) -> dict[str, Any]:
    records = record_fields(model)
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if issubclass(model, CommandBase) and name in BASE_FIELDS:
            continue
        kind = plain_type(info.annotation)
        if name in records:
            kind = list[_plain_record(records[name])]  # type: ignore[misc]  # a class of a value
        fields[name] = (kind, _described(info))
    return fields


def _plain_record(record: type[BaseModel]) -> type[BaseModel]:
    made: type[BaseModel] = create_model(
        record.__name__,
        __base__=Message,
        __module__=record.__module__,
        __doc__=record.__doc__,
        **_plain_fields(record),
    )
    return made


def _described(info: Any) -> Any:
    if info.is_required():
        return Field(description=info.description)
    return Field(default=info.default, description=info.description)
