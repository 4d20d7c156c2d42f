"""Rows in the binary form of COPY, made by a function that is generated for the columns of a table of Tidemill's own.

The driver encodes value by value, by the types that it asked of the server, and takes about twice as long. Most values
of log and outbox are the same in a whole batch: they are encoded once. The types must be exactly those of the database,
since the server takes the bytes for its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple

Encode = Callable[[Sequence[tuple[Any, ...]]], bytes]
"""Makes what COPY reads of rows, the whole of it."""

_START: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NO_ID: Final = "0" * 32

_length: Final = struct.Struct("!i").pack
_INTEGERS: Final = {"int2": (2, "h"), "int4": (4, "i"), "int8": (8, "q")}


@dataclass(frozen=True, slots=True)
class CopyColumn:
    """A column. `type`: PostgreSQL's name of it. `varies`: nearly every row of a batch has another value.

    An integer that varies is never null. A float that does not is a duration: -0.0 may become 0.0.
    """

    name: str
    type: str
    varies: bool = False


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


def _bytes(value: bytes) -> bytes:
    return _length(len(value)) + value


def _uuid(value: str) -> bytes:
    return _length(16) + bytes.fromhex(value.replace("-", ""))


def _integer(size: int, code: str) -> Callable[[int], bytes]:
    packed = struct.Struct(f"!i{code}").pack
    return lambda value: packed(size, value)


_VALUES: Final[dict[str, Callable[[Any], bytes]]] = {
    **{name: _integer(*form) for name, form in _INTEGERS.items()},
    "text": _text,
    "char": _bytes,
    "bytea": _bytes,
    "uuid": _uuid,
    "float4": lambda value: struct.pack("!if", 4, value),
    "timestamptz": lambda value: struct.pack("!iq", 8, (value - _EPOCH) // _MICROSECOND),
}


class _Repeated(dict[tuple[Any, ...], bytes]):
    """Values of some columns -> their bytes, which are made when they come first."""

    def __init__(self, types: Sequence[str]) -> None:
        super().__init__()
        self._encoders = [_VALUES[kind] for kind in types]

    def __missing__(self, values: tuple[Any, ...]) -> bytes:
        pairs = zip(self._encoders, values, strict=True)
        made = self[values] = b"".join([_NULL if value is None else encode(value) for encode, value in pairs])
        return made


_SOURCE: Final = """\
def encode(rows):
    {before}
    made = [start]
    for at, ({columns}) in zip(range(0, 16 * len(rows), 16), rows):
        made += (count, {parts})
    made.append(end)
    return b"".join(made)
"""


class _Part(NamedTuple):
    """Code for some columns. `before`: what is done once for all rows. `expression`: of the bytes of a row."""

    before: str
    expression: str
    names: Mapping[str, Any] = {}


def encoder_of(columns: Sequence[CopyColumn]) -> Encode:
    """Return what encodes rows with these columns, in their order."""
    groups = groupby(enumerate(columns), key=_kind)
    parts = [_part(number, kind, list(run)) for number, (kind, run) in enumerate(groups)]
    names: dict[str, Any] = {"start": _START, "end": _END, "null": _NULL, "length": _length, "text": _text}
    names |= {"count": struct.pack("!h", len(columns)), "of_id": _length(16), "from_hex": bytes.fromhex}
    for part in parts:
        names |= part.names
    source = _SOURCE.format(
        before="\n    ".join(part.before for part in parts),
        columns=", ".join(f"value_{place}" for place in range(len(columns))),
        parts=", ".join(part.expression for part in parts),
    )
    exec(compile(source, "<binary copy>", "exec"), names)  # noqa: S102  of the templates above, and nothing else
    encode: Encode = names["encode"]
    return encode


def _kind(item: tuple[int, CopyColumn]) -> str:
    """Return how a column is encoded; neighbours of the same kind are encoded together."""
    place, column = item
    if not column.varies:
        return "repeated"
    return "integers" if column.type in _INTEGERS else f"{column.type} {place}"


def _part(number: int, kind: str, run: Sequence[tuple[int, CopyColumn]]) -> _Part:
    values, (place, first) = [f"value_{place}" for place, _ in run], run[0]
    value, types = values[0], [column.type for _, column in run]
    if kind == "repeated":
        names = {"repeated": _Repeated, f"types_{number}": types}
        return _Part(
            f"group_{number} = repeated(types_{number})", f"group_{number}[{', '.join(values)},]", names
        )
    if kind == "integers":
        forms = [_INTEGERS[name] for name in types]
        pack = struct.Struct("!" + "".join(f"i{code}" for _, code in forms)).pack
        given = ", ".join(f"{size}, {value}" for (size, _), value in zip(forms, values, strict=True))
        return _Part("pass", f"pack_{number}({given})", {f"pack_{number}": pack})
    if first.type == "uuid":  # all at once: what each takes alone is mostly the calls
        ids = f"''.join([row[{place}] or {_NO_ID!r} for row in rows])"
        before = f"ids_{number} = from_hex({ids}.replace('-', ''))"
        return _Part(before, f"null if {value} is None else of_id + ids_{number}[at : at + 16]")
    made = f"text({value})" if first.type == "text" else f"length(len({value})) + {value}"
    return _Part("pass", f"null if {value} is None else {made}")
