"""Walks the archive's model: all of it breadth-first, or many long histories at random, with the promises checked."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from tests.support.archive_model import KINDS, NOTHING, Cell, Edge, Model, World
from tidemill.domain.archive import ArchiveState


@dataclass(frozen=True)
class Walked:
    """How far a walk got. `fault`: the first broken promise with what led to it, None if there is none."""

    states: int
    edges: int
    seen: frozenset[ArchiveState]
    fault: str | None = None


def walk(model: Model) -> Walked:
    """Visit every world that can be reached from the start, nearest first."""
    start = model.start()
    parents: dict[World, tuple[World, str] | None] = {start: None}
    queue = deque([start])
    edges = 0
    while queue:
        world = queue.popleft()
        for edge in model.edges(world):
            edges += 1
            if edge.after in parents:
                fault = _exit_fault(model, world, edge)
            else:
                fault = broken(model, world, edge)
                parents[edge.after] = (world, edge.name)
                queue.append(edge.after)
            if fault is not None:
                return Walked(
                    len(parents), edges, _states(model), f"{fault}\n{_path(parents, world)} {edge.name}"
                )
    return Walked(len(parents), edges, _states(model))


def dead_ends(model: Model) -> list[World]:
    """Return the worlds of one slice from which no way leads to DROPPED, those apart that used up their seals."""
    start = model.start()
    before: dict[World, list[World]] = {start: []}
    queue = deque([start])
    while queue:
        world = queue.popleft()
        for edge in model.edges(world):
            if edge.after not in before:
                before[edge.after] = []
                queue.append(edge.after)
            before[edge.after].append(world)
    gone = {world for world in before if model.slices[world.cells[0].slice].state is ArchiveState.DROPPED}
    queue.extend(gone)
    while queue:
        for world in before[queue.popleft()]:
            if world not in gone:
                gone.add(world)
                queue.append(world)
    last = model.bounds.seals
    return [world for world in before if world not in gone and model.slices[world.cells[0].slice].seal < last]


def histories(model: Model, count: int, steps: int, seed: int) -> Walked:
    """Live through `count` histories of `steps` tries each, seeded.

    A try picks a kind of event, then one of those that are possible. Two of three tries rather do what brings a slice
    further, or else hardly any history would see a second seal.
    """
    random = Random(seed)
    edges = 0
    for number in range(count):
        world, names = model.start(), []
        for _ in range(steps):
            edge = _next(model, world, random)
            if edge is None:
                continue
            names.append(edge.name)
            fault = broken(model, world, edge)
            if fault is not None:
                return Walked(number, edges, _states(model), f"{fault}\n{' > '.join(names)}")
            world = edge.after
            edges += 1
    return Walked(count, edges, _states(model))


def _next(model: Model, world: World, random: Random) -> Edge | None:
    place = int(random.random() * len(world.cells))
    if random.random() < 2 / 3:
        kinds = FURTHER[model.slices[world.cells[place].slice].state]
    else:
        kinds = (EVERY[int(random.random() * len(EVERY))],)
    for kind, name in kinds:
        if kind == "told":
            return model.tell(world, model.messages[int(random.random() * len(model.messages))])
        edges: list[Edge] = [edge for edge in getattr(model, kind)(world) if edge.name.startswith(name)]
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


def broken(model: Model, world: World, edge: Edge) -> str | None:
    """Return the promise that an edge breaks."""
    return _exit_fault(model, world, edge) or next(
        (fault for place in range(len(world.cells)) if (fault := _state_fault(model, edge.after, place))),
        None,
    )


def _exit_fault(model: Model, world: World, edge: Edge) -> str | None:
    """Rows leave by a drop or an eviction, never under a hold, and what leaves is in the lake, all of it."""
    for place, (before, after) in enumerate(zip(world.cells, edge.after.cells, strict=True)):
        if before.slice == after.slice and before.chunk == after.chunk:
            continue
        was, is_ = model.slices[before.slice], model.slices[after.slice]
        if is_.state is ArchiveState.DROPPED and was.state is not ArchiveState.DROPPED:
            if (was.state, edge.name) not in {
                (ArchiveState.VERIFIED, "drop"),
                (ArchiveState.RESTORED, "evict"),
            }:
                return f"{edge.name} drops from {was.state}"
            if world.held:
                return f"{edge.name} under a hold"
            if is_.copy is None or model.content(world, place, is_.copy.location) != before.chunk:
                return f"{edge.name} of rows whose copy is not equal"
        elif before.chunk != NOTHING and after.chunk == NOTHING:
            return f"{edge.name} removes the rows without a tombstone"
    return None


def _state_fault(model: Model, world: World, place: int) -> str | None:
    """Every row is somewhere; an open range diverts nothing; what counts as verified is so."""
    cell = world.cells[place]
    which = model.slices[cell.slice]
    if cell.written & ~_somewhere(model, world, place, cell):
        return "a row is lost"
    if cell.late and not which.is_closed:
        return "rows are diverted from an open range"
    if which.state is ArchiveState.VERIFIED:
        assert which.copy is not None
        assert which.sealed is not None
        content = model.content(world, place, which.copy.location)
        if content == NOTHING or which.sealed.digest != f"v1:{content:016x}:{content:016x}":
            return "a copy counts as verified and is not"
    return None


def _somewhere(model: Model, world: World, place: int, cell: Cell) -> int:
    rows = max(cell.chunk, 0) | cell.late
    which = model.slices[cell.slice]
    if which.state is ArchiveState.DROPPED and which.copy is not None:
        rows |= max(model.content(world, place, which.copy.location), 0)
    return rows


def _states(model: Model) -> frozenset[ArchiveState]:
    return frozenset(which.state for which in model.slices)


def _path(parents: dict[World, tuple[World, str] | None], world: World) -> str:
    names = []
    step = parents[world]
    while step is not None:
        names.append(step[1])
        step = parents[step[0]]
    return " > ".join(reversed(names))
