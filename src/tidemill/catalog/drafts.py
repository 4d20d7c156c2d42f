"""From a Python class to its schema: drafting one, and finding where the two differ."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Final, Union, get_args, get_origin

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
from tidemill.domain.errors import ContractError
from tidemill.domain.field_rules import type_words
from tidemill.domain.messages import CommandBase, EventBase, Message

_PLAIN: Final[dict[type, Any]] = {
    bool: "boolean",
    int: "long",
    float: "double",
    str: "string",
    bytes: "bytes",
    datetime: {"type": "long", "logicalType": "timestamp-micros"},
    date: {"type": "int", "logicalType": "date"},
}
_DECIMAL: Final = ("max_digits", "decimal_places")
_BASE_DOCS: Final = {
    "command_id": "Identifies the command: a repeat with the same id gets the first outcome again.",
    "service_name": "The service that sends the command.",
    "timestamp": "When the service made the command, by its own clock. Recorded; decides nothing.",
    "correlation_id": "What the service wants to find again in the outcome and in the events.",
}
_LINE_CHARACTERS: Final = 115
_ALIKE: Final = {"int": "long", "float": "double"}
"""Avro kinds that are one type in Python."""


def draft_schema(model: type[BaseModel], namespace: str) -> dict[str, Any]:
    """Return a schema for `model` as JSON, its docs taken from the class; the author writes the empty docs.

    Raises:
        ContractError: a field's type has no Avro form here; the message names it.
    """
    return _Draft().record(model, namespace)


def schema_text(document: dict[str, Any]) -> str:
    """Return a schema in the format of the files: a line for each field, its doc on a second one if it is long."""
    head = [
        f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in document.items() if key != "fields"
    ]
    fields = ",\n".join(_field_lines(field) for field in document["fields"])
    return "\n".join(["{", *head, '  "fields": [', fields, "  ]", "}"]) + "\n"


def out_of_step(model: type[BaseModel], record: Record) -> list[str]:
    """Return where a class and its schema differ: names and order of fields, types, nullability; empty if nowhere."""
    drafted = parse(draft_schema(model, record.name.rpartition(".")[0]))
    assert isinstance(drafted, Record)
    return list(_differences(drafted, record))


class _Draft:
    """Drafts one schema: a class that is used in several places is defined at the first."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def record(self, model: type[BaseModel], namespace: str = "") -> dict[str, Any]:
        self._named.add(model.__name__)
        drafted: dict[str, Any] = {"type": "record", "name": model.__name__}
        if namespace:
            drafted["namespace"] = namespace
        drafted["doc"] = inspect.cleandoc(model.__doc__ or "")
        drafted["fields"] = [self._field(model, name, info) for name, info in model.model_fields.items()]
        return drafted

    def _field(self, model: type[BaseModel], name: str, info: FieldInfo) -> dict[str, Any]:
        try:
            kind = self._type(info.annotation, info)
        except ContractError as fault:
            raise ContractError(f"{model.__name__}.{name}: {fault}") from fault
        drafted = {"name": name, "type": kind}
        if isinstance(kind, list):
            drafted["default"] = None
        elif isinstance(info.default, str | int | float):
            drafted["default"] = info.default.value if isinstance(info.default, Enum) else info.default
        elif isinstance(info.default, list) and not info.default:
            drafted["default"] = []  # so that the field may be added later
        doc = info.description or (
            _BASE_DOCS.get(name, "") if issubclass(model, CommandBase | EventBase) else ""
        )
        return {**drafted, "doc": " ".join([*filter(None, [doc]), *_words(model, name)])}

    def _type(self, annotation: Any, info: FieldInfo | None = None) -> Any:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self._type(arguments[0], FieldInfo.from_annotation(annotation))
        if origin in (Union, types.UnionType):
            present = [argument for argument in arguments if argument is not type(None)]
            if len(present) != 1 or len(present) == len(arguments):
                raise ContractError(f"{annotation}: a union is of one type and None")
            return ["null", self._type(present[0], info)]
        if origin in (list, tuple) and arguments:
            return {"type": "array", "items": self._type(arguments[0])}
        if origin is dict and arguments[0] is str:
            return {"type": "map", "values": self._type(arguments[1])}
        return self._class(annotation, info)

    def _class(self, annotation: Any, info: FieldInfo | None) -> Any:
        if annotation in _PLAIN:
            return _PLAIN[annotation]
        if annotation is Decimal:
            return _decimal(info)
        if not isinstance(annotation, type) or not issubclass(annotation, Enum | BaseModel):
            known = "str, int, float, bool, bytes, datetime, date, Decimal, list, dict[str, ...], StrEnum or a model"
            raise ContractError(f"{annotation} has no Avro form here; use {known}")
        if annotation.__name__ in self._named:
            return annotation.__name__
        if issubclass(annotation, BaseModel):
            return self.record(annotation)
        self._named.add(annotation.__name__)
        symbols = [str(symbol.value) for symbol in annotation]
        return {"type": "enum", "name": annotation.__name__, "symbols": symbols, "default": symbols[0]}


