"""The batch: consecutive records of one or several lanes, applied in one transaction.

    lock the lanes, check the epochs, read progress   -> already consumed records are dropped
    find the ids                                      -> duplicates get the first outcome again
    decide, and write the effects                     -> a style per kind of command
    write log, parked, outbox, ledger                 -> numbered under the lock
    check again whether the generation is open, commit

Every failure has one answer: an id in the open generation or a rolled log -> redo; a value that the database
refuses -> bisect, left to right, without savepoints, and blame the record unless a table is not as declared; a repeat
of a record that this batch has to park -> cut before it, and decide it after the first; lanes that another process
claimed, or whose next record cannot even be parked -> continue without them; a transient error -> the caller backs off
and calls again, also after an unknown commit: the ledger, read under the lock, tells what was consumed.

The text of the headers of parked records is made before the lanes are locked; where only the rules park a record,
the batch is tried again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tidemill.commands.bad_records import evidence, reject_or_park
from tidemill.commands.decide_fold import HandlerResult, affected_rows
from tidemill.commands.handlers import MAX_ROWS, Handler, TooManyFoldPasses, TooManyRows
from tidemill.commands.numbering import BatchRows, Disposition, LaneNumbering, Repeat, clean
from tidemill.commands.parked_headers import unwritten, write_headers
from tidemill.commands.ports import CommandStore, Locked, UnitOfWork
from tidemill.commands.row_forecast import RowForecast
from tidemill.commands.rows import LoggedCommand, OutboxRow
from tidemill.commands.validation import IncomingCommand
from tidemill.commands.waits import Wait
from tidemill.domain.context import CommandSpec
from tidemill.domain.decision import Rejected
from tidemill.domain.errors import DataError, Fenced, GenerationClosed, RepeatedIds, TidemillError, Unreadable
from tidemill.domain.lane import Claim, lane_spans
from tidemill.domain.messages import Outcome
from tidemill.domain.rejections import HaltCode, RejectionCode
from tidemill.runtime.clock import Clock
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.runtime.telemetry.metrics import TIMES_AHEAD

_log = logger(__name__)

_LOOK_AHEAD_BATCHES = 32
"""How many batches look their ids up first after one found an id in the open generation: repeats come in runs."""


class _DecideAnew(TidemillError):
    """`arrival` repeats a record of its batch that has to be parked, which has no outcome to repeat: cut before it."""

    def __init__(self, arrival: IncomingCommand) -> None:
        super().__init__(f"offset {arrival.record.offset} repeats a record that is parked")
        self.arrival = arrival


class _HeadersUnwritten(TidemillError):
    """`arrivals` are to be parked, which was not known before: write their headers while no lane is locked."""

    def __init__(self, arrivals: Sequence[IncomingCommand]) -> None:
        super().__init__(f"{len(arrivals)} records are to be parked")
        self.arrivals = arrivals


@dataclass
class BatchResult:
    """The result of a batch, over all of its transactions.

    `fenced`: the lanes that another process claimed. `halted`: lane id -> code and evidence, of those stopped before a
    record that the database refuses in every form. `waits`: lane id -> what it waits for, of those stopped before a
    command of a newer version. All of them kept what was applied before.
    """

    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    events: int = 0
    outcomes: list[tuple[IncomingCommand, OutboxRow]] = field(default_factory=list)
    fenced: frozenset[int] = frozenset()
    halted: dict[int, tuple[str, str]] = field(default_factory=dict)
    waits: dict[int, Wait] = field(default_factory=dict)

    def goes_on(self, arrival: IncomingCommand) -> bool:
        """Tell whether its lane may be processed further."""
        return arrival.lane_id not in self.fenced and arrival.lane_id not in self.halted


class BatchWriter:
    """Applies screened records of one stream."""

    def __init__(
        self,
        store: CommandStore,
        handlers: Mapping[type[CommandSpec], Handler],
        clock: Clock,
        *,
        horizon: timedelta,
        demand_tables: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`horizon`: for how long duplicates are found.

        `demand_tables` raises `TableMisfit` if a table is not as declared: called before a record is rejected because
        the database refused a value.
        """
        self._store = store
        self._handlers = handlers
        self._clock = clock
        self._horizon = horizon
        self._demand_tables = demand_tables
        self._forecast = RowForecast(MAX_ROWS)
        self._look_ahead = 0
        self._reached: dict[int, tuple[int, int]] = {}

    async def apply(self, claims: Mapping[int, Claim], arrivals: Sequence[IncomingCommand]) -> BatchResult:
        """Apply `arrivals` (by lane ascending, then offset) under `claims` (lane id -> claim).

        Raises `TransientError` after only whole parts were committed: call again with the same records.
        """
        result = BatchResult()
        for piece in self._forecast.pieces(arrivals):
            await self._part(dict(claims), list(filter(result.goes_on, piece)), result)
        return result

    async def _part(
        self, claims: dict[int, Claim], arrivals: list[IncomingCommand], result: BatchResult
    ) -> None:
        while arrivals:
            held = {each.lane_id: claims[each.lane_id] for each in arrivals}
            unreadable = [each for each in arrivals if isinstance(each.disposition, Unreadable)]
            await write_headers(unreadable, self._store.headers_text)
            try:
                await self._transaction(held, arrivals, result)
                return
            except Fenced as fenced:
                result.fenced |= fenced.lanes
                arrivals = [each for each in arrivals if result.goes_on(each)]
            except RepeatedIds:
                self._look_ahead = _LOOK_AHEAD_BATCHES
            except _HeadersUnwritten as parked:
                await write_headers(parked.arrivals, self._store.headers_text)
            except GenerationClosed:
                continue
            except (DataError, TooManyFoldPasses, TooManyRows, _DecideAnew) as refused:
                # of all: smaller parts show what is to be parked
                await write_headers(arrivals, self._store.headers_text)
                if len(arrivals) > 1:
                    middle = _cut(arrivals, refused)
                    await self._part(claims, arrivals[:middle], result)
                    arrivals = [each for each in arrivals[middle:] if result.goes_on(each)]
                elif not await self._reject_or_park(arrivals[0], refused):
                    result.halted[arrivals[0].lane_id] = (
                        HaltCode.PARKING_REFUSED,
                        evidence(arrivals[0], refused),
                    )
                    return

    async def _reject_or_park(self, arrival: IncomingCommand, refused: TidemillError) -> bool:
        """See `reject_or_park`; a table that is not as declared refuses valid values."""
        if isinstance(refused, DataError) and self._demand_tables is not None:
            await self._demand_tables()
        return reject_or_park(arrival, refused)

    async def _transaction(
        self, claims: Mapping[int, Claim], arrivals: Sequence[IncomingCommand], result: BatchResult
    ) -> None:
        started_s = self._clock.monotonic_s()
        async with self._store.unit_of_work() as work:
            locked = await work.lock(list(claims.values()))
            self._check_not_set_back(claims, locked)
            if ahead := locked.ahead():
                _tell_wrong_times(claims, ahead)
            fresh = [
                each for each in arrivals if each.record.offset >= locked.progress[each.lane_id].next_offset
            ]
            if not fresh:
                return
            looked = self._look_ahead > 0  # once: other batches change it while this one waits
            known = await work.find([one.command_id for one in fresh if one.command_id], open_too=looked)
            plan = _Plan(fresh, known, locked.now, self._horizon, claims)
            dispositions = await self._dispositions(work, plan, fresh, locked)
            if missing := unwritten(fresh, dispositions):
                raise _HeadersUnwritten(missing)
            seconds = self._clock.monotonic_s() - started_s
            rows, outcomes = _enter(claims, locked, fresh, dispositions, seconds)
            if rows.parked and not looked and _any_named(fresh, dispositions):
                raise RepeatedIds("a record to be parked has an id, which may have an outcome already")
            await work.log(rows.log)
            await work.park(rows.parked)
            await work.send(rows.outbox)
            await work.append_ledger(rows.ledger)
        if any(row.rows is not None for row in rows.ledger):
            self._forecast.learn(fresh, dispositions)
        self._look_ahead = max(0, self._look_ahead - 1)
        self._reached |= {row.lane: (row.epoch, row.to_offset) for row in rows.ledger}
        _sum_up(result, rows, outcomes)

    def _check_not_set_back(self, claims: Mapping[int, Claim], locked: Locked) -> None:
        """Raise `Fenced` for lanes whose ledger is older than what this claim committed: the database was restored.

        What was committed meanwhile would be lost without a trace. The next claim compares with the topics,
        and halts.
        """
        behind = frozenset(
            lane_id
            for lane_id, claim in claims.items()
            if self._reached.get(lane_id, (0, 0)) > (claim.epoch, locked.progress[lane_id].next_offset)
            and self._reached[lane_id][0] == claim.epoch
        )
        if behind:
            raise Fenced(behind)

    async def _dispositions(
        self, work: UnitOfWork, plan: _Plan, fresh: Sequence[IncomingCommand], locked: Locked
    ) -> list[Disposition]:
        """Return the disposition of each record, in order, with its effects written."""
        for kind, handler in self._handlers.items():
            new = [index for index in plan.new if type(fresh[index].spec) is kind]
            if new:
                results = await handler.apply(work, [fresh[index] for index in new], locked)
                plan.settle(new, results)
        return plan.dispositions(locked)


