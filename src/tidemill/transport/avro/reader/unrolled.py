"""A message's reader as one function that is generated for its schema, as `dataclasses` generates methods.

A loop over the fields costs a call, a pair and a dictionary entry for each: about a third of the time of decoding.
So texts, doubles and optional fields are read in place, and every other type by its function.
Only the order and the types of a schema's fields become code: names are quoted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import indent
from typing import Any, Final

from tidemill.catalog.avro import NULL, AvroType, Field, Primitive, Union
from tidemill.transport.avro.reader.scalars import Malformed, Read, double_at, read_length

ReadMessage = Callable[[bytes, int], tuple[dict[str, Any], int]]
"""`read(data, at)` -> field -> value of the body from `at` to the end of `data`, and where the own fields begin."""

_MESSAGE: Final = """\
def read(data, at):
{base}
    own = at
{own}
    if at != len(data):
        raise wrong_end(data, at)
    return {{{entries}}}, own
"""
# `scalars.read_string`, without its call: most fields of most messages are texts.
_TEXT: Final = """\
size = data[at]
if size & 0x81:  # longer than 63 bytes, or negative
    size, at = read_length(data, at)
else:
    size >>= 1
    at += 1
{value} = data[at : at + size].decode()
at += size
"""
_DOUBLE: Final = """\
{value} = double_at(data, at)[0]
at += 8
"""
_OPTIONAL: Final = """\
branch = data[at]
at += 1
if branch == {null}:
    {value} = None
elif branch == {present}:
{read}
else:
    raise wrong_branch()
"""
_CALL: Final = "{value}, at = {read}(data, at)\n"


def wrong_branch() -> Malformed:
    """Return the error for an invalid union index."""
    return Malformed("a union index that is neither of its two branches")


def unrolled(fields: Sequence[Field], *, base: int, reader_of: Callable[[AvroType], Read]) -> ReadMessage:
    """Return the reader of a body of `fields`.

    `base`: how many fields come before the own ones, which make two payloads equal. `reader_of`: reads one type.
    """
    names: dict[str, Any] = {
        "double_at": double_at,
        "read_length": read_length,
        "wrong_branch": wrong_branch,
        "wrong_end": _wrong_end,
    }

    def lines(value: str, schema: AvroType) -> str:
        match schema:
            case Primitive("string"):
                return _TEXT.format(value=value)
            case Primitive("double"):
                return _DOUBLE.format(value=value)
            case Union((one, other)) if NULL in (one, other):
                null, present = (0, 2) if one == NULL else (2, 0)  # an index is written as its double
                read = indent(lines(value, other if one == NULL else one), "    ")
                return _OPTIONAL.format(value=value, null=null, present=present, read=read)
            case _:
                names[f"read_{value}"] = reader_of(schema)
                return _CALL.format(value=value, read=f"read_{value}")

    parts = [indent(lines(f"field_{place}", field.type), "    ") for place, field in enumerate(fields)]
    entries = ", ".join(f"{field.name!r}: field_{place}" for place, field in enumerate(fields))
    source = _MESSAGE.format(base="".join(parts[:base]), own="".join(parts[base:]), entries=entries)
    exec(compile(source, "<unrolled reader>", "exec"), names)  # noqa: S102  of the templates above, and nothing else
    read: ReadMessage = names["read"]
    return read


def _wrong_end(data: bytes, at: int) -> Malformed:
    if at > len(data):
        return Malformed("the body ends before its last field")
    return Malformed(f"{len(data) - at} bytes too many")
