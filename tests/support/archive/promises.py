"""What the archive's model promises, and which way its random histories rather take."""

from __future__ import annotations

from random import Random

from tests.support.archive.model import KINDS, NOTHING, Cell, Model, World
from tests.support.archive.walk import Edge
from tidemill.domain.archive.slices import ArchiveState

_S = ArchiveState


class WatchedModel(Model):
    """The model, and what must be true of it at every moment."""

    def edge_fault(self, world: World, edge: Edge[World]) -> str | None:
        """Rows leave by a drop or an eviction, never under a hold; what leaves, or comes back, is its whole copy."""
        for place, (before, after) in enumerate(zip(world.cells, edge.after.cells, strict=True)):
            if before.slice == after.slice and before.chunk == after.chunk:
                continue
            was, is_ = self.slices[before.slice], self.slices[after.slice]
            if is_.state is _S.DROPPED and was.state is not _S.DROPPED:
                if (was.state, edge.name) not in {(_S.VERIFIED, "drop"), (_S.RESTORED, "evict")}:
                    return f"{edge.name} drops from {was.state}"
                if world.held:
                    return f"{edge.name} under a hold"
                if is_.copy is None or self.content(world, place, is_.copy.location) != before.chunk:
                    return f"{edge.name} of rows whose copy is not equal"
            elif before.chunk != NOTHING and after.chunk == NOTHING:
                return f"{edge.name} removes the rows without a tombstone"
            elif (was.state, is_.state) == (_S.DROPPED, _S.RESTORED) and (
                is_.copy is None or self.content(world, place, is_.copy.location) != after.chunk
            ):
                return f"{edge.name} of rows that are not the copy's"
        return None

    def state_fault(self, world: World) -> str | None:
        """Every row is somewhere; an open range diverts nothing; what counts as verified is so."""
        for place, cell in enumerate(world.cells):
            which = self.slices[cell.slice]
            if cell.written & ~self._somewhere(world, place, cell):
                return "a row is lost"
            if cell.late and not which.is_closed:
                return "rows are diverted from an open range"
            if which.state is _S.VERIFIED:
                assert which.copy is not None
                assert which.sealed is not None
                content = self.content(world, place, which.copy.location)
                if content == NOTHING or which.sealed.digest != f"v1:{content:016x}:{content:016x}":
                    return "a copy counts as verified and is not"
        return None

    def _somewhere(self, world: World, place: int, cell: Cell) -> int:
        rows = max(cell.chunk, 0) | cell.late
        which = self.slices[cell.slice]
        if which.state is _S.DROPPED and which.copy is not None:
            rows |= max(self.content(world, place, which.copy.location), 0)
        return rows

    def is_fair(self, edge: Edge[World]) -> bool:
        """Whatever happens may help."""
        return True

    def is_over(self, world: World) -> bool:
        """The first slice is what ends are looked for."""
        return self.slices[world.cells[0].slice].state is _S.DROPPED

    def is_spent(self, world: World) -> bool:
        """One that used up its seals."""
        return self.slices[world.cells[0].slice].seal >= self.bounds.seals

    def some_edge(self, world: World, random: Random) -> Edge[World] | None:
        """Pick a kind of event, then one of those that are possible.

        Two of three tries rather do what brings a slice further, or else hardly any history would see a second seal.
        """
        place = int(random.random() * len(world.cells))
        if random.random() < 2 / 3:
            kinds = FURTHER[self.slices[world.cells[place].slice].state]
        else:
            kinds = (EVERY[int(random.random() * len(EVERY))],)
        for kind, name in kinds:
            if kind == "told":
                return self.tell(world, self.messages[int(random.random() * len(self.messages))])
            edges: list[Edge[World]] = [
                edge for edge in getattr(self, kind)(world) if edge.name.startswith(name)
            ]
            if edges:
                return edges[int(random.random() * len(edges))]
        return None


EVERY = tuple((kind, "") for kind in KINDS)
FURTHER: dict[ArchiveState, tuple[tuple[str, str], ...]] = {
    ArchiveState.LIVE: (("decided", "choose"),),
    ArchiveState.ELIGIBLE: (("decided", "seal"),),
    ArchiveState.SEALED: (("decided", "request"), ("worked", "measure")),
    ArchiveState.REQUESTED: (("copied", "copy"), ("told", "")),
    ArchiveState.COPYING: (("copied", "copy"), ("told", "")),
    ArchiveState.CONFIRMED: (("worked", "verify"),),
    ArchiveState.VERIFIED: (("dropped", ""),),
    ArchiveState.DROPPED: (("returned", "restore"),),
    ArchiveState.RESTORED: (("returned", ""),),
    ArchiveState.ABORTED: (("decided", "choose"),),
    ArchiveState.QUARANTINED: (("decided", "retry"),),
    ArchiveState.HELD: (("decided", "let go"), ("held", "hold")),
}
"""What brings a slice further from each state: the kind of event, and how its name begins."""
