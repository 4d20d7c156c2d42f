"""A small world around `retention.machine`: rows, a lake, messages, crashes, and people who do as they like.

Rows are bits: what a chunk holds, what was diverted and what a copy holds are masks, and a measurement tells masks
apart for certain. Times are three: now, after a deadline, after the longest seal. Everything may happen at any moment:
- any message at all, about any request past, present or made up: so each can be late, repeated, reordered or forged;
- the archiver copies whatever the chunk holds at that moment, and says what it likes about where;
- strangers write to a sealed chunk behind our back; our own writers divert once the range is closed;
- the service looks, measures or reads now and stores the result at any later time, or crashes and never does;
- operators hold, let go, retry, release and restore; holds appear without anybody telling the slice.
What was copied stays as it was: that the lake keeps it is the scrub's to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tests.support.archive.rules import Rules
from tests.support.archive.walk import Edge
from tidemill.domain.archive.messages import ArchivalConfirmation, ArchivalResult, ArchivalStatus
from tidemill.domain.archive.slices import ArchiveState, Measured, SliceId, Source
from tidemill.retention.slices import AnswerLimits, CopyLocation, Hold, Slice
from tidemill.retention.transition_table import HOLDABLE, Transition
from tidemill.retention.transitions import READABLE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOON = NOW + timedelta(hours=1)
"""Every deadline."""
AFTER_DEADLINE = NOW + timedelta(hours=2)
AFTER_SEAL = NOW + timedelta(days=2)
TIMES = (NOW, AFTER_DEADLINE, AFTER_SEAL)

NOTHING = -1
GARBAGE = 1 << 60
"""One row, as many as the first chunk has, with other values."""

KINDS = (
    "told", "decided", "worked", "looked", "dropped", "returned", "copied", "wrote", "held", "crashed",
)  # fmt: skip
"""What can happen: the methods of `Model` that give it."""

HOLD = Hold("public.ticks", None, None, "a law suit", "ada", NOW)


@dataclass(frozen=True)
class Bounds:
    """How large the world is. `memory`: results of the service's work may be stored late. `holds`: there are some."""

    slices: int = 1
    seals: int = 2
    writes: int = 2
    memory: bool = True
    holds: bool = True


class QuickId(SliceId):
    """A slice's id whose text, which every refusal has, costs nothing."""

    def __str__(self) -> str:
        return "a slice"


class Cell(NamedTuple):
    """One slice and its rows. Slices and copies are numbers in the model's tables; `seen` is what a drop looked at."""

    slice: int
    chunk: int
    late: int
    written: int
    lake: tuple[int, ...]
    measuring: tuple[int, int] | None = None
    reading: tuple[int, int] | None = None
    seen: int = NOTHING


class World(NamedTuple):
    cells: tuple[Cell, ...]
    held: bool = False
    writes: int = 0


def measured(mask: int) -> Measured:
    return Measured(mask.bit_count(), f"v1:{mask:016x}:{mask:016x}", None, None)


