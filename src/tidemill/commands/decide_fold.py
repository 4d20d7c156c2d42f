"""The fold of `decide` commands: pure, in record order, over all states of a stream.

The result must not depend on where a batch is cut. So a value's holder is followed through the batch as state is: taken
by the first that is accepted, freed when its holder releases it. What matters of other rows is only known while
folding: a fold that needs an answer that was not looked up notes the question in `unknown` and goes on as if the answer
suited. The caller looks the answers up and folds again, until nothing is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from tidemill.commands.crashes import crashed
from tidemill.commands.fact_rows import FactTable, complete
from tidemill.commands.late_rows import range_closed
from tidemill.commands.ports import Decoded
from tidemill.commands.refusal_texts import not_in_force, referred_to, taken
from tidemill.commands.secret_events import EventSealer
from tidemill.domain.context import DecideSpec
from tidemill.domain.decision import Accepted, Rejected
from tidemill.domain.errors import ContractError, Unreadable
from tidemill.domain.messages import CommandBase
from tidemill.domain.rejections import RejectionCode
from tidemill.domain.state import Reference, State

Value = tuple[Any, ...]
Row = Any
"""A state: an instance of `State.model`."""


class EncodedEvent(NamedTuple):
    """An event as it will be published: its Avro full name and its framed value."""

    type: str
    payload: bytes


class AppliedRows(NamedTuple):
    """An applied command whose rows are counted: it appended `rows` of them, where others append one."""

    events: list[EncodedEvent]
    rows: int


HandlerResult = list[EncodedEvent] | AppliedRows | Rejected | Unreadable
"""The events of an applied command (possibly none), its rejection, or the failure of its rule, which parks it."""


def affected_rows(result: object) -> int:
    """Return how many rows a command affected, by its handler's result; the log says the same of an earlier one."""
    if isinstance(result, AppliedRows):
        return result.rows
    return int(isinstance(result, list) and bool(result))


Encode = Callable[[Accepted, "DecideCommand"], "list[EncodedEvent] | Rejected"]
"""Makes the events of a command's decision; refuses one whose events are too large to send."""


@dataclass(frozen=True, slots=True)
class HolderOf:
    """Which key holds a unique value? Answered with the key, or None. `state`, `unique`: by their numbers."""

    state: int
    unique: int


@dataclass(frozen=True, slots=True)
class RowOf:
    """What is the row of a key of this stream? Answered with the row, or None."""

    state: int


@dataclass(frozen=True, slots=True)
class InForce:
    """Is the row of another stream in force that has this key? Answered with a truth value."""

    name: str


@dataclass(frozen=True, slots=True)
class ReferredTo:
    """Does a row of another stream that is in force refer to this key? `child`: its number in `Stream.referring`."""

    state: int
    child: int


@dataclass(frozen=True, slots=True)
class LateIn:
    """Is a row of this time late, which this kind of command appends? Answered with the start of its range, or None."""

    model: type


@dataclass(frozen=True, slots=True)
class DataKeyOf:
    """Which key encrypts the secrets of a row? Answered with a key, a new one where there is none."""

    state: int


Question = HolderOf | RowOf | InForce | ReferredTo | LateIn | DataKeyOf
"""What a fold asks about rows that it does not have; asked for several values at once. No tuples: kinds would be
equal."""

Answers = Mapping[Question, Mapping[Any, Any]]
"""Question -> value -> answer."""


class DecideCommand(NamedTuple):
    """A command for a fold. `state`: the number of its state. `key`: of its row. `at`: the time of its events.

    `command_id`: for the rows that it appends. `decoded`: its payload, if there is one.
    """

    state: int
    key: str
    spec: DecideSpec
    command: CommandBase
    at: datetime
    command_id: str = ""
    decoded: Decoded | None = None


class AppendedRows(NamedTuple):
    """What a decision appends. `number`: of its command in the batch, `model`: its class."""

    number: int
    model: type
    rows: list[tuple[Any, ...]]


class Move(NamedTuple):
    """What an event changes about a unique value, by its number: the row had `old`, and takes `new`."""

    unique: int
    old: Value | None
    new: Value | None


class RowKey(NamedTuple):
    """Where a row belongs: the number of its state, and its key."""

    state: int
    key: str


@dataclass
class FoldResult:
    """The result of a fold: a result per command, the rows after it, and what must be looked up before it counts."""

    results: list[HandlerResult] = field(default_factory=list)
    states: dict[RowKey, Row] = field(default_factory=dict)
    unknown: dict[Question, set[Any]] = field(default_factory=lambda: defaultdict(set))
    appended: list[AppendedRows] = field(default_factory=list)


