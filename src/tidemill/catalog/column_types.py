"""Types of columns: whether one takes all values of another. Pure.

A wider type stores every value of the other unchanged, and returns it as the same kind of value.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_WHOLE: Final = ("smallint", "integer", "bigint")
_BINARY: Final = ("real", "double precision")
_MICROSECONDS: Final = 6


class ColumnType(NamedTuple):
    """A type by PostgreSQL's name, and its lengths: (20,) of varchar(20), (18, 4) of numeric(18,4)."""

    name: str
    lengths: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return its SQL."""
        if not self.lengths:
            return self.name
        first, space, rest = self.name.partition(" ")
        arguments = f"({','.join(map(str, self.lengths))})"
        return f"{first}{arguments}{space}{rest}" if rest.endswith("time zone") else self.name + arguments


def is_same(one: ColumnType, other: ColumnType) -> bool:
    """Tell whether two ways to write a type mean the same."""
    return _plain(one) == _plain(other)


def is_wider(wide: ColumnType, narrow: ColumnType, *, to_be_read: bool = True) -> bool:
    """Tell whether `wide` takes every value of `narrow`.

    `to_be_read`: the values are read back, so a number must keep its kind; else it may become a decimal.
    """
    wide, narrow = _plain(wide), _plain(narrow)
    if wide.name == narrow.name:
        return wide != narrow and _has_room(wide, narrow)
    for ladder in (_WHOLE, _BINARY):
        if wide.name in ladder and narrow.name in ladder:
            return ladder.index(wide.name) > ladder.index(narrow.name)
    if (wide.name, narrow.name) == ("text", "character varying"):
        return True
    return not to_be_read and wide == ("numeric", ()) and narrow.name in (*_WHOLE, *_BINARY)


def _plain(written: ColumnType) -> ColumnType:
    """Return the normal form of a type's name."""
    match written:
        case ColumnType("character varying", ()):
            return ColumnType("text")
        case ColumnType("numeric", (digits,)):
            return ColumnType("numeric", (digits, 0))
        case ColumnType("character" | "bit", ()):
            return written._replace(lengths=(1,))
        case ColumnType(name, (digits,)) if digits == _MICROSECONDS and _is_time(name):
            return ColumnType(name)
        case ColumnType(name, _) if name in _BINARY:
            return ColumnType(name)
    return written


def _has_room(wide: ColumnType, narrow: ColumnType) -> bool:
    """Compare two types of one name whose lengths differ."""
    if not wide.lengths:
        return True
    if not narrow.lengths or wide.name in {"character", "bit"}:  # these pad values, or refuse shorter ones
        return False
    if wide.name == "numeric":
        (digits, scale), (fewer, shorter) = wide.lengths, narrow.lengths
        return scale >= shorter and digits - scale >= fewer - shorter
    return wide.lengths >= narrow.lengths


def _is_time(name: str) -> bool:
    return name.startswith(("time", "interval"))
