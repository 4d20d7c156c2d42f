"""Which PostgreSQL types a copy holds exactly, which by their text, and which it refuses: one table of rules.

`chain` is how a type is made: `("d:posint", "b:int4")` is a domain over int4, `("a:_text", "b:text")` an array of text,
`("m:tstzmultirange", "r:tstzrange", "b:timestamptz")` a multirange. Types outside `pg_catalog` have a dot before
their name, so that a type of the same name is not mistaken for PostgreSQL's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from tidemill.domain.archive.slices import LakeColumn, LakeType, Refusal

EXACT: Final = {
    "bool": LakeType.BOOLEAN,
    "int2": LakeType.INT16,
    "int4": LakeType.INT32,
    "int8": LakeType.INT64,
    "float4": LakeType.FLOAT32,
    "float8": LakeType.FLOAT64,
    "text": LakeType.TEXT,
    "varchar": LakeType.TEXT,
    "bytea": LakeType.BYTES,
    "uuid": LakeType.UUID,
    "date": LakeType.DATE,
    "time": LakeType.TIME,
    "timestamp": LakeType.TIMESTAMP,
    "timestamptz": LakeType.INSTANT,
}
"""Types whose values, except those that preflight names, a copy holds unchanged. Also: numeric(p<=38, s<=p)."""

BY_TEXT: Final = frozenset(
    {
        "numeric",
        "interval",
        "timetz",
        "json",
        "jsonb",
        "jsonpath",
        "xml",
        "bpchar",
        "char",
        "name",
        "oid",
        "inet",
        "cidr",
        "macaddr",
        "macaddr8",
        "bit",
        "varbit",
        "pg_lsn",
        "tsvector",
        "tsquery",
        "point",
        "line",
        "lseg",
        "box",
        "path",
        "polygon",
        "circle",
    }
)
"""Types whose text, under pinned settings, PostgreSQL reads back to the same value. Also, by their kind: enums,
arrays, ranges and multiranges of types that are not refused."""

REFUSED: Final = {
    "money": "its text depends on the server's locale",
    "c": "it is a composite type",
    "p": "it is a pseudo type",
}
OTHERS_REFUSED: Final = "its text is not known to restore the value"

MAX_DIGITS: Final = 38


class Attribute(NamedTuple):
    """A column in the catalogue. `typmod` is that of the type below all domains, -1 for none."""

    name: str
    pg_type: str
    nullable: bool
    chain: Sequence[str]
    typmod: int


class Shape(NamedTuple):
    """The columns of a table's copy; with a refusal there must be no copy."""

    columns: tuple[LakeColumn, ...]
    refused: tuple[Refusal, ...]


def shape_of(attributes: Iterable[Attribute]) -> Shape:
    """Apply the rules to a table's columns, in its order."""
    columns, refused = [], []
    for attribute in attributes:
        found = _column_of(attribute)
        if isinstance(found, LakeColumn):
            columns.append(found)
        else:
            refused.append(found)
    return Shape(tuple(columns), tuple(refused))


def _column_of(attribute: Attribute) -> LakeColumn | Refusal:
    links = [tuple(link.split(":", 1)) for link in attribute.chain]
    reason = _reason_to_refuse(*links[-1])
    if reason is not None:
        return Refusal(attribute.name, f"type {attribute.pg_type} is refused: {reason}")
    kind, name = next(link for link in links if link[0] != "d")
    plain = (attribute.name, attribute.pg_type)
    if kind == "b" and name in EXACT:
        return LakeColumn(*plain, EXACT[name], attribute.nullable)
    if (kind, name) == ("b", "numeric"):
        precision, scale = _digits(attribute.typmod)
        if 0 <= scale <= precision <= MAX_DIGITS and precision:
            return LakeColumn(*plain, LakeType.DECIMAL, attribute.nullable, precision=precision, scale=scale)
    return LakeColumn(*plain, LakeType.TEXT, attribute.nullable, by_text=True)


def _reason_to_refuse(kind: str, name: str) -> str | None:
    """Check the last element: the innermost type of an array, range or domain."""
    if kind == "e" or (kind == "b" and (name in EXACT or name in BY_TEXT)):
        return None
    return REFUSED.get(name if kind == "b" else kind, OTHERS_REFUSED)


def _digits(typmod: int) -> tuple[int, int]:
    """Return precision and scale of a numeric's modifier; (0, 0) if it has none."""
    if typmod < 0:
        return 0, 0
    packed = typmod - 4
    scale = packed & 0x7FF
    return packed >> 16 & 0xFFFF, (scale ^ 1024) - 1024