def _words(model: type[BaseModel], name: str) -> list[str]:
    """Return what its type and the declared checks of a message say of a field.

    The words of a type complete a description: in the place of one, they would hide that its author wrote none.
    """
    checks = model.checks if issubclass(model, Message) else ()
    info = model.model_fields[name]
    of_type = type_words(info) if info.description else []
    return [*of_type, *(each.words for each in checks if each.field == name)]


def _field_lines(field: dict[str, Any], margin: str = "    ") -> str:
    line = margin + json.dumps(field, ensure_ascii=False)
    if len(line) <= _LINE_CHARACTERS:
        return line
    rest = {key: value for key, value in field.items() if key != "doc"}
    doc = json.dumps(field["doc"], ensure_ascii=False)
    return f'{margin}{_lines_without_doc(rest, margin)[:-1]},\n{margin} "doc": {doc}}}'


def _lines_without_doc(field: dict[str, Any], margin: str) -> str:
    """Return a field; the fields of records within it are on lines of their own."""
    text = json.dumps(field, ensure_ascii=False)
    record = _record_within(field["type"])
    if record is None:
        return text
    one_line = json.dumps(record["fields"], ensure_ascii=False)
    inner = ",\n".join(_field_lines(inner_field, margin + "  ") for inner_field in record["fields"])
    return text.replace(one_line, f"[\n{inner}\n{margin}]", 1)


def _record_within(kind: Any) -> dict[str, Any] | None:
    match kind:
        case {"type": "record"}:
            return dict(kind)
        case {"type": "array", "items": inner} | {"type": "map", "values": inner} | ["null", inner]:
            return _record_within(inner)
        case _:
            return None


def _decimal(info: FieldInfo | None) -> dict[str, Any]:
    limits: dict[str, int] = {}
    for rule in info.metadata if info else ():
        limits |= {name: getattr(rule, name) for name in _DECIMAL if getattr(rule, name, None) is not None}
    if len(limits) < len(_DECIMAL):
        raise ContractError("a Decimal needs max_digits and decimal_places")
    precision, scale = (limits[name] for name in _DECIMAL)
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def _differences(drafted: Record, record: Record) -> Iterator[str]:
    wanted, written = [field.name for field in drafted.fields], [field.name for field in record.fields]
    if wanted != written:
        yield f"{record.name}: the class has the fields {', '.join(wanted)}; the schema has {', '.join(written)}"
        return
    for ours, theirs in zip(drafted.fields, record.fields, strict=True):
        if _python_form(ours.type) != _python_form(theirs.type):
            yield f"{record.name}.{ours.name}: the class says {ours.type}, the schema {theirs.type}"


def _python_form(schema: AvroType) -> Any:
    """Return a type without what Python cannot express: widths, defaults, docs, namespaces."""
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
