"""Arrow batches from literals, as PostgreSQL writes them: without a database."""

from collections.abc import Sequence
from datetime import time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.domain.archive.slices import LakeColumn, LakeType
from tidemill.lakehouse.arrow import arrow_type, schema_of

# jsonb and numbers without digits of their own are held as the text that PostgreSQL writes for a literal
_OTHER_TEXTS: Final = {'{"b":[1,2]}': '{"b": [1, 2]}', "1e3": "1000"}


def batch_of(columns: Sequence[LakeColumn], rows: Sequence[Sequence[str | None]]) -> pa.RecordBatch:
    """Rows of literals, as a copy holds them."""
    arrays = [array_of([row[index] for row in rows], column) for index, column in enumerate(columns)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema_of(columns))


def array_of(literals: Sequence[str | None], column: LakeColumn) -> pa.Array:
    wanted = arrow_type(column)
    if column.type in (LakeType.TIMESTAMP, LakeType.INSTANT):
        plain = [None if each is None else each.removesuffix("+00") for each in literals]
        return pc.cast(pc.cast(pa.array(plain, pa.string()), pa.timestamp("us")), wanted)
    if column.type in (LakeType.FLOAT32, LakeType.FLOAT64, LakeType.DATE):
        return pc.cast(pa.array(literals, pa.string()), wanted)
    return pa.array([None if each is None else _value(each, column.type) for each in literals], wanted)


def _value(literal: str, kind: LakeType) -> Any:
    match kind:
        case LakeType.BOOLEAN:
            return literal == "true"
        case LakeType.INT16 | LakeType.INT32 | LakeType.INT64:
            return int(literal)
        case LakeType.DECIMAL:
            return Decimal(literal)
        case LakeType.BYTES:
            return bytes.fromhex(literal.removeprefix("\\x"))
        case LakeType.TIME:
            return time.fromisoformat(literal)
        case LakeType.UUID:
            return UUID(literal).bytes
        case _:
            return _OTHER_TEXTS.get(literal, literal)
