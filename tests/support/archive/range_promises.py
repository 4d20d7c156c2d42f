"""What the second model promises of a range and its generations, and which way its random histories rather take."""

from __future__ import annotations

from random import Random

from tests.support.archive.generations import KINDS, RangeModel
from tests.support.archive.model import NOTHING, NOW
from tests.support.archive.range_model import CHUNK, Range
from tests.support.archive.walk import Edge
from tidemill.domain.archive.slices import ArchiveState, Source
from tidemill.retention.slices import AWAITED, Slice

_S = ArchiveState

FAIR = frozenset(
    {
        "seal",
        "measure",
        "reseal",
        "request",
        "again",
        "copy",
        "completed",
        "verify",
        "no file",
        "drop",
        "retry",
        "evict",
        "quarantine",
    }
)
"""What happens when all do as they should, and time passes."""

Moved = list[tuple[Slice, Slice]]
"""The slices that an edge moves, before and after."""


class WatchedRange(RangeModel):
    """The model, and what must be true of it at every moment."""

    def edge_fault(self, world: Range, edge: Edge[Range]) -> str | None:
        """What leaves, or comes back, is its copies, all of it; we change no range that is closed."""
        after = edge.after
        pairs = [
            (self.slices[before.slice], self.slices[now.slice])
            for before, now in zip(world.generations, after.generations, strict=True)
            if before.slice not in {now.slice, NOTHING}
        ]
        gone = [(was, now) for was, now in pairs if now.state is _S.DROPPED and was.state is not _S.DROPPED]
        if gone:
            return self._leaving_fault(world, edge, gone)
        back = [now for was, now in pairs if now.state is _S.RESTORED and was.state is _S.DROPPED]
        if back and after.chunk != self._copies(world, back):
            return f"{edge.name} of rows that are not the copies'"
        if (
            edge.name == "seal"
            and after.late
            and not world.late & ~after.late
            and self._sealed_late(world, after)
        ):
            return "a slice of late rows is sealed without them"
        return self._chunk_fault(world, edge)

    def _leaving_fault(self, world: Range, edge: Edge[Range], gone: Moved) -> str | None:
        """Rows leave by a drop or an eviction, for copies that were read just before and hold all of them."""
        for was, now in gone:
            if (was.state, edge.name) not in {(_S.VERIFIED, "drop"), (_S.RESTORED, "evict")}:
                return f"{edge.name} drops from {was.state}"
            if was.verified is None or now.verified is None or was.verified.at != NOW:
                return f"{edge.name} with an old proof"
        if self._in_database(world) & ~self._in_database(edge.after) != self._copies(
            world, [now for _, now in gone]
        ):
            return f"{edge.name} of rows that are not the copies'"
        return None

    def _chunk_fault(self, world: Range, edge: Edge[Range]) -> str | None:
        before, after = max(world.chunk, 0), edge.after
        if before & ~self._in_database(after) or (world.chunk >= 0 and after.chunk < 0):
            return f"{edge.name} removes rows without a tombstone"
        if edge.name in {"an external row", "restore"} or not max(after.chunk, 0) & ~before:
            return None
        closed = any(which.is_closed for _, which in self.known(after))
        return f"{edge.name} puts rows into a closed range" if closed else None

    def _sealed_late(self, world: Range, after: Range) -> bool:
        pairs = zip(world.generations, after.generations, strict=True)
        return any(
            self.slices[now.slice].source is Source.LATE for was, now in pairs if was.slice != now.slice
        )

    def state_fault(self, world: Range) -> str | None:
        """Every row is somewhere, once; what counts as verified is so; a range goes round as a whole."""
        known = self.known(world)
        return (
            self._places_fault(world)
            or self._range_fault(world)
            or next(
                (fault for place, which in known if (fault := self._slice_fault(world, place, which))), None
            )
        )

    def _places_fault(self, world: Range) -> str | None:
        seen = 0
        lake = [self._copies(world, [which]) for _, which in self.known(world) if which.state is _S.DROPPED]
        for rows in (max(world.chunk, 0), world.late, *(each.rows for each in world.generations), *lake):
            if seen & rows:
                return "a row is there twice"
            seen |= rows
        return None if seen == (2 << world.writes) - 1 else "a row is lost"

    def _range_fault(self, world: Range) -> str | None:
        states = [which.state for _, which in self.known(world)]
        if sum(state in AWAITED for state in states) > 1:
            return "two slices of a range are under way"
        if _S.RESTORED in states:
            if _S.DROPPED in states:
                return "a range is back in part"
            if world.chunk < 0:
                return "restored rows are gone"
            if not AWAITED.isdisjoint(states):
                return "a slice is under way beside what is restored"
        if world.late and not any(which.is_closed for _, which in self.known(world)):
            return "rows are diverted from an open range"
        return None

    def _slice_fault(self, world: Range, place: int, which: Slice) -> str | None:
        if world.generations[place].rows and (which.source is not Source.LATE or not which.is_closed):
            return "late rows belong to a slice that does not keep them"
        if which.state in {_S.VERIFIED, _S.DROPPED}:
            assert which.copy is not None
            assert which.sealed is not None
            rows = self.content(world, which.copy.location)
            if rows == NOTHING and not which.sealed.row_count:
                return None  # no row, no copy: what was deleted there held nothing
            if rows == NOTHING or which.sealed.digest != f"v1:{rows:016x}:{rows:016x}":
                return f"a copy counts as {which.state} and is not equal"
        return None

    def _copies(self, world: Range, slices: list[Slice]) -> int:
        """Return the rows of copies together."""
        rows = 0
        for each in slices:
            assert each.copy is not None
            rows |= max(self.content(world, each.copy.location), 0)
        return rows

    def _in_database(self, world: Range) -> int:
        rows = max(world.chunk, 0) | world.late
        for each in world.generations:
            rows |= each.rows
        return rows

    def is_fair(self, edge: Edge[Range]) -> bool:
        """All do as they should, nobody restores or gives up."""
        return edge.name in FAIR

    def is_over(self, world: Range) -> bool:
        """All was dropped, and nothing is late."""
        states = [which.state for _, which in self.known(world)]
        return (
            bool(states) and set(states) == {_S.DROPPED} and not self._in_database(world) and world.chunk < 0
        )

    def is_spent(self, world: Range) -> bool:
        """A slice used up its seals, or a generation is needed that the bounds do not have."""
        known = [which for _, which in self.known(world)]
        named = any(which.chunk == CHUNK and which.state is not _S.DROPPED for which in known)
        taken = any(which.source is Source.LATE and not which.is_closed for which in known)
        wanted = len(known) + (world.chunk >= 0 and not named) + (world.late > 0 and not taken)
        seals = self.bounds.seals
        return wanted > self.bounds.generations or any(which.seal >= seals for which in known)

    def some_edge(self, world: Range, random: Random) -> Edge[Range] | None:
        """Pick a kind of event, then one of those that are possible; two of three tries bring a slice further."""
        if random.random() < 2 / 3:
            which = self._some_slice(world, random)
            kinds = FURTHER[which.state] if which else ("planned",)
        else:
            which, kinds = None, (KINDS[int(random.random() * len(KINDS))],)
        for kind in kinds:
            if kind == "told":
                asked = which.event_id if which else None
                said = [each for each in self.messages if asked in {None, each.event_id}]
                return self.tell(world, said[int(random.random() * len(said))])
            edges: list[Edge[Range]] = list(getattr(self, kind)(world))
            if which is not None and kind == "decided":
                edges = [edge for edge in edges if edge.name in FAIR]
            if edges:
                return edges[int(random.random() * len(edges))]
        return None

    def _some_slice(self, world: Range, random: Random) -> Slice | None:
        known = self.known(world)
        return known[int(random.random() * len(known))][1] if known else None


FURTHER: dict[ArchiveState, tuple[str, ...]] = {
    _S.SEALED: ("measured", "decided"),
    _S.REQUESTED: ("copied", "told"),
    _S.COPYING: ("copied", "told"),
    _S.CONFIRMED: ("read",),
    _S.VERIFIED: ("dropped", "measured", "read"),
    _S.DROPPED: ("wrote", "planned", "restored"),
    _S.RESTORED: ("left", "read"),
    _S.ABORTED: ("planned",),
    _S.QUARANTINED: ("decided",),
}
"""What brings a slice further from each state: the kinds of event, the first of them that is possible."""
