"""Avro schemas as values: read from JSON into a small tree, and compared.

Pure. The tree knows what Tidemill needs to decide whether bytes are safe to read, whether two schemas read each other,
and which of them are equal; encoding is done elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from tidemill.domain.errors import ContractError

Kind = Literal["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
_KINDS: Final = frozenset(get_args(Kind))
MAX_DEPTH: Final = 64
"""Types inside types. This module walks schemas by recursion; a registry may hold anything."""

MAX_CHARACTERS: Final = 1 << 20
"""The text of a schema. Below, and with no more than `MAX_VALUES`, it is parsed within milliseconds."""

MAX_VALUES: Final = 50_000
"""Commas and opening brackets in a schema's text: at least as many as it has JSON values, those of defaults, symbols
and aliases among them."""

MAX_TYPES: Final = 2_000
"""Types in a schema: thirty named records that each use the next one twice would be a billion."""

MAX_NAME_CHARACTERS: Final = 512
"""A full name, or a field's. Places are named by all enclosing names."""

MAX_PRECISION: Final = 1_000
"""Digits of a decimal: what PostgreSQL's `numeric` may declare. To work with 10^8 of them takes minutes."""

MAX_FIXED_BYTES: Final = 1 << 20

_MAX_SHOWN: Final = 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Logical:
    """A logical type; precision and scale are a decimal's."""

    name: str
    precision: int = 0
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Primitive:
    """A type without parts."""

    kind: Kind
    logical: Logical | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """A number of bytes."""

    name: str
    size: int
    logical: Logical | None = None


@dataclass(frozen=True, slots=True)
class Enumeration:
    """One of several symbols; `default`: a reader's value for an unknown symbol."""

    name: str
    symbols: tuple[str, ...]
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """Any number of items."""

    items: AvroType


@dataclass(frozen=True, slots=True)
class Map:
    """Any number of values, each under a string."""

    values: AvroType


@dataclass(frozen=True, slots=True)
class Union:
    """One of several types."""

    branches: tuple[AvroType, ...]


@dataclass(frozen=True, slots=True)
class Recursion:
    """A type inside itself. It is never read; it is kept so that the fault can be named."""

    name: str


@dataclass(frozen=True, slots=True)
class Default:
    """A default as in the JSON. A separate class, because null is a default too."""

    value: Any


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record."""

    name: str
    type: AvroType
    default: Default | None = None
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """Fields in order. `name` is the full name."""

    name: str
    fields: tuple[Field, ...]
    doc: str = ""


AvroType = Primitive | Fixed | Enumeration | Array | Map | Union | Record | Recursion

NULL: Final = Primitive("null")


class Dangerous(ContractError):
    """A schema that costs its readers more than its size suggests. `code`: as `schemas check` prints it."""

    def __init__(self, code: str, text: str) -> None:
        """`text` says where and what; it shows none of the schema's numbers, which may have thousands of digits."""
        super().__init__(text)
        self.code = code

    def within(self, place: str) -> Dangerous:
        """Return it as found inside `place`."""
        return Dangerous(self.code, f"{place}: {self}")


def parse(document: Any) -> AvroType:
    """Return the tree of a schema given as JSON.

    Raises:
        ContractError: it is not an Avro schema; the message says where.
        Dangerous: one of its numbers is too large.
    """
    return _Parser().parse(document, "")


def parse_record(text: str) -> Record:
    """Return the tree of a record schema given as JSON text.

    Raises:
        ContractError: it is not JSON, not an Avro schema or not a record.
        Dangerous: it is too large to be parsed, or one of its numbers is.
    """
    if len(text) > MAX_CHARACTERS:
        raise Dangerous("TOO_LARGE", f"dangerous to parse: a schema of more than {MAX_CHARACTERS} characters")
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise Dangerous("TOO_LARGE", f"dangerous to parse: a schema of more than {MAX_VALUES} values")
    try:
        schema = parse(json.loads(text))
    except (ValueError, RecursionError) as fault:
        raise ContractError(f"not an Avro schema: {fault}") from fault
    if not isinstance(schema, Record):
        raise ContractError("not an Avro schema of a message: the outermost type must be a record")
    return schema


