"""Tools for unit tests of a context: messages, published events, and a context that runs in memory.

Nothing here connects to a server. Rules, `evolve` and folds are pure functions, so most tests call them directly; the
context in memory runs them together, as the service does, and reports mistakes in the declaration.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import copy
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, TypeVar

from tidemill.api import (
    Accepted,
    AppendSpec,
    CommandBase,
    CommandSpec,
    Context,
    ContractError,
    DecideSpec,
    Decision,
    EventBase,
    Key,
    Message,
    Projection,
    Recorded,
    Rejected,
)
from tidemill.commands.decide_fold import (
    DecideCommand,
    EncodedEvent,
    Fold,
    FoldPlan,
    HolderOf,
    InForce,
    LateIn,
    Question,
    ReferredTo,
    RowOf,
)
from tidemill.commands.fact_rows import FactTable, decided_tables, row_maker
from tidemill.projections.fold import fold, keyed

__all__ = ["NOW", "ContextInMemory", "recorded", "rows_of", "sample"]

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""The default time of a test."""

M = TypeVar("M", bound=Message)


def sample(model: type[M], **values: Any) -> M:
    """Return a command or an event with these values; those of the base fields that are missing are filled in.

    Raises:
        ValidationError: a value breaks a rule of its field.
    """
    base = {"command_id": "c-1", "service_name": "tests", "timestamp": NOW}
    return model.model_validate(base | values)


def recorded(*events: EventBase, lane: int = 0, at: datetime = NOW) -> list[Recorded[EventBase]]:
    """Return published events of a lane, numbered from 1."""
    return [Recorded(event, at, lane, sequence) for sequence, event in enumerate(events, start=1)]


def rows_of(projection: Projection, events: Iterable[Recorded[EventBase]]) -> dict[Key, Any]:
    """Return the rows that a read model has after these events, by key, with what the engine fills.

    Raises:
        FoldFailed: the code of the projection raised.
    """
    rows: dict[Key, Any] = {}
    for event in events:
        _fold_into(rows, projection, event)
    return rows


class ContextInMemory:
    """A context that takes commands one after the other and stores their results.

    `now`: the server's time, which a test may change. `events`: all that was published. The lane is always 0.
    `in_force`: name of a collection of another context -> the keys that are in force there, which a test may change.
    """

    def __init__(
        self,
        context: Context,
        *,
        now: datetime = NOW,
        in_force: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.now = now
        self.events: list[EventBase] = []
        self.in_force = dict(in_force or {})
        self._context = context
        self._specs = {spec.model: spec for spec in context.commands}
        self._plan = FoldPlan.of(context.states, facts=decided_tables(context.commands, None))
        self._states: list[dict[str, Any]] = [{} for _ in context.states]
        self._rows: dict[str, dict[Key, Any]] = {each.name: {} for each in context.projections}
        self._appended: dict[str, list[dict[str, Any]]] = {}
        self._makers = {
            spec.model: row_maker(spec, None) for spec in context.commands if isinstance(spec, AppendSpec)
        }
        self._sequences = count(1)

    def send(self, command: CommandBase) -> Decision:
        """Apply a command, or reject it; return the decision, with the events or the code.

        Raises:
            ContractError: the context does not declare the command, or one of the events that it caused.
        """
        key, spec = self._context.key(command), self._spec(command)
        decision = self._decided(spec, key, command)
        if isinstance(decision, Accepted):
            for event in decision.events:
                self._publish(key, event)
        return decision

    def state(self, key: str, collection: str = "") -> Any:
        """Return the row with this key, None if nothing happened to it; `collection`: of a family, whose."""
        names = [state.name for state in self._context.states]
        return self._states[names.index(collection) if collection else 0].get(key)

    def rows(self, projection: str) -> dict[Key, Any]:
        """Return copies of the rows of a read model, by key."""
        return {key: copy(row) for key, row in self._rows[projection].items()}

    def appended(self, table: str) -> list[dict[str, Any]]:
        """Return the rows that `append` and `accepted(rows=...)` made for a table, each by the names of its columns."""
        return list(self._appended.get(table, ()))

    def _spec(self, command: CommandBase) -> CommandSpec:
        spec = self._specs.get(type(command))
        if spec is None:
            raise ContractError(f"context {self._context.aggregate} declares no {type(command).__name__}")
        return spec

    def _decided(self, spec: CommandSpec, key: str, command: CommandBase) -> Decision:
        if isinstance(spec, AppendSpec):
            return spec.refusal(command, self.now) or self._append(spec, command)
        if isinstance(spec, DecideSpec) and self._context.states:
            return self._ruled(spec, key, command)
        raise ContractError(f"{type(command).__name__} is declared by neither append nor decide")

    def _append(self, spec: AppendSpec, command: CommandBase) -> Accepted:
        facts, make = self._makers[spec.model]
        self._note(facts, make(command, command.command_id))
        return Accepted((spec.event.of(command),))

    def _note(self, facts: FactTable, rows: Iterable[tuple[Any, ...]]) -> None:
        named = (dict(zip(facts.columns, row, strict=True)) for row in rows)
        self._appended.setdefault(facts.table.name, []).extend(named)

    def _ruled(self, spec: DecideSpec, key: str, command: CommandBase) -> Decision:
        """Fold the command as the engine does, until all that it asks about other rows is answered."""
        number = self._context.states.index(spec.state) if spec.state else 0
        own_key = spec.key(command) if spec.key else key
        made: list[Accepted] = []

        def encode(accepted: Accepted, _: DecideCommand) -> list[EncodedEvent]:
            for event in accepted.events:
                if type(event) not in self._plan.states[number].events:
                    raise ContractError(f"{type(event).__name__} is missing in the events of State")
            made.append(accepted)
            return []

        answers: dict[Question, dict[Any, Any]] = {
            RowOf(each): dict(rows) for each, rows in enumerate(self._states)
        }
        while True:
            fold = Fold(self._plan, answers, encode)
            command_id = command.command_id
            result = fold.decide_one(DecideCommand(number, own_key, spec, command, self.now, command_id))
            if not fold.result.unknown:
                break
            for question, values in fold.result.unknown.items():
                answers.setdefault(question, {}).update(
                    {value: self._answer(question, value) for value in values}
                )
        for row_key, row in fold.result.states.items():
            self._states[row_key.state][row_key.key] = row
        if isinstance(result, Rejected):
            return result
        for appended in fold.result.appended:
            self._note(self._plan.facts[appended.model], appended.rows)
        return made[-1] if made else Accepted(())

    def _answer(self, question: Question, value: Any) -> Any:
        match question:
            case RowOf(number):
                return self._states[number].get(value)
            case HolderOf(number, index):
                unique = self._plan.states[number].unique[index]
                return next(
                    (key for key, row in self._states[number].items() if unique.of(row) == value), None
                )
            case InForce(name):
                return value in self.in_force.get(name, ())
            case ReferredTo():
                return False
            case LateIn():  # nothing is archived in memory
                return None

    def _publish(self, key: str, event: EventBase) -> None:
        self.events.append(event)
        published = Recorded(event, self.now, 0, next(self._sequences), key.encode())
        for projection in self._context.projections:
            _fold_into(self._rows[projection.name], projection, published)


def _fold_into(rows: dict[Key, Any], projection: Projection, event: Recorded[EventBase]) -> None:
    touches = keyed(projection, [event])
    changes = fold(projection, touches, {key: rows[key] for key, _, _ in touches if key in rows})
    for row in [*changes.new, *changes.changed]:
        rows[tuple(getattr(row, name) for name in projection.key_columns)] = row
    for key in changes.gone:
        del rows[key]
