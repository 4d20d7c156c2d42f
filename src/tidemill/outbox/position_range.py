"""Chunks: consecutive positions of a lane, checked for gaps, to be published together.

Positions and event sequences are dense in commit order, so a missing number is a deleted row; continuing
after it would skip an event permanently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.domain.errors import LaneHalted
from tidemill.domain.identity import chain, event_id
from tidemill.domain.rejections import HaltCode
from tidemill.outbox.ports import OutboxItem, Published


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows after `before`, without gaps; `after` is what will be published when all of them are."""

    items: Sequence[OutboxItem]
    before: Published
    after: Published

    @property
    def chained(self) -> int:
        """Return the running hash over event ids as of its last row."""
        return self.items[-1].chain

    @property
    def positions(self) -> int:
        """Return how many positions it spans."""
        return self.after.position - self.before.position

    def heads(self, behind: int) -> list[OutboxItem]:
        """Return the rows that carry outcomes, of positions after `behind`; `sequence`: the position's last event."""
        found: list[OutboxItem] = []
        for item in self.items:
            if item.position <= behind:
                continue
            if item.item == 0:
                found.append(item)
            else:
                found[-1] = found[-1]._replace(sequence=item.sequence)
        return found


def chunk_of(
    lane_id: int, items: Sequence[OutboxItem], before: Published, chained: int | None = None
) -> Chunk:
    """Return `items` (at least one) as a chunk. `chained`: the hash as of the row before, None if it is not known.

    Raises:
        LaneHalted: `OUTBOX_GAP`, a position, an item or an event is missing; `HISTORY_FORKED`, these rows do not
            continue what was read before: the database was restored meanwhile, and continued differently.
    """
    follows = items[0].position == before.position + 1
    if chained is not None and follows and items[0].chain != _continued(chained, items[0]):
        raise LaneHalted(
            lane_id,
            HaltCode.HISTORY_FORKED,
            f"position {items[0].position} does not continue position {before.position} as it was published: "
            "the database was restored while the relay was connected",
        )
    position, number, sequence = before.position, 0, before.sequence
    last = None
    for item in items:
        if item.item == 0:
            position, number = position + 1, 0
        else:
            number += 1
        if item.payload is not None:
            sequence += 1
            last = item
        if item.position != position or item.item != number or item.sequence != sequence:
            raise _gap(lane_id, item, position, sequence)
    known = before.event_id
    if last is not None and last.command_id is not None:
        known = event_id(last.command_id, last.item + 1)
    return Chunk(items, before, Published(position, sequence, known))


def _continued(chained: int, item: OutboxItem) -> int:
    """Return the hash that `item` has if it follows a row with the hash `chained`."""
    if item.payload is None or item.command_id is None:
        return chained
    return chain(chained, event_id(item.command_id, item.item + 1))


def _gap(lane_id: int, found: OutboxItem, position: int, sequence: int) -> LaneHalted:
    return LaneHalted(
        lane_id,
        HaltCode.OUTBOX_GAP,
        f"expected position {position} with event {sequence}, "
        f"found position {found.position}, item {found.item}, event {found.sequence}",
    )
