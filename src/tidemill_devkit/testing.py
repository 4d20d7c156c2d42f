"""Tools for unit tests of a context: messages, published events, and a context that runs in memory.

Nothing here connects to a server. Rules, `evolve` and folds are pure functions, so most tests call them directly; the
context in memory runs them together, as the service does, and reports mistakes in the declaration.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    State,
)
from tidemill.commands.decide_fold import taken
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
    """

    def __init__(self, context: Context, *, now: datetime = NOW) -> None:
        self.now = now
        self.events: list[EventBase] = []
        self._context = context
        self._specs = {spec.model: spec for spec in context.commands}
        self._states: dict[str, Any] = {}
        self._rows: dict[str, dict[Key, Any]] = {each.name: {} for each in context.projections}
        self._sequences = count(1)

    def send(self, command: CommandBase) -> Decision:
        """Apply a command, or reject it; return the decision, with the events or the code.

        Raises:
            ContractError: the context does not declare the command, or one of the events that it caused.
        """
        key, spec = self._context.key(command), self._spec(command)
        decision, state = self._decided(spec, key, command)
        if isinstance(decision, Accepted):
            if state is not None:
                self._states[key] = state
            for event in decision.events:
                self._publish(key, event)
        return decision

    def state(self, key: str) -> Any:
        """Return the state of the aggregate with this key, None if nothing happened to it."""
        return self._states.get(key)

    def rows(self, projection: str) -> dict[Key, Any]:
        """Return copies of the rows of a read model, by key."""
        return {key: copy(row) for key, row in self._rows[projection].items()}

    def _spec(self, command: CommandBase) -> CommandSpec:
        spec = self._specs.get(type(command))
        if spec is None:
            raise ContractError(f"context {self._context.aggregate} declares no {type(command).__name__}")
        return spec

    def _decided(self, spec: CommandSpec, key: str, command: CommandBase) -> tuple[Decision, Any]:
        if isinstance(spec, AppendSpec):
            refusal = spec.check(command, self.now) if spec.check else None
            return refusal or Accepted((spec.event.of(command),)), None
        if isinstance(spec, DecideSpec) and self._context.state is not None:
            return self._ruled(spec, self._context.state, key, command)
        raise ContractError(f"{type(command).__name__} is declared by neither append nor decide")

    def _ruled(self, spec: DecideSpec, state: State, key: str, command: CommandBase) -> tuple[Decision, Any]:
        before = self._states.get(key)
        decision = spec.rule(before, command)
        if not isinstance(decision, Accepted | Rejected):
            raise ContractError(f"a rule answers accepted(...) or rejected(...), not {decision!r}")
        if isinstance(decision, Rejected) or not decision.events:
            return decision, before
        after = before
        for event in decision.events:
            if type(event) not in state.events:
                raise ContractError(f"{type(event).__name__} is missing in the events of State")
            after = state.after(after, event, self.now)
        return self._contested(state, key, after) or decision, after

    def _contested(self, state: State, key: str, after: Any) -> Rejected | None:
        """Refuse a value that another aggregate holds."""
        others = [other for name, other in self._states.items() if name != key]
        for unique in state.unique:
            value = unique.of(after)
            if value is not None and value in map(unique.of, others):
                return Rejected(unique.code, taken(unique, value))
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
