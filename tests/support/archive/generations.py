"""A second small world: one range, its generations, and the late rows between them, which are restored together.

Rows are bits, as in `archive_model`. What is planned, restored, evicted and tried again is decided by the real pure
functions for the whole range at once; single slices go by the same rules as there. Anything may happen at any moment:
- rows arrive from our writers, who respect what is closed, and from strangers, who make a chunk where there is none;
- the archiver copies when it likes, and may delete copies that a newer one supersedes; proofs become old;
- copies turn out to be unreadable, seals last too long, operators give up, try again and restore.
Left to the first model: holds, and work whose results come late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from tests.support.archive.model import AFTER_SEAL, GARBAGE, NOTHING, NOW, SOON, QuickId, measured
from tests.support.archive.range_model import (
    CHUNK,
    END,
    GONE,
    LONG_AGO,
    POLICY,
    START,
    Generation,
    Known,
    Range,
    RangeBounds,
    RangeRules,
    called,
    changed,
    messages,
    place_in_lake,
    request_of,
    slices_of,
)
from tests.support.archive.walk import Edge
from tidemill.domain.archive.messages import ArchivalConfirmation
from tidemill.domain.archive.slices import ArchiveState, Source
from tidemill.retention.eviction import Leaving
from tidemill.retention.planner import Candidate, ChunkFacts, Facts, LateFacts
from tidemill.retention.slices import AnswerLimits, CopyLocation, Slice
from tidemill.retention.transition_table import Action, Transition
from tidemill.retention.transitions import READABLE

_S = ArchiveState
T = TypeVar("T")

KINDS = ("planned", "decided", "told", "measured", "read", "dropped", "restored", "left", "copied", "wrote")
"""What can happen: the methods of `RangeModel` that give it."""


class RangeModel:
    """The range's laws. What depends on the slices alone, or on the slices and what is there at all, is kept."""

    def __init__(self, rules: RangeRules | None = None, bounds: RangeBounds | None = None) -> None:
        self.rules = rules or RangeRules()
        self.bounds = bounds or RangeBounds()
        self.limits = AnswerLimits(max_attempts=self.bounds.attempts)
        self.slices: list[Slice] = []
        self._numbers: dict[Slice, int] = {}
        self._known: dict[tuple[int, ...], Known] = {}
        self._kept: dict[tuple[Any, ...], Any] = {}
        self.messages = list(messages(self.bounds))

    def start(self) -> Range:
        none = Generation(NOTHING, 0, (NOTHING,) * self.bounds.seals)
        return Range((none,) * self.bounds.generations, chunk=1)

    def number(self, which: Slice) -> int:
        """Return the number of a slice, its times flattened. A proof counts as old once its slice is somewhere else.

        Where earlier copies were is left out: here their names tell whose they are.
        """
        proof = which.verified
        if proof is not None:
            fresh = which.state in {_S.VERIFIED, _S.RESTORED} and not proof.is_old(NOW)
            proof = replace(proof, at=NOW if fresh else LONG_AGO)
        flat = replace(
            which,
            since=NOW,
            size_bytes=0,
            sealed_at=which.sealed_at and NOW,
            deadline=which.deadline and SOON,
            restore_until=which.restore_until and SOON,
            reason=None,
            verified=proof,
            left_at=(),
        )
        number = self._numbers.get(flat)
        if number is None:
            number = self._numbers[flat] = len(self.slices)
            self.slices.append(flat)
        return number

    def known(self, world: Range) -> Known:
        key = slices_of(world)
        known = self._known.get(key)
        if known is None:
            known = tuple((place, self.slices[number]) for place, number in enumerate(key) if number >= 0)
            self._known[key] = known
        return known

    def _keep(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        kept: T = self._kept[key]
        return kept

    def content(self, world: Range, location: str) -> int:
        """Return which rows are at `lake/REQUEST`; an empty location holds none."""
        if location in {"", "lake/garbage"}:
            return GARBAGE if location else 0
        place, number = place_in_lake(location.removeprefix("lake/"))
        return world.generations[place].lake[number]

    def rows_of(self, world: Range, place: int, which: Slice) -> int:
        """Return the rows that the service finds where the registry says; NOTHING if that chunk is gone."""
        if which.source is Source.LATE:
            return world.generations[place].rows
        return world.chunk if which.chunk == CHUNK else NOTHING

    def facts(self, world: Range) -> Facts:
        slices = tuple(which for _, which in self.known(world))
        chunks = (ChunkFacts(CHUNK, START, END, 1),) if world.chunk >= 0 else ()
        late = (LateFacts(START, END, world.late.bit_count(), 1),) if world.late and slices else ()
        return Facts("public.ticks", chunks, late, slices)

    def _sketch(self, world: Range) -> tuple[Any, ...]:
        """Return what plans depend on."""
        return (slices_of(world), world.chunk >= 0, world.late > 0)

    def edges(self, world: Range) -> Iterator[Edge[Range]]:
        for kind in KINDS:
            yield from getattr(self, kind)(world)

    def planned(self, world: Range) -> Iterator[Edge[Range]]:
        """Seal what the plan says, or find a value that no copy can hold."""
        seals = self._keep(("plan", *self._sketch(world)), lambda: list(self._seals(self.facts(world))))
        for name, place, number, adopts in seals:
            after = changed(world, place, slice=number)
            if adopts:
                rows = world.generations[place].rows | world.late
                after = changed(after, place, rows=rows)._replace(late=0)
            yield Edge(name, after)

    def _seals(self, facts: Facts) -> Iterator[tuple[str, int, int, bool]]:
        for candidate in self.rules.plan(POLICY, facts, as_of=NOW, now=NOW).seal:
            if self._is_beyond(candidate):
                continue
            place = candidate.id.generation - 1
            chosen = self.rules.choose(candidate.slice(NOW), NOW)
            assert isinstance(chosen, Transition)
            sealed = self.rules.seal(chosen.after, NOW, columns=(), holds=())
            refused = self.rules.refuse(chosen.after, NOW, why="infinity in price")
            assert isinstance(sealed, Transition)
            assert isinstance(refused, Transition)
            yield "seal", place, self._named(sealed.after), self.rules.adopts(sealed.after)
            yield "refuse", place, self._named(refused.after), False

    def _named(self, which: Slice) -> int:
        return self.number(replace(which, id=QuickId(which.id.table, START, END, which.id.generation)))

    def _is_beyond(self, candidate: Candidate) -> bool:
        known = candidate.known
        return candidate.id.generation > self.bounds.generations or (
            known is not None and known.seal >= self.bounds.seals
        )

    def decided(self, world: Range) -> Iterator[Edge[Range]]:
        """What the service, time or an operator does that looks at no row."""
        key = slices_of(world)
        known = self.known(world)
        decisions = self._keep(("decided", key), lambda: list(self._decisions(known)))
        for name, place, number, opens in decisions:
            yield Edge(name, self._stored(world, place, number, opens=opens))

    def _decisions(self, known: Known) -> Iterator[tuple[str, int, int, bool]]:
        for place, which in known:
            for name, moved in self._moves(place, which, [other for _, other in known]):
                if isinstance(moved, Transition):
                    yield name, place, self.number(moved.after), self.rules.opens(moved)
            if which.state in {_S.VERIFIED, _S.RESTORED} and which.verified is not None:
                doubtful = replace(which, verified=replace(which.verified, at=LONG_AGO))
                if doubtful != which:
                    yield "a proof gets old", place, self.number(doubtful), False

    def _moves(self, place: int, which: Slice, generations: Sequence[Slice]) -> Iterator[tuple[str, Any]]:
        rules, limits = self.rules, self.limits
        yield "request", rules.request(which, NOW, event_id=request_of(place, which.seal), limits=limits)
        yield "refuse", rules.refuse(which, NOW, why="infinity in price")
        yield "again", rules.request_again(which, AFTER_SEAL, limits=limits)
        yield "give up", rules.give_up(which, AFTER_SEAL, limits=limits)
        yield "release", rules.release(which, NOW, who="ada", why="a mistake")
        if which.copy is not None:
            yield "unreadable", rules.quarantine(which, NOW, read=which.copy, why="not Parquet")
        if which.seal < self.bounds.seals and rules.in_the_way(which, generations) is None:
            yield "retry", rules.retry(which, NOW, who="ada", why="mended")

    def _stored(self, world: Range, place: int, number: int, *, opens: bool) -> Range:
        """Return the world with a slice moved; when it opens, its rows move back as far as its range is open."""
        after = changed(world, place, slice=number)
        if not opens:
            return after
        after = changed(after, place, rows=0)._replace(late=after.late | after.generations[place].rows)
        if not after.late or self.rules.keeps_late([each for at, each in self.known(after) if at != place]):
            return after
        return after._replace(chunk=max(after.chunk, 0) | after.late, late=0)

    def _without_chunk(self, world: Range) -> Range:
        generations = tuple(
            each._replace(slice=self._keep(("gone", each.slice), partial(self._gone, each.slice)))
            for each in world.generations
        )
        return world._replace(generations=generations, chunk=NOTHING)

    def _gone(self, number: int) -> int:
        if number < 0 or self.slices[number].chunk != CHUNK:
            return number
        return self.number(replace(self.slices[number], chunk=GONE))

    def told(self, world: Range) -> Iterator[Edge[Range]]:
        """Any message."""
        key = slices_of(world)
        for numbers, name in self._keep(("told", key), lambda: self._answers(key)).items():
            yield Edge(name, _told(world, numbers))

    def _answers(self, key: tuple[int, ...]) -> dict[tuple[int, ...], str]:
        done: dict[tuple[int, ...], str] = {}
        for message in self.messages:
            done.setdefault(self._fold(key, message), called(message))
        done.pop(key, None)
        return done

    def tell(self, world: Range, message: ArchivalConfirmation) -> Edge[Range]:
        """Return what one message does, nothing perhaps."""
        key = slices_of(world)
        return Edge(called(message), _told(world, self._fold(key, message)))

    def _fold(self, key: tuple[int, ...], message: ArchivalConfirmation) -> tuple[int, ...]:
        slices = [self.slices[number] for number in key if number >= 0]
        numbers = list(key)
        for step in self.rules.fold(message, slices, NOW, self.limits).steps:
            numbers[step.before.id.generation - 1] = self.number(step.after)
        return tuple(numbers)

    def measured(self, world: Range) -> Iterator[Edge[Range]]:
        """Measure what is sealed; find that it was changed since."""
        for place, which in self.known(world):
            rows = self.rows_of(world, place, which)
            if rows < 0:
                continue
            number = world.generations[place].slice
            if which.state is _S.SEALED:
                yield from self._try("measure", world, place, number, seal=which.seal, rows=rows)
            if which.seal < self.bounds.seals:
                yield from self._try("reseal", world, place, number, rows=rows)

    def read(self, world: Range) -> Iterator[Edge[Range]]:
        """Read a copy back, if there is one and it is the request's own."""
        for place, which in self.known(world):
            if which.state not in READABLE or which.copy is None:
                continue
            rows = self.content(world, which.copy.location)
            number = world.generations[place].slice
            foreign = rows > 0 and self._keep(
                ("foreign", number), partial(self._is_foreign, which, which.copy)
            )
            if rows >= 0 and not foreign:
                yield from self._try("verify", world, place, number, read=which.copy, rows=rows)
                continue
            step = self.rules.quarantine(which, NOW, read=which.copy, why="no file of its own")
            if isinstance(step, Transition):
                yield Edge("no file", self._stored(world, place, self.number(step.after), opens=False))

    def _is_foreign(self, which: Slice, copy: CopyLocation) -> bool:
        return self.rules.why_not_own(which, copy.location, which.left_at) is not None

    def _try(
        self, name: str, world: Range, place: int, number: int, *, rows: int, **told: Any
    ) -> Iterator[Edge[Range]]:
        """Give what a rule makes of the rows that were found, if it does not refuse."""

        def make() -> tuple[int, bool] | None:
            step = getattr(self.rules, name)(self.slices[number], NOW, found=measured(rows), **told)
            return (self.number(step.after), self.rules.opens(step)) if isinstance(step, Transition) else None

        done = self._keep((name, number, rows), make)
        if done is not None and done[0] != number:
            yield Edge(name, self._stored(world, place, done[0], opens=done[1]))

    def dropped(self, world: Range) -> Iterator[Edge[Range]]:
        """Measure under lock and drop."""
        for place, which in self.known(world):
            rows = self.rows_of(world, place, which)
            if which.state is not _S.VERIFIED or rows < 0:
                continue
            for edge in self._try("drop", world, place, world.generations[place].slice, rows=rows, holds=()):
                late = which.source is Source.LATE
                after = changed(edge.after, place, rows=0) if late else self._without_chunk(edge.after)
                yield Edge("drop", after)

    def restored(self, world: Range) -> Iterator[Edge[Range]]:
        """Bring the range back: what the copies hold, or what became of them in the lake since."""
        ways = self._keep(
            ("back", *self._sketch(world)), lambda: self.rules.ranges_back(self.facts(world), START, END)
        )
        for back in ways:
            if back.refused is not None:
                continue
            copies = [self.content(world, each.copy.location) for each in back.slices if each.copy]
            if min(copies) < 0:
                continue
            whole = 0
            for copy in copies:
                whole |= copy
            for rows in dict.fromkeys((whole, copies[0], GARBAGE)):
                key = ("restore", slices_of(world), rows)
                numbers = self._keep(key, partial(self._back, back.slices, rows))
                if numbers is not None:
                    after = world._replace(chunk=rows)
                    for place, number in numbers:
                        after = changed(after, place, slice=number)
                    yield Edge("restore", after)

    def _back(self, slices: Sequence[Slice], rows: int) -> list[tuple[int, int]] | None:
        """Return every slice's number after its range came back; None if one of them refuses."""
        done = []
        for each in slices:
            beside = [other for other in slices if other.id != each.id]
            step = self.rules.restore(
                each, NOW, found=measured(rows), until=SOON, chunk=CHUNK, who="ada", beside=beside
            )
            if not isinstance(step, Transition):
                return None
            done.append((each.id.generation - 1, self.number(step.after)))
        return done

    def left(self, world: Range) -> Iterator[Edge[Range]]:
        """Evict what was restored, or set it aside: all of it."""
        together = [(place, which) for place, which in self.known(world) if which.state is _S.RESTORED]
        rows = self.rows_of(world, *together[0]) if together else NOTHING
        if rows < 0:
            return
        key = ("left", slices_of(world), rows)
        slices = [which for _, which in together]
        leaving: Leaving = self._keep(
            key, lambda: self.rules.leave(slices, SOON, found=measured(rows), holds=())
        )
        after, evicted = world, False
        for moved in leaving.moves:
            if isinstance(moved, Transition):
                place = moved.after.id.generation - 1
                after = self._stored(after, place, self.number(moved.after), opens=self.rules.opens(moved))
                evicted = evicted or moved.action is Action.EVICT
        if leaving.chunk is not None:
            after = self._without_chunk(after)
        if after != world:
            yield Edge("evict" if evicted else "quarantine", after)

    def copied(self, world: Range) -> Iterator[Edge[Range]]:
        """An archiver works on a request, old or new, or deletes what the present one supersedes."""
        for place, which in self.known(world):
            rows = self.rows_of(world, place, which)
            lake = world.generations[place].lake
            old = [place_in_lake(event)[1] for event in which.superseded]
            present = [place_in_lake(which.event_id)[1]] if which.event_id else []
            for at in (*old, *present):
                if rows >= 0 and lake[at] == NOTHING:
                    name = "copy" if at in present else "copy for an old request"
                    yield Edge(name, changed(world, place, lake=(*lake[:at], rows, *lake[at + 1 :])))
            left = tuple(NOTHING if at in old else copy for at, copy in enumerate(lake))
            if self.bounds.deletes and present and lake[present[0]] >= 0 and left != lake:
                yield Edge("delete what is superseded", changed(world, place, lake=left))

    def wrote(self, world: Range) -> Iterator[Edge[Range]]:
        """A row arrives by our writers, who divert it once the range is closed, or by a stranger's."""
        if world.writes >= self.bounds.writes:
            return
        further = world._replace(writes=world.writes + 1)
        row = 2 << world.writes
        inserted = further._replace(chunk=max(world.chunk, 0) | row)
        if not any(which.is_closed for _, which in self.known(world)):
            yield Edge("our row", inserted)
            return
        yield Edge("our row", further._replace(late=world.late | row))
        if self.bounds.external_writes:
            yield Edge("an external row", inserted)


def _told(world: Range, numbers: Sequence[int]) -> Range:
    pairs = zip(world.generations, numbers, strict=True)
    return world._replace(generations=tuple(each._replace(slice=number) for each, number in pairs))