@dataclass(frozen=True)
class FoldPlan:
    """The states of a stream, with what their rows refer to and what refers to them.

    `inside`: name of a state of this stream -> its number. `referring`: for each state, what of other streams keeps its
    rows from being deleted. `facts`: class of a command -> the table to which its decisions append rows.
    `sealer`: encrypts what is secret in their events, if anything is.
    """

    states: Sequence[State]
    referring: Sequence[Sequence[tuple[State, Reference]]]
    inside: Mapping[str, int]
    facts: Mapping[type, FactTable] = field(default_factory=dict)
    sealer: EventSealer | None = None

    @classmethod
    def of(
        cls,
        states: Sequence[State],
        referring: Mapping[str, Sequence[tuple[State, Reference]]] | None = None,
        facts: Mapping[type, FactTable] | None = None,
        sealer: EventSealer | None = None,
    ) -> FoldPlan:
        """Return the plan of a stream's states; `referring`: see `Stream`."""
        children = [(referring or {}).get(state.name, ()) for state in states]
        inside = {state.name: number for number, state in enumerate(states)}
        return cls(states, children, inside, facts or {}, sealer)


class Fold:
    """One pass over the commands of a batch, in order."""

    def __init__(self, plan: FoldPlan, answers: Answers, encode: Encode) -> None:
        """`answers`: to the questions of earlier passes, and the rows of all keys of the commands."""
        self._plan = plan
        self._encode = encode
        self._answers = answers
        numbers = range(len(plan.states))
        self._rows = [dict(answers.get(RowOf(number), {})) for number in numbers]
        self._data_keys = [answers.get(DataKeyOf(number), {}) for number in numbers]
        self._holders = [
            [dict(answers.get(HolderOf(number, index), {})) for index in range(len(state.unique))]
            for number, state in enumerate(plan.states)
        ]
        self._held = [self._values_of(number) for number in numbers]
        self.result = FoldResult()

    def decide(self, decide: DecideCommand) -> None:
        """Decide one command and, if it is accepted, evolve its row."""
        result: HandlerResult
        try:
            result = self.decide_one(decide)
        except Exception as fault:  # noqa: BLE001  a rule's bug must not stop its lane: the record is parked
            result = crashed(fault, quoted=self._plan.sealer is None)
        self.result.results.append(result)

    def decide_one(self, decide: DecideCommand) -> list[EncodedEvent] | AppliedRows | Rejected:
        """Decide one command without noting the result; what the context's code raises passes."""
        number, key, spec, _, at, *_ = decide
        before = self._rows[number].get(key)
        decision = self._decision(decide, before)
        if isinstance(decision, Rejected):
            return decision
        if not decision.events:
            return []
        evolve, after = self._plan.states[number].after, before
        for event in decision.events:
            after = evolve(after, event, at)
        # of a pass that waits for answers nothing is used, and encoding is the dearest part of it
        events = [] if self.result.unknown else self._encode(decision, decide)
        if isinstance(events, Rejected):
            return events
        moves = self._moves(number, key, after)
        if conflict := self._conflict(number, key, before, after) or self._contest(number, key, moves):
            return conflict
        if spec.into is None and not decision.rows:
            self._move(number, key, after, moves)
            return events
        rows = self._complete(decide, decision)
        if isinstance(rows, Rejected):
            return rows
        self._move(number, key, after, moves)
        self.result.appended.append(AppendedRows(len(self.result.results), spec.model, rows))
        return AppliedRows(events, len(rows))

    def _decision(self, decide: DecideCommand, before: Row) -> Accepted | Rejected:
        """Return what the rule answers, with the secrets of its events encrypted."""
        number, key, spec, command, at, *_ = decide
        if spec.timed_checks and (refusal := spec.refusal(command, at)):
            return refusal
        decision = spec.rule(before, command, at) if spec.clocked else spec.rule(before, command)
        if isinstance(decision, Rejected):
            return decision
        if not isinstance(decision, Accepted):
            raise ContractError(f"a rule answers accepted(...) or rejected(...), not {decision!r}")
        sealer = self._plan.sealer
        return decision if sealer is None else self._encrypted(sealer, number, key, decision)

    def _complete(self, decide: DecideCommand, decision: Accepted) -> list[tuple[Any, ...]] | Rejected:
        """Return the rows that a decision appends, or why its command is refused."""
        model, into = decide.spec.model, decide.spec.into
        if into is None:
            raise ContractError(f"{model.__name__} appends rows, but to no table: decide(..., into=table)")
        facts = self._plan.facts[model]
        rows = complete(facts, decision.rows, decide.command_id)
        if facts.time_at is not None and facts.rejects_late:
            starts = [self._ask(LateIn(model), row[facts.time_at], suits=None) for row in rows]
            if late := next(filter(None, starts), None):
                return range_closed(late)
        return rows

    def _encrypted(
        self, sealer: EventSealer, number: int, key: str, decision: Accepted
    ) -> Accepted | Rejected:
        """Encrypt the secrets of events before anything is made of them; the rows before hold what was encrypted."""
        for event in decision.events:
            if sealer.filled(number, event):
                break
        else:
            return decision
        data_key = self._data_keys[number].get(key)
        if data_key is None:
            self.result.unknown[DataKeyOf(number)].add(key)
        if data_key is None or self.result.unknown:  # a look-up is missing: nothing of this pass counts
            return decision
        return sealer.seal(number, key, data_key, decision, self._rows[number].get(key))

    # --- what must hold across rows ---

    def _conflict(self, number: int, key: str, before: Row, after: Row) -> Rejected | None:
        state = self._plan.states[number]
        if state.refers and (refusal := self._dangles(state, before, after)):
            return refusal
        return self._is_needed(number, key, before, after) if self._plan.referring[number] else None

    def _dangles(self, state: State, before: Row, after: Row) -> Rejected | None:
        """Refuse if the row would begin to refer to what is not in force."""
        if not state.in_force(after):
            return None
        held = state.in_force(before)
        for reference in state.refers:
            other = getattr(after, reference.column)
            began = not held or getattr(before, reference.column) != other
            if other is None or not (began or reference.always):
                continue
            if not self._is_in_force(reference.to, other):
                return Rejected(reference.code, not_in_force(reference, other))
        return None

    def _is_in_force(self, name: str, key: str) -> bool:
        number = self._plan.inside.get(name)
        if number is None:
            return bool(self._ask(InForce(name), key, suits=True))
        if key not in self._rows[number]:
            self.result.unknown[RowOf(number)].add(key)
            return True
        return self._plan.states[number].in_force(self._rows[number][key])

    def _is_needed(self, number: int, key: str, before: Row, after: Row) -> Rejected | None:
        """Refuse if the row would be deleted while others refer to it."""
        state = self._plan.states[number]
        if state.in_force(after) or not state.in_force(before):
            return None
        for index, (child, reference) in enumerate(self._plan.referring[number]):
            if self._ask(ReferredTo(number, index), key, suits=False):
                return Rejected(RejectionCode.STILL_REFERRED_TO, referred_to(child, reference, key))
        return None

    def _ask(self, question: Question, value: Any, *, suits: Any) -> Any:
        """Return the answer, or `suits` where it is not known yet."""
        known = self._answers.get(question, {})
        if value not in known:
            self.result.unknown[question].add(value)
            return suits
        return known[value]

    def _moves(self, number: int, key: str, after: Row) -> list[Move]:
        moves = []
        for index, unique in enumerate(self._plan.states[number].unique):
            old, new = self._held[number][index].get(key), unique.of(after)
            if old != new:
                moves.append(Move(index, old, new))
        return moves

    def _contest(self, number: int, key: str, moves: Sequence[Move]) -> Rejected | None:
        """Refuse if another row holds a value that this one would newly take."""
        for index, _, value in moves:
            if value is None:
                continue
            holders = self._holders[number][index]
            if value not in holders:
                self.result.unknown[HolderOf(number, index)].add(value)
            elif holders[value] not in (None, key):
                unique = self._plan.states[number].unique[index]
                return Rejected(unique.code, taken(unique, value))
        return None

    # --- what an accepted command changes ---

    def _move(self, number: int, key: str, after: Row, moves: Sequence[Move]) -> None:
        self._rows[number][key] = after
        self.result.states[RowKey(number, key)] = after
        for index, old, new in moves:
            holders = self._holders[number][index]
            self._held[number][index][key] = new
            if old is not None and holders.get(old) == key:
                holders[old] = None
            if new is not None:
                holders[new] = key

    def _values_of(self, number: int) -> list[dict[str, Value | None]]:
        """Return key -> the value that its row has, of each unique value, and note who holds it."""
        present = [(key, row) for key, row in self._rows[number].items() if row is not None]
        held: list[dict[str, Value | None]] = []
        for unique, holders in zip(self._plan.states[number].unique, self._holders[number], strict=True):
            values = {key: unique.of(row) for key, row in present}
            holders.update((value, key) for key, value in values.items() if value is not None)
            held.append(values)
        return held


def fold_all(
    plan: FoldPlan, answers: Answers, encode: Encode, commands: Sequence[DecideCommand]
) -> FoldResult:
    """Fold commands in order."""
    fold = Fold(plan, answers, encode)
    for decide in commands:
        fold.decide(decide)
    return fold.result
