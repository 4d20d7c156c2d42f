"""The two kinds of handlers: `append` facts, and `decide` about an aggregate. Set-wise: a few statements per batch.

A handler gets the new and valid commands of a batch, in lane and offset order, and returns for each the events
that happened, or a rejection. It writes through the unit of work of the batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from tidemill.commands.crashes import crashed
from tidemill.commands.decide_fold import (
    AppliedRows,
    DataKeyOf,
    DecideCommand,
    EncodedEvent,
    FoldPlan,
    FoldResult,
    HandlerResult,
    HolderOf,
    InForce,
    LateIn,
    Question,
    ReferredTo,
    RowOf,
    affected_rows,
    fold_all,
)
from tidemill.commands.fact_rows import FactTable, MakeRows, decided_tables, row_maker, values_of
from tidemill.commands.foreseen import ask_foreseen, foreseen_by
from tidemill.commands.late_rows import Row, late_among
from tidemill.commands.ports import CommandCodec, Locked, UnitOfWork
from tidemill.commands.secret_events import RowKeys, sealer_of
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.archive.policy import Retention
from tidemill.domain.context import AppendSpec, CommandSpec, DecideSpec
from tidemill.domain.decision import Accepted, Rejected
from tidemill.domain.errors import ContractError, TidemillError
from tidemill.domain.rejections import RejectionCode
from tidemill.domain.stream import Stream

_MAX_PASSES = 16
"""How often a batch is folded before it is cut in half: commands that reveal a value each would take one pass each."""


class TooManyFoldPasses(TidemillError):
    """The commands of a batch depend on each other too deeply to be folded together: fold fewer."""


class TooManyRows(TidemillError):
    """The commands of a batch have more rows together than may be in memory at once: apply fewer."""


MAX_ROWS: Final = 50_000
"""How many rows a batch may append: from there on it is cut in half, unless it is one command alone."""


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

    `values`: of its row, without the id. `many`: makes its rows instead, where they are not one.
    """

    spec: AppendSpec
    event_name: str
    facts: FactTable
    with_id: bool
    values: Callable[[Any], Row]
    many: MakeRows | None


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
        """Check, encode and append; the rows and the event of a refused command are never made.

        Raises `TooManyRows` if there are several commands.
        """
        rows: dict[type, list[Row]] = {}
        results = [self._one(arrival, locked.now, rows) for arrival in arrivals]
        for model, table_rows in rows.items():
            owners = partial(_owners, model, arrivals, results)
            refused = await self._plans[model].facts.write(work, table_rows, owners)
            for index, refusal in refused.items():
                results[index] = refusal
        return results

    def _one(self, arrival: IncomingCommand, at: datetime, rows: dict[type, list[Row]]) -> HandlerResult:
        command = arrival.command
        assert command is not None
        assert arrival.decoded is not None
        plan = self._plans[type(command)]
        try:
            refusal = plan.spec.refusal(command, at)
            payload = self._codec.appended_event(arrival.decoded, plan.spec.event)
            many = None if plan.many is None or refusal is not None else plan.many(command, _id_of(arrival))
        except Exception as fault:  # noqa: BLE001  a check's bug must not stop its lane: the record is parked
            return crashed(fault)
        if refusal is not None:
            return refusal
        if len(payload) > self._max_event_bytes:
            return too_large(len(payload), self._max_event_bytes)
        events = [EncodedEvent(plan.event_name, payload)]
        if many is not None:
            table_rows = rows.setdefault(type(command), [])
            _demand_room(len(table_rows), len(many))
            table_rows += many
            return events if len(many) == 1 else AppliedRows(events, len(many))
        values = plan.values(command)
        rows.setdefault(type(command), []).append((*values, arrival.command_id) if plan.with_id else values)
        return events


