"""The two kinds of handlers: `append` facts, and `decide` about an aggregate. Set-wise: a few statements per batch.

A handler gets the new and valid commands of a batch, in lane and offset order, and returns for each the events
that happened, or a rejection. It writes through the unit of work of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Protocol

from tidemill.commands.decide_fold import EncodedEvent, FoldResult, HandlerResult, Value, fold_all
from tidemill.commands.late_rows import range_closed, split
from tidemill.commands.ports import CommandCodec, Locked, UnitOfWork
from tidemill.commands.validation import IncomingCommand, crashed
from tidemill.domain.archive.policy import LateRule, Retention
from tidemill.domain.context import AppendSpec, CommandSpec, DecideSpec
from tidemill.domain.decision import Accepted, Rejected
from tidemill.domain.errors import ContractError, TidemillError
from tidemill.domain.messages import EventBase
from tidemill.domain.rejections import RejectionCode
from tidemill.domain.stream import Stream

_MAX_PASSES = 16
"""How often a batch is folded before it is cut in half: commands that reveal a value each would take one pass each."""


class TooManyFoldPasses(TidemillError):
    """The commands of a batch depend on each other too deeply to be folded together: fold fewer."""


class Handler(Protocol):
    """How the commands of one kind of spec are decided and their effects written."""

    async def apply(
        self, work: UnitOfWork, arrivals: Sequence[IncomingCommand], locked: Locked
    ) -> list[HandlerResult]:
        """Return a result per arrival, in order, after writing their changes."""
        ...


@dataclass(frozen=True)
class _AppendPlan:
    """How rows of one append command are made: computed once, used for every record.

    `time_at`: the number of the column that decides whether a row is late; None if the table takes all rows.
    """

    spec: AppendSpec
    event_name: str
    columns: tuple[str, ...]
    values: Callable[[Any], tuple[Any, ...]]
    with_id: bool
    time_at: int | None
    rejects_late: bool


class AppendHandler:
    """Facts into a table: one COPY per table and batch."""

    def __init__(self, stream: Stream, codec: CommandCodec, max_event_bytes: int) -> None:
        """`max_event_bytes`: the largest framed event that its topic takes."""
        self._codec = codec
        self._max_event_bytes = max_event_bytes
        names = {event: name for name, event in stream.events.items()}
        specs = [spec for spec in stream.commands.values() if isinstance(spec, AppendSpec)]
        self._plans = {spec.model: _plan(spec, names[spec.event], stream.retention) for spec in specs}

    async def apply(
        self, work: UnitOfWork, arrivals: Sequence[IncomingCommand], locked: Locked
    ) -> list[HandlerResult]:
        """Check, encode and append; the row and the event of a refused command are never made."""
        rows: dict[type, list[tuple[Any, ...]]] = {}
        results = [self._one(arrival, locked.now, rows) for arrival in arrivals]
        for model, table_rows in rows.items():
            plan, on_time = self._plans[model], table_rows
            if plan.time_at is not None:
                on_time, late = await split(work, plan.spec.table, table_rows, plan.time_at)
                if late and plan.rejects_late:
                    _refuse(late, model, arrivals, results)
                elif late:
                    diverted = [table_rows[index] for index in late]
                    await work.divert(plan.spec.table, plan.columns, diverted, list(late.values()))
            if on_time:
                await work.append(plan.spec.table, plan.columns, on_time)
        return results

    def _one(
        self, arrival: IncomingCommand, at: datetime, rows: dict[type, list[tuple[Any, ...]]]
    ) -> HandlerResult:
        command = arrival.command
        assert command is not None
        assert arrival.decoded is not None
        plan = self._plans[type(command)]
        try:
            refusal = plan.spec.check(command, at) if plan.spec.check is not None else None
            payload = self._codec.appended_event(arrival.decoded, plan.spec.event)
        except Exception as fault:  # noqa: BLE001  a check's bug must not stop its lane: the record is parked
            return crashed(fault)
        if refusal is not None:
            return refusal
        if len(payload) > self._max_event_bytes:
            return too_large(len(payload), self._max_event_bytes)
        values = plan.values(command)
        rows.setdefault(type(command), []).append((*values, arrival.command_id) if plan.with_id else values)
        return [EncodedEvent(plan.event_name, payload)]


class DecideHandler:
    """Aggregates: load the rows of all keys once, fold, write the rows that changed."""

    def __init__(self, stream: Stream, codec: CommandCodec, max_event_bytes: int) -> None:
        """`max_event_bytes`: the largest framed event that its topic takes."""
        assert stream.state is not None
        self._state = stream.state
        self._key = stream.key
        self._codec = codec
        self._max_event_bytes = max_event_bytes
        self._names = {event: name for name, event in stream.events.items()}

    async def apply(
        self, work: UnitOfWork, arrivals: Sequence[IncomingCommand], locked: Locked
    ) -> list[HandlerResult]:
        """Fold until every unique value's holder is known, then write the changed rows."""
        at = {lane_id: locked.at(lane_id) for lane_id in locked.progress}
        commands = [(self._key(each.command), each.spec, each.command, at[each.lane_id]) for each in arrivals]
        keys = sorted({key for key, *_ in commands})
        loaded = await work.load(self._state, keys)
        folded = await self._fold(work, loaded, commands)
        if folded.states:
            old = {key: loaded[key].version for key in folded.states if key in loaded}
            await work.replace(self._state, old, list(folded.states.values()))
        return folded.results

    async def _fold(self, work: UnitOfWork, loaded: dict[str, Any], commands: Any) -> FoldResult:
        holders: dict[int, dict[Value, str | None]] = {}
        for _ in range(_MAX_PASSES):
            folded = fold_all(self._state, loaded, holders, self._encode, commands)
            if not folded.unknown:
                return folded
            for index, values in folded.unknown.items():
                wanted = sorted(values)
                found = await work.owners(self._state, self._state.unique[index], wanted)
                holders.setdefault(index, {}).update({value: found.get(value) for value in wanted})
        raise TooManyFoldPasses(f"{len(commands)} commands take unique values that are found one by one")

    def _encode(self, decision: Accepted) -> list[EncodedEvent] | Rejected:
        encoded = [self._encoded_event(event) for event in decision.events]
        largest = max(len(event.payload) for event in encoded)
        return too_large(largest, self._max_event_bytes) if largest > self._max_event_bytes else encoded

    def _encoded_event(self, event: EventBase) -> EncodedEvent:
        return EncodedEvent(self._names[type(event)], self._codec.encode_event(event))


