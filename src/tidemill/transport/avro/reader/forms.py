"""One schema read as another: `Form` where writer and reader agree, `Resolution` where they are of different versions.

Both give the same result for the same payload, whatever its schema: values by the reader's schema and its canonical
bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, Protocol

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError
from fastavro.schema import SchemaParseException, UnknownType

from tidemill.catalog.avro import Array, AvroType, Field, Map, Primitive, Record, Union
from tidemill.catalog.schemas import Schema
from tidemill.commands.ports import Decoded
from tidemill.domain.errors import ContractError
from tidemill.transport.avro.encode import encode_default
from tidemill.transport.avro.reader.newer import NotWhole, loss_of
from tidemill.transport.avro.reader.scalars import Malformed
from tidemill.transport.avro.reader.strict import CutArray, message_reader, reader_of

_NO_SCHEMA: Final = (SchemaParseException, UnknownType, ValueError, TypeError, LookupError, AttributeError)
"""What fastavro raises on invalid schemas: its own errors, and others."""

_MAX_FAULT_CHARACTERS: Final = 500


class Reader(Protocol):
    """Reads values that one schema wrote; `name` is the full name of the reader's."""

    name: str

    def read(self, value: bytes, at: int) -> Decoded:
        """Read the body that begins at `at`. Raises `strict.FAULTS`; `NotWhole` if only a newer version reads it."""
        ...

    def read_fields(self, value: bytes, at: int) -> dict[str, Any]:
        """Read the body that begins at `at`, without the bytes that only commands need. Raises as `read`."""
        ...


class Form:
    """A schema as bytes: reads and writes bodies."""

    def __init__(self, schema: Schema, *, base: int) -> None:
        """`base`: how many fields come before those that make two payloads equal."""
        self.schema = schema
        self.name = schema.name
        self.base = base
        self._read = message_reader(schema.record, base=base)
        varying = [field for field in schema.record.fields if not has_one_encoding(field.type)]
        arrays = [field for field in varying if _varies_by_blocks(field.type)]
        self._arrays = [field.name for field in arrays]
        varying = [field for field in varying if field not in arrays]
        self._varying = [field.name for field in varying]
        self._zeros_vary = any(_has_decimal(field.type) for field in varying)
        self._trailing = trailing_defaults(schema, base)

    @cached_property
    def parsed(self) -> Any:
        """The schema in fastavro's form."""
        return _parsed(self.schema)

    def read(self, value: bytes, at: int) -> Decoded:
        fields, own = self._read(value, at)
        body = value[at:]
        if self._varies(fields):
            canonical = self.write({name: _plain(value) for name, value in fields.items()})
            if canonical != body:
                return self.read(canonical, 0)
        end = len(value)
        for name, default, size in self._trailing:
            if fields[name] != default:
                break
            end -= size
        return Decoded(self.name, fields, value[own:end], body, own - at)

    def read_fields(self, value: bytes, at: int) -> dict[str, Any]:
        return self._read(value, at)[0]

    def _varies(self, fields: Mapping[str, Any]) -> bool:
        """Tell whether the same values may have come as other bytes: null and what is empty can not."""
        if self._zeros_vary or any(map(fields.__getitem__, self._varying)):
            return True
        return any(fields[name].__class__ is CutArray for name in self._arrays)

    def write(self, fields: Mapping[str, Any]) -> bytes:
        """Return the body; values are what `read` gives. Raises `ValueError` or `TypeError` on others."""
        buffer = io.BytesIO()
        schemaless_writer(buffer, self.parsed, fields)
        return buffer.getvalue()


