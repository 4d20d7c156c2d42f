"""How an event's body is cut from its command's, as one function that is generated, as `unrolled` generates readers.

Fields before the first one that differs are not read: their ends are found in place, and of what every message begins
with the reader has noted the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from textwrap import indent
from typing import Any, Final

from tidemill.catalog.avro import NULL, AvroType, Field, Primitive, Union
from tidemill.transport.avro.reader.ends import end_of
from tidemill.transport.wire.varint import VARINT

Cut = Callable[[bytes, int, Mapping[str, Any]], bytes]
"""`cut(body, at, event)` -> the event's body, of a command's body of which the fields from `at` on are looked at."""

KEPT: Final = "="
LEFT_OUT: Final = "-"

_TEXT: Final = """\
size = body[at]
at = at + 1 + (size >> 1) if size < 0x80 else {end}(body, at)
"""
_OPTIONAL: Final = "at = at + 1 if body[at] == {null} else {end}(body, at)\n"
_OTHER: Final = "at = {end}(body, at)\n"


def cut_of(marks: Sequence[str], fields: Sequence[Field], before: Mapping[str, bytes]) -> Cut:
    """Return the function that cuts a body.

    `marks`: what happens to each of `fields`, the first ones that are looked at: `KEPT`, `LEFT_OUT`, or the name of the
    text of the event that takes its place. `before`: what comes before such a text.
    """
    names: dict[str, Any] = {"varint": VARINT}
    lines, parts = ["place_0 = 0\n"], []
    runs = groupby(enumerate(zip(marks, fields, strict=False)), key=lambda item: item[1][0])
    for number, (mark, run) in enumerate(runs):
        for place, (_, field) in run:
            names[f"end_{place}"] = end_of(field.type)
            lines.append(_skip(field.type, f"end_{place}"))
        lines.append(f"place_{number + 1} = at\n")
        if mark == KEPT:
            parts.append(f"body[place_{number}:place_{number + 1}]")
        elif mark != LEFT_OUT:
            lines.append(f"text_{number} = event[{mark!r}].encode()\n")
            parts.append(f"{before[mark]!r}, varint[len(text_{number})], text_{number}")
    last = sum(1 for _ in groupby(marks))
    parts.append(f"body[place_{last}:]")
    returned = f"return b''.join(({', '.join(parts)},))\n"
    source = "def cut(body, at, event):\n" + indent("".join([*lines, returned]), "    ")
    exec(compile(source, "<body cut>", "exec"), names)  # noqa: S102  of the templates above, and nothing else
    cut: Cut = itemgetter("cut")(names)
    return cut


def _skip(schema: AvroType, end: str) -> str:
    """Return the lines that move `at` behind a value."""
    match schema:
        case Primitive("string"):
            return _TEXT.format(end=end)
        case Union((one, other)) if NULL in (one, other):
            return _OPTIONAL.format(null=0 if one == NULL else 2, end=end)
        case _:
            return _OTHER.format(end=end)
