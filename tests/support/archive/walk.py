"""Walks a model of the archive: all of it breadth-first, or many long histories at random, its promises checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Generic, NamedTuple, Protocol, TypeVar

from tidemill.domain.archive.slices import ArchiveState
from tidemill.retention.slices import Slice

W = TypeVar("W", bound=Hashable)


class Edge(NamedTuple, Generic[W]):
    """Something that can happen: what it is called, and what the world is then."""

    name: str
    after: W


class Laws(Protocol[W]):
    """What can happen in a world, and what must not. `slices`: all that were seen so far."""

    slices: list[Slice]

    def start(self) -> W: ...

    def edges(self, world: W) -> Iterator[Edge[W]]: ...

    def some_edge(self, world: W, random: Random) -> Edge[W] | None:
        """Return one at random, rather such as bring a slice further; None if this try found none."""
        ...

    def edge_fault(self, world: W, edge: Edge[W]) -> str | None:
        """Return the promise that an edge breaks, whatever is known of the world that it leads to."""
        ...

    def state_fault(self, world: W) -> str | None:
        """Return the promise that a world breaks."""
        ...

    def is_fair(self, edge: Edge[W]) -> bool:
        """Return whether it happens when all do as they should."""
        ...

    def is_over(self, world: W) -> bool:
        """Return whether all that should leave has left."""
        ...

    def is_spent(self, world: W) -> bool:
        """Return whether the model's bounds, not the archive, may keep a world from going on."""
        ...


@dataclass(frozen=True)
class Walked(Generic[W]):
    """How far a walk got. `fault`: the first broken promise with what led to it, None if there is none.

    `dead`: worlds from which no way leads to where all has left, though all do as they should.
    """

    states: int
    edges: int
    seen: frozenset[ArchiveState]
    fault: str | None = None
    dead: tuple[W, ...] = ()


def walk(laws: Laws[W], *, ends: bool = False) -> Walked[W]:
    """Visit every world that can be reached from the start, nearest first. `ends`: look for dead ends too."""
    start = laws.start()
    parents: dict[W, tuple[W, str] | None] = {start: None}
    before: dict[W, list[W]] = {}
    queue = deque([start])
    edges = 0
    while queue:
        world = queue.popleft()
        for edge in laws.edges(world):
            edges += 1
            fault = laws.edge_fault(world, edge)
            if edge.after not in parents:
                fault = fault or laws.state_fault(edge.after)
                parents[edge.after] = (world, edge.name)
                queue.append(edge.after)
            if fault is not None:
                found = f"{fault}\n{_path(parents, world, edge.name)}"
                return Walked(len(parents), edges, _states(laws), found)
            if ends and laws.is_fair(edge):
                before.setdefault(edge.after, []).append(world)
    return Walked(len(parents), edges, _states(laws), dead=_dead(laws, parents, before) if ends else ())


def _dead(laws: Laws[W], worlds: dict[W, tuple[W, str] | None], before: dict[W, list[W]]) -> tuple[W, ...]:
    """Go back from where all has left."""
    alive = {world for world in worlds if laws.is_over(world)}
    queue = deque(alive)
    while queue:
        for world in before.get(queue.popleft(), ()):
            if world not in alive:
                alive.add(world)
                queue.append(world)
    return tuple(world for world in worlds if world not in alive and not laws.is_spent(world))


def histories(laws: Laws[W], count: int, steps: int, seed: int) -> Walked[W]:
    """Live through `count` histories of `steps` tries each, seeded."""
    random = Random(seed)
    edges = 0
    for number in range(count):
        world, names = laws.start(), []
        for _ in range(steps):
            edge = laws.some_edge(world, random)
            if edge is None:
                continue
            names.append(edge.name)
            fault = laws.edge_fault(world, edge) or laws.state_fault(edge.after)
            if fault is not None:
                return Walked(number, edges, _states(laws), f"{fault}\n{' > '.join(names)}")
            world = edge.after
            edges += 1
    return Walked(count, edges, _states(laws))


def _states(laws: Laws[W]) -> frozenset[ArchiveState]:
    return frozenset(which.state for which in laws.slices)


def _path(parents: dict[W, tuple[W, str] | None], world: W, last: str) -> str:
    names = [last]
    step = parents[world]
    while step is not None:
        names.append(step[1])
        step = parents[step[0]]
    return " > ".join(reversed(names))