class DecideHandler:
    """Aggregates: load the rows of all keys once, fold, write the rows that changed."""

    def __init__(
        self, stream: Stream, codec: CommandCodec, max_event_bytes: int, row_keys: RowKeys | None = None
    ) -> None:
        """`max_event_bytes`: the largest framed event that its topic takes. `row_keys`: None without a master key.

        Raises:
            ContractError: a state refers to one that is not among the stream's own and those of `stream.others`.
            MasterKeyMissing: the stream has secrets that may not be kept in clear, and there are no keys.
        """
        self._stream = stream
        self._row_keys = row_keys
        facts = decided_tables(stream.commands.values(), stream.retention)
        self._plan = FoldPlan.of(stream.states, stream.referring, facts, sealer_of(stream, row_keys))
        self._codec = codec
        self._max_event_bytes = max_event_bytes
        self._names = {event: name for name, event in stream.events.items()}
        self._numbers = {
            spec.model: 0 if spec.state is None else stream.states.index(spec.state)
            for spec in stream.commands.values()
            if isinstance(spec, DecideSpec)
        }
        self._numbers |= {
            ending.command: number for number, state in enumerate(stream.states) for ending in state.endings
        }
        self._foreseen = foreseen_by(self._plan, self._numbers)
        for state in stream.states:
            for reference in state.refers:
                if reference.to not in self._plan.inside and reference.to not in stream.others:
                    raise ContractError(f"{state.name} refers to {reference.to}, which is not known here")

    async def apply(
        self, work: UnitOfWork, arrivals: Sequence[IncomingCommand], locked: Locked
    ) -> list[HandlerResult]:
        """Fold until every question about other rows is answered, then write the changed rows.

        Raises `TooManyFoldPasses`, `TooManyRows` if there are several commands.
        """
        commands = self._commands(arrivals, locked)
        answers: dict[Question, dict[Any, Any]] = {}
        await self._answer(work, self._questions(commands), answers)
        folded = await self._fold(work, answers, commands)
        for number, state in enumerate(self._plan.states):
            after = {key: row for (own, key), row in folded.states.items() if own == number}
            if after:
                known = answers[RowOf(number)]
                before = {key: known[key] for key in after if known[key] is not None}
                await self._store_keys(work, number, answers, after)
                await work.replace(state, before, after)
        await self._append(work, folded)
        return folded.results

    async def _append(self, work: UnitOfWork, folded: FoldResult) -> None:
        """Append the rows of the decisions, by table; those that refuse late rows were asked about in the fold."""
        rows: dict[type, list[Row]] = defaultdict(list)
        for _, model, appended in folded.appended:
            _demand_room(len(rows[model]), len(appended))
            rows[model] += appended
        for model, table_rows in rows.items():
            refused = await self._plan.facts[model].write(work, table_rows, lambda: ())
            assert not refused, "nothing is closed between the fold and this"

    async def _store_keys(
        self,
        work: UnitOfWork,
        number: int,
        answers: Mapping[Question, Mapping[Any, Any]],
        after: Mapping[str, Any],
    ) -> None:
        """Store the new data keys of rows that changed."""
        asked = answers.get(DataKeyOf(number), {})
        used = {key: asked[key] for key in after if key in asked}
        if used and self._row_keys is not None:
            await self._row_keys.store(work, self._plan.states[number], used)

    def _questions(self, commands: Sequence[DecideCommand]) -> dict[Question, set[Any]]:
        """Return what the commands ask by themselves."""
        asked: dict[Question, set[Any]] = defaultdict(set)
        numbers = range(len(self._plan.states))
        rows, data_keys = ([asked[kind(number)] for number in numbers] for kind in (RowOf, DataKeyOf))
        sealer = self._plan.sealer
        for number, key, _, command, *_ in commands:
            rows[number].add(key)
            if sealer is not None and sealer.filled(number, command):
                data_keys[number].add(key)
        ask_foreseen(self._foreseen, commands, asked)
        return {question: values for question, values in asked.items() if values}

    def _commands(self, arrivals: Sequence[IncomingCommand], locked: Locked) -> list[DecideCommand]:
        at = {lane_id: locked.at(lane_id) for lane_id in locked.progress}
        stream_key, numbers = self._stream.key, self._numbers
        commands = []
        for each in arrivals:
            spec, command = each.spec, each.command
            assert isinstance(spec, DecideSpec)
            assert command is not None
            number = numbers[spec.model]
            key = stream_key(command) if spec.key is None else spec.key(command)
            commands.append(
                DecideCommand(
                    number, key, spec, command, at[each.lane_id], each.command_id or "", each.decoded
                )
            )
        return commands

    async def _fold(
        self,
        work: UnitOfWork,
        answers: dict[Question, dict[Any, Any]],
        commands: Sequence[DecideCommand],
    ) -> FoldResult:
        for _ in range(_MAX_PASSES):
            folded = fold_all(self._plan, answers, self._encode, commands)
            if not folded.unknown:
                return folded
            await self._answer(work, folded.unknown, answers)
        raise TooManyFoldPasses(f"{len(commands)} commands reveal what they depend on one by one")

    async def _answer(
        self,
        work: UnitOfWork,
        unknown: Mapping[Question, set[Any]],
        answers: dict[Question, dict[Any, Any]],
    ) -> None:
        """Look up what is unknown, a statement or two for each question."""
        for question, values in unknown.items():
            answers.setdefault(question, {}).update(await self._looked_up(work, question, sorted(values)))

    async def _looked_up(self, work: UnitOfWork, question: Question, values: Sequence[Any]) -> dict[Any, Any]:
        match question:
            case RowOf(number):
                rows = await work.load(self._plan.states[number], values)
                return {key: rows.get(key) for key in values}
            case HolderOf(number, index):
                state = self._plan.states[number]
                held = await work.owners(state, state.unique[index], values)
                return {value: held.get(value) for value in values}
            case DataKeyOf(number):
                assert self._row_keys is not None, "asked by the sealer, which is made with them"
                return dict(await self._row_keys.load(work, self._plan.states[number], values))
            case InForce(name):
                there = await work.in_force(self._stream.others[name], values)
                return {key: key in there for key in values}
            case ReferredTo(number, index):
                child, reference = self._plan.referring[number][index]
                found = await work.referred_to(self._plan.states[number], child, reference, values)
                return {key: key in found for key in values}
            case LateIn(model):
                return await late_among(work, self._plan.facts[model].table, values)

    def _encode(self, decision: Accepted, command: DecideCommand) -> list[EncodedEvent] | Rejected:
        encode, names, decoded = self._codec.encode_event, self._names, command.decoded
        if len(decision.events) == 1:  # as of nearly all decisions
            (only,) = decision.events
            payload = encode(only, decoded)
            if len(payload) > self._max_event_bytes:
                return too_large(len(payload), self._max_event_bytes)
            return [EncodedEvent(names[type(only)], payload)]
        encoded = [EncodedEvent(names[type(event)], encode(event, decoded)) for event in decision.events]
        largest = max([len(event.payload) for event in encoded])
        return too_large(largest, self._max_event_bytes) if largest > self._max_event_bytes else encoded


