"""A declared query: SQL that readers may ask for by name, read only, with typed parameters and results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Final
from uuid import UUID

from tidemill.domain.errors import ContractError

SQL_TYPES: Final[Mapping[type, tuple[str, ...]]] = {
    str: ("text", "varchar", "bpchar"),
    int: ("bigint", "int8", "int4", "int2"),
    float: ("double precision", "float8", "float4"),
    bool: ("boolean", "bool"),
    Decimal: ("numeric",),
    datetime: ("timestamptz",),
    date: ("date",),
    UUID: ("uuid",),
    dict: ("jsonb", "json"),
}
"""The types of parameters and results, each with its names in SQL, that of a parameter first. `dict`: any JSON."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TOKEN: Final = re.compile(
    r"""
      (?P<skip> (?<!\w)[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
              | \$(?P<tag>[A-Za-z_]*)\$.*?\$(?P=tag)\$
              | --[^\n]* | /\*(?:(?!/\*).)*?\*/ | :: )
    | :(?P<name>[A-Za-z_]\w*)
    | (?P<wrong> ' | " | /\* | \$ | ; )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Query:
    """A question with a name, `analyses-by-status`.

    `sql`: one SELECT; `:user_id` stands for the value of a parameter. `parameters`: name -> type; all are required.
    `returns`: column -> type, in order. The types are `str int float bool Decimal datetime date UUID`, and `dict` for
    JSON in results. `reads`: the collections that it reads; who asks needs to be allowed to read all of them.

    `order`: columns by which `sql` sorts, ascending, and of which no two rows have the same values; answers of such a
    query go on by a cursor. None of them is null, unless it is null in all rows. `constant`: columns that are the same
    in all rows, and so in all pages of an answer: one that differs means that what is read was replaced.
    """

    name: str
    sql: str
    returns: Mapping[str, type]
    reads: tuple[str, ...]
    parameters: Mapping[str, type] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would only fail when it is asked."""
        if not _NAME.fullmatch(self.name):
            raise ContractError(f"query {self.name!r}: its name must be lower-case words joined by hyphens")
        if not self.reads or not self.returns:
            raise ContractError(f"query {self.name}: it declares no columns, or no collections that it reads")
        bad = [name for name, kind in self.parameters.items() if kind not in SQL_TYPES or kind is dict]
        bad += [name for name, kind in self.returns.items() if kind not in SQL_TYPES]
        if bad:
            known = ", ".join(kind.__name__ for kind in SQL_TYPES)
            raise ContractError(
                f"query {self.name}: {', '.join(bad)} must be of {known}; dict is for results"
            )
        self._check_order()
        statement = self.statement
        if unused := [name for name in self.parameters if f"${self._place(name)}::" not in statement]:
            raise ContractError(f"query {self.name} does not use its parameter {', '.join(unused)}")

    def _check_order(self) -> None:
        named = [*self.order, *self.constant]
        if lacking := [name for name in named if name not in self.returns]:
            raise ContractError(
                f"query {self.name} does not return {', '.join(lacking)}, by which it is ordered"
            )
        if self.constant and not self.order:
            raise ContractError(f"query {self.name} has no order, so it has one page, and needs no constant")
        if unsorted := [name for name in self.order if self.returns[name] is dict]:
            raise ContractError(
                f"query {self.name} cannot be ordered by {', '.join(unsorted)}, which is JSON"
            )

    @cached_property
    def statement(self) -> str:
        """Return the SQL with `$1::text` in place of `:user_id`, by the order of `parameters`.

        Raises `ContractError`.
        """
        return _TOKEN.sub(self._replaced, self.sql)

    def _replaced(self, match: re.Match[str]) -> str:
        if match["wrong"] is not None:
            raise ContractError(
                f"query {self.name}: {match['wrong']} at {match.start()} does not belong there: it must be one "
                "statement without a semicolon, with closed quotes and comments, and :name for parameters"
            )
        if (name := match["name"]) is None:
            return match[0]
        if name not in self.parameters:
            raise ContractError(f"query {self.name} has no parameter {name}")
        return f"${self._place(name)}::{SQL_TYPES[self.parameters[name]][0]}"

    def _place(self, name: str) -> int:
        return list(self.parameters).index(name) + 1