def handlers_of(
    stream: Stream, codec: CommandCodec, max_event_bytes: int
) -> dict[type[CommandSpec], Handler]:
    """Return the built-in handlers that the stream's commands need."""
    kinds = {type(spec) for spec in stream.commands.values()}
    handlers: dict[type[CommandSpec], Handler] = {}
    if AppendSpec in kinds:
        handlers[AppendSpec] = AppendHandler(stream, codec, max_event_bytes)
    if DecideSpec in kinds:
        handlers[DecideSpec] = DecideHandler(stream, codec, max_event_bytes)
    return handlers


def too_large(size: int, limit: int) -> Rejected:
    """Refuse a command whose event Kafka would refuse."""
    return Rejected(
        RejectionCode.TOO_LARGE,
        f"its event would take {size} bytes, the event topic takes {limit}: send less at once",
    )


def _refuse(
    late: Mapping[int, datetime],
    model: type,
    arrivals: Sequence[IncomingCommand],
    results: list[HandlerResult],
) -> None:
    """Refuse the commands of late rows; rows were made in the order of the commands that were not refused before."""
    made = [
        index
        for index, arrival in enumerate(arrivals)
        if type(arrival.command) is model and isinstance(results[index], list)
    ]
    for row, start in late.items():
        results[made[row]] = range_closed(start)


def _plan(spec: AppendSpec, event_name: str, retention: Retention | None) -> _AppendPlan:
    """Match columns to fields by name, and refuse at start what does not fit."""
    fields = spec.model.model_fields
    columns = [column for column in spec.table.columns if column.name != "command_id"]
    missing = [column.name for column in columns if column.name not in fields and not column.nullable]
    if missing:
        raise ContractError(
            f"append {spec.model.__name__}: table {spec.table.name} needs {missing}; add the fields, or allow null"
        )
    named = tuple(column.name for column in columns if column.name in fields)
    with_id = "command_id" in spec.table.columns
    leaves = retention is not None and retention.table is spec.table
    return _AppendPlan(
        spec=spec,
        event_name=event_name,
        columns=(*named, "command_id") if with_id else named,
        values=attrgetter(*named) if len(named) > 1 else lambda command: (getattr(command, named[0]),),
        with_id=with_id,
        time_at=named.index(retention.time_column) if leaves and retention is not None else None,
        rejects_late=leaves and retention is not None and retention.late is LateRule.REJECT,
    )