def handlers_of(
    stream: Stream, codec: CommandCodec, max_event_bytes: int, row_keys: RowKeys | None = None
) -> dict[type[CommandSpec], Handler]:
    """Return the built-in handlers that the stream's commands need. `row_keys`: None without a master key.

    Raises:
        ContractError, MasterKeyMissing: as `DecideHandler`.
    """
    kinds = {type(spec) for spec in stream.commands.values()}
    handlers: dict[type[CommandSpec], Handler] = {}
    if AppendSpec in kinds:
        handlers[AppendSpec] = AppendHandler(stream, codec, max_event_bytes)
    if DecideSpec in kinds:
        handlers[DecideSpec] = DecideHandler(stream, codec, max_event_bytes, row_keys)
    return handlers


def too_large(size: int, limit: int) -> Rejected:
    """Refuse a command whose event Kafka would refuse."""
    return Rejected(
        RejectionCode.TOO_LARGE,
        f"its event would take {size} bytes, the event topic takes {limit}: send less at once",
    )


def _owners(model: type, arrivals: Sequence[IncomingCommand], results: Sequence[HandlerResult]) -> list[int]:
    """Return the command of each row: rows were made in the order of the commands that were not refused before."""
    ours = [index for index, arrival in enumerate(arrivals) if type(arrival.command) is model]
    return [index for index in ours for _ in range(affected_rows(results[index]))]


def _demand_room(held: int, more: int) -> None:
    """Raise `TooManyRows` if the rows of one more command are too many, unless they are alone."""
    if held and held + more > MAX_ROWS:
        raise TooManyRows(f"the commands of a batch have more than {MAX_ROWS} rows")


def _id_of(arrival: IncomingCommand) -> str:
    assert arrival.command_id is not None, "what has no identity is refused before"
    return arrival.command_id


def _plan(spec: AppendSpec, event_name: str, retention: Retention | None) -> _AppendPlan:
    """Match columns to fields by name, and refuse at start what does not fit."""
    facts, make = row_maker(spec, retention)
    own = facts.columns[:-1] if facts.with_id else facts.columns
    many = None if spec.rows is None else make
    return _AppendPlan(spec, event_name, facts, facts.with_id, values_of(own), many)
