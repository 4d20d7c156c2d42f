"""The fold that follows from a declaration: one event into its row. The model for every other way to fold it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields
from datetime import date
from operator import attrgetter
from types import NoneType
from typing import Any, Final

from tidemill.domain.carried_fields import kinds_of
from tidemill.domain.errors import ContractError
from tidemill.domain.folds import TIME, FoldPart, Latest, UtcDay, utc_day
from tidemill.domain.messages import EventBase, ReadModelBase

_TEXT: Final = frozenset[Any]({str})
_BASE: Final = frozenset(item.name for item in fields(ReadModelBase))


class DeclaredFold:
    """The fold of one class of events into rows of `row`: their key and their parts. It is a `Fold` itself.

    `key`: key column -> the event's field, or the bucket of one.
    """

    def __init__(
        self, row: type[ReadModelBase], *, key: Mapping[str, str | UtcDay], parts: Sequence[FoldPart]
    ) -> None:
        """Raise `ContractError` if the parts and the key do not fill each column of the row exactly once."""
        columns = [item.name for item in fields(row) if item.name not in _BASE]
        filled = [*key, *(name for part in parts if not isinstance(part, Latest) for name in part.columns)]
        rest = [column for column in columns if column not in filled]
        self.row = row
        self.key = key
        self.parts = tuple(part.filling(rest) if isinstance(part, Latest) else part for part in parts)
        self._key_names = tuple(key)
        self._columns = [*key, *(name for part in self.parts for name in part.columns)]
        self._readers = [
            attrgetter(source) if isinstance(source, str) else _day_reader(source) for source in key.values()
        ]
        if sorted(self._columns) != sorted(columns):
            raise ContractError(
                f"{row.__name__} has the columns {', '.join(sorted(columns))}; its key and the parts of its fold fill "
                f"{', '.join(sorted(self._columns))}: fill each once"
            )

    def key_of(self, event: Any) -> tuple[Hashable, ...]:
        """Return the key of an event's row."""
        return tuple([read(event) for read in self._readers])

    def __call__(self, row: Any, recorded: Any) -> Any:
        """Fold one event into its row, or into a new one for None."""
        terms = [part.term(recorded) for part in self.parts]
        return self.begin(self.key_of(recorded.event), terms) if row is None else self.merge(row, terms)

    def begin(self, key: Sequence[Hashable], terms: Sequence[Any]) -> Any:
        """Return a new row. `terms`: one for each part."""
        values: list[Any] = list(key)
        for part, term in zip(self.parts, terms, strict=True):
            values += part.begin(term)
        return self.row(**dict(zip(self._columns, values, strict=True)))

    def merge(self, row: Any, terms: Sequence[Any]) -> Any:
        """Merge terms into a row, which is changed and returned."""
        for part, term in zip(self.parts, terms, strict=True):
            part.merge(row, term)
        return row

    def demand_fit(self, event: type[EventBase], key_columns: Sequence[str]) -> None:
        """Raise `ContractError` if the event lacks a field that is read, or the table has another key."""
        if self._key_names != tuple(key_columns):
            raise ContractError(
                f"the key of the fold into {self.row.__name__} is {', '.join(self._key_names)}, that of its table "
                f"{', '.join(key_columns)}"
            )
        for reads in (self._key_reads(), *(part.reads for part in self.parts)):
            for name, kinds in reads.items():
                _demand_field(event, name, kinds)

    def _key_reads(self) -> Mapping[str, frozenset[Any]]:
        sources = self.key.values()
        texts = {source: _TEXT for source in sources if isinstance(source, str)}
        return texts | {source.field: TIME for source in sources if isinstance(source, UtcDay)}


def _day_reader(bucket: UtcDay) -> Callable[[Any], date]:
    time_of = attrgetter(bucket.field)
    return lambda event: utc_day(time_of(event))


def _demand_field(event: type[EventBase], name: str, kinds: frozenset[Any] | None) -> None:
    info = event.model_fields.get(name)
    if info is None:
        raise ContractError(f"a declared fold reads {name} of {event.__name__}, which has no such field")
    if kinds is not None and not kinds_of(info.annotation) <= kinds:
        allowed = " or ".join(sorted("None" if kind is NoneType else kind.__name__ for kind in kinds))
        raise ContractError(
            f"a declared fold reads {name} of {event.__name__} as {allowed}: it is of another type"
        )
