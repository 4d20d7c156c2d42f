"""Packs of consecutive positions, checked for gaps, to be published as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidemill.domain.errors import LaneHalted
from tidemill.domain.rejections import HaltCode
from tidemill.outbox.pack import Pack
from tidemill.outbox.ports import LanePlace, Published, SentPositions, Slab


@dataclass(frozen=True, slots=True)
class PackedChunk:
    """Packs after `before`, without gaps; `after` is what will be published when all of them are."""

    packs: Sequence[Pack]
    before: Published
    after: Published

    @property
    def chained(self) -> int:
        """Return the running hash over event ids as of its end."""
        return self.packs[-1].chain

    @property
    def positions(self) -> int:
        """Return how many positions it spans."""
        return self.after.position - self.before.position

    def events(self) -> list[Slab]:
        """Return what goes to the topic of events."""
        return [Slab(pack.events, pack.sequence - pack.sequence_before) for pack in self.packs if pack.events]

    def outcomes(self) -> list[Slab]:
        """Return what goes to the topic of outcomes."""
        return [Slab(pack.outcomes, pack.position - pack.first_position + 1) for pack in self.packs]

    def parked(self) -> list[LanePlace]:
        """Return the positions whose dead letters are to be sent."""
        return [
            LanePlace(*place)
            for pack in self.packs
            for place in zip(pack.parked or (), pack.parked_sequences or (), strict=True)
        ]


def sendable(
    packs: Sequence[Pack], before: Published, sent: SentPositions, timeline: int, limit: int
) -> Sequence[Pack]:
    """Return those of `packs` at the front that can be sent as they are: nothing of them was sent, none is stale.

    `limit`: how many positions may be sent at once, if they are several packs.
    """
    if packs[0].first_position <= before.position or packs[0].first_position <= sent.outcomes:
        return ()
    if packs[0].sequence_before < sent.sequence or packs[0].first_position <= sent.dead_letters:
        return ()
    for count, pack in enumerate(packs):
        if pack.timeline != timeline or (count and pack.position - before.position > limit):
            return packs[:count]
    return packs


def packed_chunk_of(
    lane_id: int, packs: Sequence[Pack], before: Published, chained: int | None = None
) -> PackedChunk:
    """Return `packs` (at least one) as a chunk. `chained`: the hash as of the row before, None if it is not known.

    Raises:
        LaneHalted: `OUTBOX_GAP`, a position or an event is missing; `HISTORY_FORKED`, these packs do not continue what
            was read before: the database was restored meanwhile, and continued differently.
    """
    follows = packs[0].first_position == before.position + 1
    if chained is not None and follows and packs[0].chain_before != chained:
        raise LaneHalted(
            lane_id,
            HaltCode.HISTORY_FORKED,
            f"position {packs[0].first_position} does not continue position {before.position} as it was published: "
            "the database was restored while the relay was connected",
        )
    at = before
    for pack in packs:
        if pack.first_position != at.position + 1 or pack.sequence_before != at.sequence:
            raise LaneHalted(
                lane_id,
                HaltCode.OUTBOX_GAP,
                f"expected position {at.position + 1} after event {at.sequence}, "
                f"found position {pack.first_position} after event {pack.sequence_before}",
            )
        at = Published(pack.position, pack.sequence, pack.event_id or at.event_id)
    return PackedChunk(packs, before, at)
