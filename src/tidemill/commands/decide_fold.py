"""The fold of `decide` commands: pure, in order, key by key, with the values that must stay unique across keys.

The result must not depend on where a batch is cut. So a value's holder is followed through the batch like state: taken
by the first that is accepted, freed when its holder releases it. Which values matter is only known while folding; a
fold that finds a value whose holder was not loaded adds it to `unknown` and treats it as free. The caller loads
the holders and folds again, until nothing is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from tidemill.commands.validation import crashed
from tidemill.domain.context import DecideSpec, State, Unique
from tidemill.domain.decision import Accepted, Rejected
from tidemill.domain.errors import Unreadable
from tidemill.domain.messages import CommandBase

Value = tuple[Any, ...]
Holders = Mapping[int, Mapping[Value, str | None]]
"""Index of the `Unique` in `State.unique` -> value -> key of its holder, None where it is free."""


class EncodedEvent(NamedTuple):
    """An event as it will be published: its Avro full name and its framed value."""

    type: str
    payload: bytes


HandlerResult = list[EncodedEvent] | Rejected | Unreadable
"""The events of an applied command (possibly none), its rejection, or the failure of its rule, which parks it."""


@dataclass
class FoldResult:
    """The result of a fold: a result per command, the states after it, and the values whose holder must be loaded."""

    results: list[HandlerResult] = field(default_factory=list)
    states: dict[str, Any] = field(default_factory=dict)
    unknown: dict[int, set[Value]] = field(default_factory=lambda: defaultdict(set))


class Fold:
    """One pass over the commands of a batch, in order."""

    def __init__(
        self,
        state: State,
        loaded: Mapping[str, Any],
        holders: Holders,
        encode: Callable[[Accepted], list[EncodedEvent] | Rejected],
    ) -> None:
        """`loaded`: key -> state before the batch. `encode` refuses a decision whose events are too large to send."""
        self._state = state
        self._encode = encode
        self._states = dict(loaded)
        self._holders = [dict(holders.get(index, {})) for index in range(len(state.unique))]
        self.result = FoldResult()
        for key, held in loaded.items():
            self._take_all(key, held)

    def decide(self, key: str, spec: DecideSpec, command: CommandBase, at: datetime) -> None:
        """Decide one command and, if it is accepted, evolve its aggregate."""
        try:
            result = self._decide(key, spec, command, at)
        except Exception as fault:  # noqa: BLE001  a rule's bug must not stop its lane: the record is parked
            result = crashed(fault)
        self.result.results.append(result)

    def _decide(self, key: str, spec: DecideSpec, command: CommandBase, at: datetime) -> HandlerResult:
        before = self._states.get(key)
        decision = spec.rule(before, command)
        if isinstance(decision, Rejected):
            return decision
        if not isinstance(decision, Accepted):
            raise TypeError(f"a rule answers accepted(...) or rejected(...), not {decision!r}")
        if not decision.events:
            return []
        after = self._evolve(before, decision, at)
        events = self._encode(decision)
        if isinstance(events, Rejected):
            return events
        if refusal := self._contest(key, before, after):
            return refusal
        self._move(key, before, after)
        self.result.states[key] = after
        return events

    def _evolve(self, before: Any, decision: Accepted, at: datetime) -> Any:
        state = before
        for event in decision.events:
            state = self._state.after(state, event, at)
        return state

    def _contest(self, key: str, before: Any, after: Any) -> Rejected | None:
        """Refuse if another aggregate holds a value that this one would take."""
        for index, unique in enumerate(self._state.unique):
            value = unique.of(after)
            if value is None or (before is not None and unique.of(before) == value):
                continue
            if value not in self._holders[index]:
                self.result.unknown[index].add(value)
            elif self._holders[index][value] not in (None, key):
                return Rejected(unique.code, taken(unique, value))
        return None

    def _move(self, key: str, before: Any, after: Any) -> None:
        if before is not None:
            for index, unique in enumerate(self._state.unique):
                held = unique.of(before)
                if held is not None and self._holders[index].get(held) == key:
                    self._holders[index][held] = None
        self._states[key] = after
        self._take_all(key, after)

    def _take_all(self, key: str, state: Any) -> None:
        for index, unique in enumerate(self._state.unique):
            value = unique.of(state)
            if value is not None:
                self._holders[index][value] = key


def taken(unique: Unique, value: Value) -> str:
    """Return the message for a command that would take a value of another aggregate."""
    pairs = ", ".join(f"{column} {part!r}" for column, part in zip(unique.columns, value, strict=True))
    return f"{pairs} is taken: choose a different one, or free it first"


def fold_all(
    state: State,
    loaded: Mapping[str, Any],
    holders: Holders,
    encode: Callable[[Accepted], list[EncodedEvent] | Rejected],
    commands: Sequence[tuple[str, DecideSpec, CommandBase, datetime]],
) -> FoldResult:
    """Fold (key, spec, command, time of its event) in order."""
    fold = Fold(state, loaded, holders, encode)
    for key, spec, command, at in commands:
        fold.decide(key, spec, command, at)
    return fold.result