class Model:
    """The world's laws. Slices that differ in times only are the same; what depends on them alone is kept."""

    def __init__(self, rules: Rules | None = None, bounds: Bounds | None = None) -> None:
        self.rules = rules or Rules()
        self.bounds = bounds or Bounds()
        self.limits = AnswerLimits(max_attempts=2)
        self.slices: list[Slice] = []
        self.copies: list[CopyLocation] = []
        self._numbers: dict[Any, int] = {}
        self._alone: dict[int, list[tuple[str, int, bool]]] = {}
        self._answers: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self._cache: dict[Any, tuple[int, bool] | None] = {}
        self.messages = list(_messages(self.bounds))

    def start(self) -> World:
        cells = []
        for place in range(self.bounds.slices):
            start = datetime(2020, 1, 1 + place, tzinfo=UTC)
            which = QuickId("public.ticks", start, start + timedelta(days=1))
            new = Slice(which, ArchiveState.LIVE, NOW, Source.CHUNK, f"chunk{place}")
            row = 1 << 16 * place
            cells.append(Cell(self.number(new), row, 0, row, (NOTHING,) * self.bounds.seals))
        return World(tuple(cells))

    def number(self, which: Slice) -> int:
        """Return the number of a slice, its times flattened: past deadlines and present ones are all possible."""
        flat = replace(
            which,
            since=NOW,
            sealed_at=which.sealed_at and NOW,
            deadline=which.deadline and SOON,
            restore_until=which.restore_until and SOON,
            reason=None,
            verified=which.verified and replace(which.verified, at=NOW),
        )
        return self._intern(flat, self.slices)

    def _intern(self, thing: Any, table: list[Any]) -> int:
        number = self._numbers.get(thing)
        if number is None:
            number = self._numbers[thing] = len(table)
            table.append(thing)
        return number

    def content(self, world: World, place: int, location: str) -> int:
        """Return which rows are at `location`: `lake/PLACE/EVENT`, or `lake/EVENT` for the slice's own part."""
        parts = location.split("/")
        if len(parts) == 3:
            place = int(parts[1])
        if parts[-1] == "garbage":
            return GARBAGE
        event = int(parts[-1][1:])
        lake = world.cells[place].lake
        return lake[event - 1] if 0 < event <= len(lake) else NOTHING

    def edges(self, world: World) -> Iterator[Edge[World]]:
        for kind in KINDS:
            yield from getattr(self, kind)(world)

    def told(self, world: World) -> Iterator[Edge[World]]:
        """Any message."""
        key = tuple(cell.slice for cell in world.cells)
        if key not in self._answers:
            self._answers[key] = list(dict.fromkeys(self._fold(key, message) for message in self.messages))
        for numbers in self._answers[key]:
            if numbers != key:
                yield _told(world, numbers)

    def tell(self, world: World, message: ArchivalConfirmation) -> Edge[World]:
        """Return what one message does, nothing perhaps."""
        return _told(world, self._fold(tuple(cell.slice for cell in world.cells), message))

    def _fold(self, key: tuple[int, ...], message: ArchivalConfirmation) -> tuple[int, ...]:
        slices = [self.slices[number] for number in key]
        folded = self.rules.fold(message, slices, NOW, self.limits)
        after = {step.before.id: self.number(step.after) for step in folded.steps}
        return tuple(after.get(each.id, number) for each, number in zip(slices, key, strict=True))

    def decided(self, world: World) -> Iterator[Edge[World]]:
        """What the service, time or an operator does that looks at nothing but the slice."""
        for place, cell in enumerate(world.cells):
            key = cell.slice * 2 + world.held
            if key not in self._alone:
                self._alone[key] = self._decisions(self.slices[cell.slice], holds=(HOLD,) * world.held)
            for name, number, opens in self._alone[key]:
                yield Edge(name, self._moved(world, place, cell, number, opens=opens))

    def _decisions(self, which: Slice, holds: tuple[Hold, ...]) -> list[tuple[str, int, bool]]:
        rules, limits = self.rules, self.limits
        moves = [
            ("choose", rules.choose(which, NOW)),
            ("refuse", rules.refuse(which, NOW, why="infinity in price")),
            ("request", rules.request(which, NOW, event_id=f"e{which.seal}", limits=limits)),
            ("let go", rules.resume_held(which, NOW, who="ada", why="settled", holds=holds)),
            ("release", rules.release(which, NOW, who="ada", why="a mistake")),
            *((f"again at {at}", rules.request_again(which, at, limits=limits)) for at in TIMES),
            *((f"give up at {at}", rules.give_up(which, at, limits=limits)) for at in TIMES),
        ]
        if which.seal < self.bounds.seals:
            moves.append(("seal", rules.seal(which, NOW, columns=(), holds=holds)))
            moves.append(("retry", rules.retry(which, NOW, who="ada", why="mended")))
        if which.copy is not None:
            moves.append(("quarantine", rules.quarantine(which, NOW, read=which.copy, why="not Parquet")))
        steps = [(name, step) for name, step in moves if isinstance(step, Transition)]
        return [(name, self.number(step.after), self.rules.opens(step)) for name, step in steps]

    def _moved(self, world: World, place: int, cell: Cell, number: int, *, opens: bool) -> World:
        """Return the world with a slice moved; when its range opens, its diverted rows move back."""
        if opens:
            cell = cell._replace(chunk=max(cell.chunk, 0) | cell.late, late=0)
        return _with(world, place, cell._replace(slice=number))

    def _try(self, name: str, number: int, *args: Any, **told: Any) -> tuple[int, bool] | None:
        """Return the slice's number after a rule, and whether that opens its range; None if it refuses."""
        key = (name, number, args, *told.values())
        if key not in self._cache:
            which = self.slices[number]
            step = getattr(self.rules, name)(which, *args, **told)
            done = (self.number(step.after), self.rules.opens(step)) if isinstance(step, Transition) else None
            self._cache[key] = done
        return self._cache[key]

    def worked(self, world: World) -> Iterator[Edge[World]]:
        """Measure and read back: begin now, store now or at any later time."""
        for place, cell in enumerate(world.cells):
            which = self.slices[cell.slice]
            if which.state is ArchiveState.SEALED and cell.chunk >= 0:
                begun = cell._replace(measuring=(which.seal, cell.chunk))
                if self.bounds.memory and cell.measuring is None:
                    yield Edge("begin to measure", _with(world, place, begun))
                yield from self._store_measurement(world, place, begun)
            yield from self._store_measurement(world, place, cell)
            if which.state in READABLE and which.copy is not None:
                content = self.content(world, place, which.copy.location)
                if content >= 0:  # if there is no file: "quarantine" above
                    begun = cell._replace(reading=(self._intern(which.copy, self.copies), content))
                    if self.bounds.memory and cell.reading is None:
                        yield Edge("begin to read", _with(world, place, begun))
                    yield from self._store_reading(world, place, begun)
            yield from self._store_reading(world, place, cell)

    def _store_measurement(self, world: World, place: int, cell: Cell) -> Iterator[Edge[World]]:
        if cell.measuring is not None:
            seal, mask = cell.measuring
            done = self._try("measure", cell.slice, NOW, seal=seal, found=measured(mask))
            if done is not None:
                after = cell._replace(measuring=None)
                yield Edge("measure", self._moved(world, place, after, done[0], opens=done[1]))

    def _store_reading(self, world: World, place: int, cell: Cell) -> Iterator[Edge[World]]:
        if cell.reading is not None:
            copy, mask = cell.reading
            done = self._try("verify", cell.slice, NOW, read=self.copies[copy], found=measured(mask))
            if done is not None:
                after = cell._replace(reading=None)
                yield Edge("verify", self._moved(world, place, after, done[0], opens=done[1]))

    def looked(self, world: World) -> Iterator[Edge[World]]:
        """The service loads a slice in order to drop it."""
        for place, cell in enumerate(world.cells):
            ripe = self.slices[cell.slice].state in {ArchiveState.CONFIRMED, ArchiveState.VERIFIED}
            if self.bounds.memory and ripe and cell.seen == NOTHING:
                yield Edge("look", _with(world, place, cell._replace(seen=cell.slice)))

    def dropped(self, world: World) -> Iterator[Edge[World]]:
        """Measure under lock, then drop or seal again; what was loaded may be old, the registry compares."""
        holds = (HOLD,) * world.held
        for place, cell in enumerate(world.cells):
            if cell.chunk < 0:
                continue
            found = measured(cell.chunk)
            for known in {cell.slice, cell.seen} - {NOTHING}:
                done = self._try("drop", known, NOW, found=found, holds=holds)
                if done is not None and self._same(known, cell.slice):
                    after = cell._replace(chunk=NOTHING, seen=NOTHING, slice=done[0])
                    yield Edge("drop", _with(world, place, after))
            done = self._try("reseal", cell.slice, NOW, found=found)
            if done is not None and self.slices[done[0]].seal <= self.bounds.seals:
                yield Edge("reseal", self._moved(world, place, cell, done[0], opens=done[1]))

    def _same(self, known: int, now: int) -> bool:
        """Compare as the registry does before it stores."""
        mine, its = self.slices[known], self.slices[now]
        return (mine.state, mine.seal, mine.attempt) == (its.state, its.seal, its.attempt)

    def returned(self, world: World) -> Iterator[Edge[World]]:
        """Restore, and evict or set aside what was restored."""
        holds = (HOLD,) * world.held
        for place, cell in enumerate(world.cells):
            which = self.slices[cell.slice]
            if which.state is ArchiveState.DROPPED and cell.chunk < 0 and which.copy is not None:
                content = self.content(world, place, which.copy.location)
                for back in (content, GARBAGE):  # a lake may have changed since
                    told = {"found": measured(back), "until": SOON, "chunk": which.chunk, "who": "ada"}
                    done = self._try("restore", cell.slice, NOW, **told)
                    if done is not None:
                        yield Edge("restore", _with(world, place, cell._replace(chunk=back, slice=done[0])))
            if which.state is not ArchiveState.RESTORED or cell.chunk < 0:
                continue
            found = measured(cell.chunk)
            for at, operator in ((NOW, None), (NOW, "ada"), (SOON, None)):
                done = self._try("evict", cell.slice, at, found=found, holds=holds, operator=operator)
                if done is not None:
                    yield Edge("evict", _with(world, place, cell._replace(chunk=NOTHING, slice=done[0])))
            done = self._try("quarantine_changed", cell.slice, AFTER_SEAL, found=found)
            if done is not None:
                yield Edge("quarantine", self._moved(world, place, cell, done[0], opens=done[1]))

    def copied(self, world: World) -> Iterator[Edge[World]]:
        """An archiver works on a request, the present one or one long forgotten."""
        for place, cell in enumerate(world.cells):
            which = self.slices[cell.slice]
            for event in (*which.superseded, which.event_id):
                at = int(event[1:]) - 1 if event else NOTHING
                if at >= 0 and cell.chunk >= 0 and cell.lake[at] == NOTHING:
                    lake = (*cell.lake[:at], cell.chunk, *cell.lake[at + 1 :])
                    yield Edge(f"copy {event}", _with(world, place, cell._replace(lake=lake)))

    def wrote(self, world: World) -> Iterator[Edge[World]]:
        """A row arrives by our writers, who respect the seal, or by a stranger's, who do not."""
        if world.writes >= self.bounds.writes:
            return
        further = world._replace(writes=world.writes + 1)
        for place, before in enumerate(world.cells):
            row = 1 << 16 * place + 1 + world.writes
            cell = before._replace(written=before.written | row)
            diverted = cell._replace(late=cell.late | row)
            inserted = cell._replace(chunk=cell.chunk | row) if cell.chunk >= 0 else diverted
            ours = diverted if self.slices[cell.slice].is_closed else inserted
            yield Edge("our row", _with(further, place, ours))
            if inserted != ours:
                yield Edge("an external row", _with(further, place, inserted))

    def held(self, world: World) -> Iterator[Edge[World]]:
        """A hold comes, with or without the slices being stopped, or is taken away."""
        if not self.bounds.holds:
            return
        yield Edge("hold", world._replace(held=not world.held))
        for place, cell in enumerate(world.cells):
            if self.slices[cell.slice].state in HOLDABLE:
                done = self._try("hold", cell.slice, NOW, who="ada", why="a law suit")
                if done is not None:
                    yield Edge("stop", _with(world, place, cell._replace(slice=done[0]))._replace(held=True))

    def crashed(self, world: World) -> Iterator[Edge[World]]:
        """The service forgets what it was about to store."""
        cells = tuple(cell._replace(measuring=None, reading=None, seen=NOTHING) for cell in world.cells)
        if cells != world.cells:
            yield Edge("crash", world._replace(cells=cells))