class _Parser:
    """Walks a JSON schema once, knowing the names defined so far."""

    def __init__(self) -> None:
        self._named: dict[str, AvroType] = {}
        self._depth = 0
        self._types = 0

    def parse(self, node: Any, namespace: str) -> AvroType:
        self._depth += 1
        self._types += 1
        if self._depth > MAX_DEPTH:
            raise Dangerous("TOO_DEEP", f"dangerous to read: types inside types, more than {MAX_DEPTH} deep")
        if self._types > MAX_TYPES:
            raise Dangerous("TOO_WIDE", f"dangerous to read: more than {MAX_TYPES} types")
        parsed = self._parse(node, namespace)
        self._depth -= 1
        return parsed

    def _parse(self, node: Any, namespace: str) -> AvroType:
        if isinstance(node, str):
            return self._by_name(node, namespace)
        if isinstance(node, list):
            return self._union(node, namespace)
        if not isinstance(node, Mapping):
            raise ContractError(f"{_shown(node)} is not an Avro type")
        kind = node.get("type")
        if kind == "array":
            return Array(self.parse(node.get("items"), namespace))
        if kind == "map":
            return Map(self.parse(node.get("values"), namespace))
        if kind in ("record", "enum", "fixed"):
            return self._definition(kind, node, namespace)
        if isinstance(kind, str) and kind in _KINDS:
            return Primitive(kind, _logical(node))  # type: ignore[arg-type]  # one of _KINDS
        if isinstance(kind, list):
            raise ContractError("a union is a list of its own, not the type of an object")
        return self.parse(kind, namespace)

    def _by_name(self, name: str, namespace: str) -> AvroType:
        if name in _KINDS:
            return Primitive(name)  # type: ignore[arg-type]  # one of _KINDS
        full = name if "." in name or not namespace else f"{namespace}.{name}"
        if full not in self._named:
            raise ContractError(f"type {_shown(full)} is not defined before it is used")
        return self._named[full]

    def _union(self, nodes: list[Any], namespace: str) -> Union:
        branches = tuple(self.parse(node, namespace) for node in nodes)
        if not branches or any(isinstance(branch, Union) for branch in branches):
            raise ContractError("a union has at least one branch, and none that is a union")
        kinds = [_branch_name(branch) for branch in branches]
        if len(set(kinds)) < len(kinds):
            raise ContractError(f"a union has two branches of one kind: {_shown(', '.join(kinds))}")
        return Union(branches)

    def _definition(self, kind: str, node: Mapping[str, Any], namespace: str) -> AvroType:
        name = _full_name(node, namespace)
        if name in self._named:
            raise ContractError(f"type {name} is defined twice")
        self._named[name] = Recursion(name)
        inner = name.rpartition(".")[0]
        defined: AvroType
        if kind == "record":
            defined = Record(name, self._fields(name, node, inner), _text(node, "doc"))
        elif kind == "enum":
            defined = _enumeration(name, node)
        else:
            size = node.get("size")
            if type(size) is not int or size < 0:
                raise ContractError(f"fixed {name} needs a size")
            if size > MAX_FIXED_BYTES:
                text = f"dangerous to read: fixed {name} has more than {MAX_FIXED_BYTES} bytes"
                raise Dangerous("TOO_LARGE", text)
            defined = Fixed(name, size, _logical(node))
        self._named[name] = defined
        return defined

    def _fields(self, record: str, node: Mapping[str, Any], namespace: str) -> tuple[Field, ...]:
        entries = node.get("fields")
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise ContractError(f"record {record} needs a list of fields")
        fields = tuple(self._field(record, entry, namespace) for entry in entries)
        if len({field.name for field in fields}) < len(fields):
            raise ContractError(f"record {record} has two fields of one name")
        return fields

    def _field(self, record: str, entry: Mapping[str, Any], namespace: str) -> Field:
        name = _name(entry)
        try:
            kind = self.parse(entry.get("type"), namespace)
        except Dangerous as danger:
            raise danger.within(f"field {record}.{name}") from danger
        except ContractError as fault:
            raise ContractError(f"field {record}.{name}: {fault}") from fault
        default = Default(entry["default"]) if "default" in entry else None
        return Field(name, kind, default, _text(entry, "doc"))


def _name(node: Mapping[str, Any]) -> str:
    name = node.get("name")
    if not isinstance(name, str) or not all(_NAME.fullmatch(part) for part in name.split(".")):
        raise ContractError(f"{_shown(name)} is not an Avro name: use letters, digits and underscores")
    return _short_enough(name)


def _full_name(node: Mapping[str, Any], namespace: str) -> str:
    name = _name(node)
    if "." in name:
        return name
    own = _text(node, "namespace") if "namespace" in node else namespace
    return _short_enough(f"{own}.{name}") if own else name


def _short_enough(name: str) -> str:
    if len(name) > MAX_NAME_CHARACTERS:
        text = f"dangerous to parse: a name of more than {MAX_NAME_CHARACTERS} characters"
        raise Dangerous("TOO_LARGE", f"{text}, {_shown(name)}")
    return name


def _shown(value: Any) -> str:
    """Return as much of a value as fits a message."""
    shown = value if isinstance(value, str) else repr(value)
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."


def _text(node: Mapping[str, Any], key: str) -> str:
    value = node.get(key, "")
    return value if isinstance(value, str) else ""


def _enumeration(name: str, node: Mapping[str, Any]) -> Enumeration:
    symbols = node.get("symbols")
    valid = isinstance(symbols, list) and all(isinstance(s, str) and _NAME.fullmatch(s) for s in symbols)
    if not valid or not symbols or len(set(symbols)) < len(symbols):
        raise ContractError(f"enum {name} needs a list of different symbols")
    default = node.get("default")
    if default is not None and default not in symbols:
        raise ContractError(f"enum {name}: its default {_shown(default)} is not one of its symbols")
    return Enumeration(name, tuple(symbols), default)


def _logical(node: Mapping[str, Any]) -> Logical | None:
    name = node.get("logicalType")
    if not isinstance(name, str):
        return None
    precision, scale = node.get("precision", 0), node.get("scale", 0)
    if name == "decimal" and not (type(precision) is type(scale) is int and 0 <= scale <= precision > 0):
        raise ContractError("a decimal needs a precision above 0 and a scale of at most the precision")
    if name == "decimal" and precision > MAX_PRECISION:
        raise Dangerous("TOO_PRECISE", f"dangerous to read: a decimal of more than {MAX_PRECISION} digits")
    return Logical(name, precision, scale) if name == "decimal" else Logical(name)


def _branch_name(schema: AvroType) -> str:
    match schema:
        case Primitive(kind):
            return kind
        case Array():
            return "array"
        case Map():
            return "map"
        case Union():
            return "union"
        case _:
            return schema.name