class Resolution:
    """Values of another version, read by the current one. The two must have no `compatibility.obstacles`."""

    def __init__(self, writer: Schema, form: Form, *, whole: bool = False) -> None:
        """`form` is the reader's. `whole`: an unknown value raises `NotWhole`, instead of being dropped."""
        self.name = form.name
        self._read = message_reader(writer.record, base=0)
        self._written = _parsed(writer)
        self._wanted = _with_typed_defaults(form.schema.record, _parsed(form.schema))
        self._form = form
        self._loss = loss_of(writer=writer.record, reader=form.schema.record) if whole else None

    def read(self, value: bytes, at: int) -> Decoded:
        return self._form.read(self._rewritten(value, at), 0)

    def read_fields(self, value: bytes, at: int) -> dict[str, Any]:
        return self._form.read_fields(self._rewritten(value, at), 0)

    def _rewritten(self, value: bytes, at: int) -> bytes:
        """Return the body as the reader's schema writes it.

        Should fastavro ever refuse a pair of schemas in which we see no obstacle, only the record is unreadable.
        """
        try:
            return self._form.write(self._resolve(value, at))
        except (SchemaResolutionError, TypeError) as refused:
            raise Malformed(f"the schema that wrote it cannot be read as {self.name}: {refused}") from refused

    def _resolve(self, value: bytes, at: int) -> Mapping[str, Any]:
        written, _ = self._read(value, at)  # fastavro resolves, but checks little
        if self._loss is not None and (lost := self._loss(value, at)) is not None:
            raise NotWhole(lost, written)
        resolved: Any = schemaless_reader(io.BytesIO(value[at:]), self._written, self._wanted)
        return resolved  # type: ignore[no-any-return]  # a record, since the schema is one


def _plain(value: Any) -> Any:
    """Return an array as fastavro takes it."""
    return [*value] if value.__class__ is CutArray else value


def _parsed(schema: Schema) -> Any:
    try:
        return parse_schema(json.loads(schema.text))
    except _NO_SCHEMA as fault:
        raise ContractError(f"{schema.name}: {str(fault)[:_MAX_FAULT_CHARACTERS]}") from fault


def _with_typed_defaults(schema: AvroType, parsed: Any) -> Any:
    """Return a schema in fastavro's form, with defaults as Python values.

    fastavro uses defaults as in the JSON, where bytes are text, which it then refuses to write.
    """
    match schema:
        case Record(_, fields) if isinstance(parsed, dict):
            for field, its in zip(fields, parsed["fields"], strict=True):
                _with_typed_defaults(field.type, its["type"])
                if field.default is not None:
                    its["default"] = _default_of(field)
        case Array(inner) | Map(inner) if isinstance(parsed, dict):
            _with_typed_defaults(inner, parsed.get("items", parsed.get("values")))
        case Union(branches):
            for branch, its in zip(branches, parsed, strict=True):
                _with_typed_defaults(branch, its)
        case _:
            pass
    return parsed


def _default_of(field: Field) -> Any:
    assert field.default is not None
    return reader_of(field.type)(encode_default(field.type, field.default.value), 0)[0]


def _has_decimal(schema: AvroType) -> bool:
    """Tell whether a value may be a decimal: one that is zero can be padded, too, where what is empty has one form."""
    match schema:
        case Union(branches):
            return any(_has_decimal(branch) for branch in branches)
        case Primitive("bytes", logical):
            return logical is not None
        case _:
            return False


def has_one_encoding(schema: AvroType) -> bool:
    """Tell whether equal values have equal bytes: blocks can be cut anywhere, decimals padded, map entries ordered."""
    match schema:
        case Array() | Map():
            return False
        case Primitive("bytes", logical):
            return logical is None
        case Union(branches):
            return all(has_one_encoding(branch) for branch in branches)
        case Record(_, fields):
            return all(has_one_encoding(field.type) for field in fields)
        case _:
            return True


def _varies_by_blocks(schema: AvroType) -> bool:
    """Tell whether equal values differ at most in the blocks of one array, which the reader notes."""
    return isinstance(schema, Array) and has_one_encoding(schema.items)


def trailing_defaults(schema: Schema, base: int) -> Sequence[tuple[str, Any, int]]:
    """Return (field, default, its size in bytes) of the fields at the end that have one, the last field first.

    They are left out of what makes two payloads equal while they hold their defaults: so a command that is sent again
    is recognised after its schema grew.
    """
    found: list[tuple[str, Any, int]] = []
    for field in reversed(schema.record.fields[base:]):
        if field.default is None:
            break
        encoded = encode_default(field.type, field.default.value)
        found.append((field.name, reader_of(field.type)(encoded, 0)[0], len(encoded)))
    return found
