"""From a Python class to its schema: drafting one, and telling where the two have drifted apart."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tidemill.catalog.avro import (
    Array,
    AvroType,
    Enumeration,
    Map,
    Primitive,
    Record,
    parse,
)
from tidemill.catalog.avro import Union as AvroUnion
from tidemill.catalog.lint import BASE
from tidemill.domain.errors import ContractError

_PLAIN: Final[dict[type, Any]] = {
    bool: "boolean",
    int: "long",
    float: "double",
    str: "string",
    bytes: "bytes",
    datetime: {"type": "long", "logicalType": "timestamp-micros"},
    date: {"type": "int", "logicalType": "date"},
}
_ALIKE: Final = {"int": "long", "float": "double"}
"""Avro kinds that are one type in Python."""


def draft_schema(model: type[BaseModel], namespace: str) -> dict[str, Any]:
    """Return a schema for `model` as JSON, its docs taken from the class; empty docs are for a person to write.

    Raises:
        ContractError: a field's type has no Avro form here; the message names it.
    """
    drafted: dict[str, Any] = {"type": "record", "name": model.__name__, "namespace": namespace}
    drafted["doc"] = (model.__doc__ or "").strip() if model.__doc__ != BaseModel.__doc__ else ""
    drafted["fields"] = [_draft_field(model, name, info) for name, info in model.model_fields.items()]
    return drafted


def out_of_step(model: type[BaseModel], record: Record) -> list[str]:
    """Return where a class and its schema differ: names and order of fields, types, nullability; empty if nowhere."""
    drafted = parse(draft_schema(model, record.name.rpartition(".")[0]))
    assert isinstance(drafted, Record)
    return list(_differences(drafted, record))


def _draft_field(model: type[BaseModel], name: str, info: FieldInfo) -> dict[str, Any]:
    try:
        kind = _draft_type(info.annotation, info)
    except ContractError as fault:
        raise ContractError(f"{model.__name__}.{name}: {fault}") from fault
    drafted = {"name": name, "type": kind}
    if isinstance(kind, list):
        drafted["default"] = None
    elif name not in {field.name for field in BASE} and isinstance(info.default, str | int | float):
        drafted["default"] = info.default.value if isinstance(info.default, Enum) else info.default
    return {**drafted, "doc": info.description or ""}


def _draft_type(annotation: Any, info: FieldInfo | None) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _draft_type(arguments[0], FieldInfo.from_annotation(annotation))
    if origin in (Union, types.UnionType):
        present = [argument for argument in arguments if argument is not type(None)]
        if len(present) != 1 or len(present) == len(arguments):
            raise ContractError(f"{annotation}: a union is of one type and None")
        return ["null", _draft_type(present[0], info)]
    if origin in (list, tuple) and arguments:
        return {"type": "array", "items": _draft_type(arguments[0], None)}
    if origin is dict and arguments[0] is str:
        return {"type": "map", "values": _draft_type(arguments[1], None)}
    if origin is Literal:
        raise ContractError("declare an enum.StrEnum: a literal has no name")
    return _draft_class(annotation, info)


def _draft_class(annotation: Any, info: FieldInfo | None) -> Any:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if annotation is Decimal:
        return _draft_decimal(info)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        symbols = [str(symbol.value) for symbol in annotation]
        return {"type": "enum", "name": annotation.__name__, "symbols": symbols, "default": symbols[0]}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        drafted = draft_schema(annotation, "")
        del drafted["namespace"]
        return drafted
    raise ContractError(
        f"{annotation} has no Avro form here; use a string, a number, a datetime, a list, a dict, a model"
    )


def _draft_decimal(info: FieldInfo | None) -> dict[str, Any]:
    limits = {
        name: getattr(rule, name, None) for rule in (info.metadata if info else ()) for name in _DECIMAL
    }
    precision, scale = limits.get("max_digits"), limits.get("decimal_places")
    if precision is None or scale is None:
        raise ContractError("a Decimal needs max_digits and decimal_places")
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


_DECIMAL: Final = ("max_digits", "decimal_places")


def _differences(drafted: Record, record: Record) -> Iterator[str]:
    wanted, written = [field.name for field in drafted.fields], [field.name for field in record.fields]
    if wanted != written:
        yield f"{record.name}: the class has the fields {', '.join(wanted)}; the schema has {', '.join(written)}"
        return
    for ours, theirs in zip(drafted.fields, record.fields, strict=True):
        if _python_form(ours.type) != _python_form(theirs.type):
            yield f"{record.name}.{ours.name}: the class says {ours.type}, the schema {theirs.type}"


def _python_form(schema: AvroType) -> Any:
    """Return a type without what Python cannot say: widths, defaults, docs, namespaces."""
    match schema:
        case Primitive(kind, logical):
            return (_ALIKE.get(kind, kind), logical)
        case Array(items):
            return ("array", _python_form(items))
        case Map(values):
            return ("map", _python_form(values))
        case AvroUnion(branches):
            return ("union", *(_python_form(branch) for branch in branches))
        case Record(_, fields):
            return ("record", *((field.name, _python_form(field.type)) for field in fields))
        case Enumeration(_, symbols):
            return ("enum", symbols)
        case _:
            return schema