def _told(world: World, numbers: tuple[int, ...]) -> Edge[World]:
    cells = (cell._replace(slice=number) for cell, number in zip(world.cells, numbers, strict=True))
    return Edge("message", world._replace(cells=tuple(cells)))


def _with(world: World, place: int, cell: Cell) -> World:
    return world._replace(cells=(*world.cells[:place], cell, *world.cells[place + 1 :]))


def _messages(bounds: Bounds) -> Iterator[ArchivalConfirmation]:
    """Give every kind of answer to every request that there can be, and to one that there cannot."""
    status = ArchivalStatus
    events = [f"e{number}" for number in range(1, bounds.seals + 1)]
    places = ["lake/garbage", *(f"lake/{event}" for event in events)]
    if bounds.slices > 1:
        places += [f"lake/{place}/{event}" for event in events for place in range(bounds.slices)]
    completed: list[dict[str, Any]] = [
        {"status": status.COMPLETED, "lakehouse_path": place} for place in places
    ]
    said: list[dict[str, Any]] = [
        {"status": status.PENDING},
        {"status": status.IN_PROGRESS},
        {"status": status.COMPLETED},
        {"status": status.FAILED, "retryable": False},
        *({"status": status.FAILED, "attempt": attempt} for attempt in (None, 1, 2, 99)),
        *completed,
    ]
    for chunk in range(bounds.slices if bounds.slices > 1 else 0):
        said += [words | {"chunks": _results(chunk, words["status"])} for words in completed]
        said.append({"status": status.COMPLETED, "chunks": _results(chunk, status.FAILED)})
    yield ArchivalConfirmation(event_id="e0", completed_at=NOW, **completed[0])
    for event in events:
        for words in said:
            yield ArchivalConfirmation(event_id=event, completed_at=NOW, **words)


def _results(chunk: int, status: ArchivalStatus) -> tuple[ArchivalResult, ...]:
    return (ArchivalResult(chunk_name=f"chunk{chunk}", status=status),)
