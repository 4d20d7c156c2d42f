"""The rows of `tm.pack`: what a batch sends, packed for each of its lanes that has enough of it.

A pack holds whole Kafka records, whose headers are as long as their events: of a few it takes more than their rows do.
Relay and operations read both forms in one lane.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from tidemill.commands.rows import OutboxRow
from tidemill.domain.lane import Lane
from tidemill.outbox.pack import Pack, PackStart
from tidemill.outbox.ports import OutboxItem, PackFormat

PACK_COLUMNS: Final = ("lane", "gen", *Pack._fields)

_made: Final = tuple.__new__  # a named tuple without the call of its own `__new__`, which counts the values
_OF_PLACE: Final = 2
"""Lane and generation, the columns of `OutboxRow` before those of `OutboxItem`."""


_WORTH: Final = 4
"""So many rows of a lane are packed; of fewer a pack writes more to the log than they do by themselves."""


def shared_out(rows: Sequence[OutboxRow]) -> tuple[list[OutboxRow], list[OutboxRow]]:
    """Return what of a batch is written in rows, and what in packs; rows of a lane follow each other."""
    few, many = list[OutboxRow](), list[OutboxRow]()
    for _, own in groupby(rows, attrgetter("lane")):
        of_lane = list(own)
        (few if len(of_lane) < _WORTH else many).extend(of_lane)
    return few, many


def packed_rows(
    packs: PackFormat,
    gen: int,
    lanes: Mapping[int, Lane],
    starts: Mapping[int, PackStart],
    rows: Sequence[OutboxRow],
) -> list[tuple[Any, ...]]:
    """Return the packs of the rows of a batch, of which those of a lane follow each other."""
    return [
        (lane_id, gen, *pack)
        for lane_id, items in _by_lane(rows)
        for pack in packs.pack(lanes[lane_id], starts[lane_id], items)
    ]


def _by_lane(rows: Sequence[OutboxRow]) -> Iterator[tuple[int, list[OutboxItem]]]:
    for lane_id, own in groupby(rows, attrgetter("lane")):
        yield lane_id, [_made(OutboxItem, row[_OF_PLACE:]) for row in own]