class _Plan:
    """Which records of a batch are new, and what the others repeat."""

    def __init__(
        self,
        fresh: Sequence[IncomingCommand],
        known: Mapping[str, LoggedCommand],
        now: datetime,
        horizon: timedelta,
        claims: Mapping[int, Claim],
    ) -> None:
        self._fresh = fresh
        self._claims = claims
        self._dispositions: dict[int, Disposition] = {}
        self._repeats: dict[int, int] = {}
        self.new: list[int] = []
        first_by_id: dict[str, int] = {}
        for index, arrival in enumerate(fresh):
            command_id = arrival.command_id
            if command_id is not None:
                if (logged := known.get(command_id)) is not None:
                    self._dispositions[index] = Repeat(logged, reused=logged.digest != arrival.digest)
                    continue
                if (first := first_by_id.setdefault(command_id, index)) != index:
                    self._repeats[index] = first
                    continue
            disposition = arrival.disposition_at(now) or _stale(command_id, now - horizon)
            if disposition is not None:
                self._dispositions[index] = disposition
            else:
                self.new.append(index)

    def settle(self, indexes: Sequence[int], results: Sequence[HandlerResult]) -> None:
        """Store the answers of a handler."""
        self._dispositions.update(zip(indexes, results, strict=True))

    def dispositions(self, locked: Locked) -> list[Disposition]:
        """Return every record's disposition, those that repeat a record of this very batch included.

        Raises `_DecideAnew` if the one that is repeated had to be parked: then there is no outcome to repeat, and
        later records depend on the result of the repeat.
        """
        known = self._dispositions
        anew = [index for index, first in self._repeats.items() if isinstance(known[first], Unreadable)]
        if anew:
            raise _DecideAnew(self._fresh[anew[len(anew) // 2]])
        positions = _positions(self._fresh, locked)
        for index, first in self._repeats.items():
            self._dispositions[index] = self._repeat(index, first, positions[first])
        return [self._dispositions[index] for index in range(len(self._fresh))]

    def _repeat(self, index: int, first: int, position: int) -> Repeat:
        disposition, original, again = self._dispositions[first], self._fresh[first], self._fresh[index]
        assert original.command_id is not None
        refused = disposition if isinstance(disposition, Rejected) else None
        logged = LoggedCommand(
            command_id=original.command_id,
            digest=original.digest,
            outcome=(Outcome.REJECTED if refused else Outcome.APPLIED).letter,
            code=refused.code if refused else None,
            detail=clean(refused.message) if refused else None,
            lane=self._claims[original.lane_id].lane.name,
            position=position,
            sequence=0,
            rows=affected_rows(disposition),
        )
        return Repeat(logged, reused=original.digest != again.digest)


def _positions(fresh: Sequence[IncomingCommand], locked: Locked) -> list[int]:
    """Return the position that each record is about to get."""
    last = {lane_id: progress.position for lane_id, progress in locked.progress.items()}
    positions = []
    for arrival in fresh:
        last[arrival.lane_id] += 1
        positions.append(last[arrival.lane_id])
    return positions


def _enter(
    claims: Mapping[int, Claim],
    locked: Locked,
    fresh: Sequence[IncomingCommand],
    dispositions: Sequence[Disposition],
    seconds: float,
) -> tuple[BatchRows, list[tuple[IncomingCommand, OutboxRow]]]:
    rows = BatchRows()
    outcomes = []
    by_lane: dict[int, list[tuple[IncomingCommand, Disposition]]] = defaultdict(list)
    for arrival, disposition in zip(fresh, dispositions, strict=True):
        by_lane[arrival.lane_id].append((arrival, disposition))
    for lane_id, entries in by_lane.items():
        numbering = LaneNumbering(
            rows, claims[lane_id], locked.progress[lane_id], locked.gen, locked.at(lane_id), seconds
        )
        outcomes += [(arrival, numbering.enter(arrival, disposition)) for arrival, disposition in entries]
        numbering.close(entries[-1][0].record)
    return rows, outcomes


def _sum_up(result: BatchResult, rows: BatchRows, outcomes: list[tuple[IncomingCommand, OutboxRow]]) -> None:
    for outcome, count in rows.counts.items():
        result.counts[outcome] += count
    result.events += sum(row.events for row in rows.ledger)
    result.outcomes += outcomes


def _tell_wrong_times(claims: Mapping[int, Claim], ahead: Mapping[int, timedelta]) -> None:
    aggregate = claims[next(iter(ahead))].lane.aggregate
    TIMES_AHEAD.labels(aggregate).inc(len(ahead))
    _log.warning(
        Log.TIME_WAS_AHEAD,
        aggregate=aggregate,
        lanes=lane_spans(claims[lane_id].lane for lane_id in ahead),
        seconds=max(ahead.values()).total_seconds(),
        next="the database's clock is or was wrong: check it; the lanes take its present time",
    )


def _stale(command_id: str | None, oldest: datetime) -> Rejected | None:
    """Only a UUIDv7 has a creation time (RFC 9562, 5.7): beyond the horizon it may be a repeat."""
    if command_id is None or command_id[14] != "7":
        return None
    born_ms = UUID(command_id).int >> 80
    if (
        born_ms >= oldest.timestamp() * 1000
    ):  # compared as a number: 48 bits reach beyond the years of a datetime
        return None
    born = datetime.fromtimestamp(born_ms / 1000, UTC)
    return Rejected(
        RejectionCode.STALE,
        f"command_id was created at {born:%Y-%m-%d %H:%M} UTC, before the duplicate horizon",
    )


def _any_named(fresh: Sequence[IncomingCommand], dispositions: Sequence[Disposition]) -> bool:
    """Tell whether a record with an id is to be parked: parked rows have no id, so no index finds a repeat."""
    return any(
        isinstance(disposition, Unreadable) and arrival.command_id is not None
        for arrival, disposition in zip(fresh, dispositions, strict=True)
    )


def _cut(arrivals: Sequence[IncomingCommand], refused: TidemillError) -> int:
    """Return where to cut a batch: in the middle, or, of several repeats to be decided again, before the middle one."""
    if isinstance(refused, _DecideAnew):
        return next(index for index, each in enumerate(arrivals) if each is refused.arrival)
    return len(arrivals) // 2
