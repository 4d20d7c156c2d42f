"""A copy's columns in Arrow, and conversions from other writers' types: without loss, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.domain.archive.slices import LakeColumn, LakeType

PG_TYPE: Final = b"tidemill.pg_type"
BY_TEXT: Final = b"tidemill.by_text"

_TYPES: Final = {
    LakeType.BOOLEAN: pa.bool_(),
    LakeType.INT16: pa.int16(),
    LakeType.INT32: pa.int32(),
    LakeType.INT64: pa.int64(),
    LakeType.FLOAT32: pa.float32(),
    LakeType.FLOAT64: pa.float64(),
    LakeType.TEXT: pa.string(),
    LakeType.BYTES: pa.binary(),
    LakeType.UUID: pa.uuid(),
    LakeType.DATE: pa.date32(),
    LakeType.TIME: pa.time64("us"),
    LakeType.TIMESTAMP: pa.timestamp("us"),
    LakeType.INSTANT: pa.timestamp("us", "UTC"),
}

_Kinds: TypeAlias = tuple[Callable[[pa.DataType], bool], ...]

_STRINGS: Final[_Kinds] = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BINARIES: Final[_Kinds] = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)
_FAMILIES: Final[tuple[_Kinds, ...]] = (
    (pa.types.is_boolean,),
    (pa.types.is_integer,),
    (pa.types.is_floating,),
    (pa.types.is_decimal,),
    _STRINGS,
    _BINARIES,
    (pa.types.is_date,),
    (pa.types.is_time,),
    (pa.types.is_timestamp,),
)
"""Types between which values pass without a change of meaning; the cast checks that nothing is lost."""


def arrow_type(column: LakeColumn) -> pa.DataType:
    """Return the Arrow type that holds a column."""
    if column.type is LakeType.DECIMAL:
        return pa.decimal128(column.precision, column.scale)
    return _TYPES[column.type]


def schema_of(columns: Sequence[LakeColumn]) -> pa.Schema:
    """Return the Arrow schema of a copy; each field's metadata say its PostgreSQL type."""
    return pa.schema(
        pa.field(
            column.name,
            arrow_type(column),
            nullable=True,  # a reader must not rely on PostgreSQL's NOT NULL
            metadata={PG_TYPE: column.pg_type.encode(), BY_TEXT: b"true" if column.by_text else b"false"},
        )
        for column in columns
    )


def conform(batch: pa.RecordBatch, columns: Sequence[LakeColumn]) -> pa.RecordBatch:
    """Return the batch with exactly the copy's columns in order, found by name; other columns are left out.

    Raises:
        ValueError: a column is missing, or has a type or a value that cannot be held without loss.
    """
    arrays = [_conformed(_named(batch, column.name), column) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns))


def check_schema(schema: pa.Schema, columns: Sequence[LakeColumn]) -> None:
    """Check, before any row is read, that a file of this schema can hold the columns.

    Raises:
        ValueError: as `conform`, as far as types show it.
    """
    empty = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    conform(empty, columns)


def _named(batch: pa.RecordBatch, name: str) -> pa.Array:
    found = [index for index, field in enumerate(batch.schema) if field.name == name]
    if len(found) != 1:
        raise ValueError(f"{'no column' if not found else f'{len(found)} columns'} named {name!r}")
    return batch.column(found[0])


def _conformed(array: pa.Array, column: LakeColumn) -> pa.Array:
    wanted = arrow_type(column)
    if array.type == wanted:
        return array
    try:
        return _cast(_plain(array), wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ValueError(
            f"column {column.name!r} is {array.type}, which does not become {wanted} ({column.pg_type}) without loss:"
            f" {error}"
        ) from error


def _plain(array: pa.Array) -> pa.Array:
    """Return the values of an extension type (as of ADBC's numeric) or of a dictionary as such."""
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    if pa.types.is_dictionary(array.type):
        return _plain(array.dictionary_decode())
    return array


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), wanted)
    if wanted == pa.uuid():
        return pa.ExtensionArray.from_storage(wanted, _uuid_bytes(array))
    if pa.types.is_decimal(wanted) and _is(array.type, _STRINGS):
        return pc.cast(pc.cast(array, pa.string()), wanted)  # ADBC gives a numeric as its text
    if pa.types.is_string(wanted) and _is(array.type, _BINARIES):
        # text that its writer did not mark as text; the cast checks that it is UTF-8
        return pc.cast(array, wanted)
    if not any(_is(array.type, family) and _is(wanted, family) for family in _FAMILIES):
        raise pa.ArrowTypeError("types of another kind")
    if pa.types.is_floating(array.type) and array.type.bit_width > wanted.bit_width:
        raise pa.ArrowTypeError("it would be rounded")
    return pc.cast(array, wanted)


def _is(kind: pa.DataType, family: _Kinds) -> bool:
    return any(test(kind) for test in family)


def _uuid_bytes(array: pa.Array) -> pa.Array:
    """Return UUIDs as 16 bytes each, from bytes or from their text in any of PostgreSQL's usual forms."""
    wanted = pa.binary(16)
    if any(_is(array.type, (test,)) for test in _BINARIES):
        return pc.cast(array, wanted)
    if not any(_is(array.type, (test,)) for test in _STRINGS):
        raise pa.ArrowTypeError("types of another kind")
    digits = pc.replace_substring_regex(pc.cast(array, pa.string()), r"[-{}]", "")
    if not pc.all(pc.match_substring_regex(digits, r"^[0-9A-Fa-f]{32}$"), min_count=0).as_py():
        raise pa.ArrowInvalid("a text is not a UUID")
    return pa.array([None if text is None else bytes.fromhex(text) for text in digits.to_pylist()], wanted)
