"""What an entity may declare beside its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tidemill.api.indexes import DeclaredIndex
from tidemill.domain.context import DecideSpec
from tidemill.domain.decision import Rejected
from tidemill.domain.messages import EventBase
from tidemill.domain.state import Expiry, SignInColumns

Rule = Callable[[Any, Any, datetime], Rejected | None]
"""`(row | None, command, at) -> Rejected | None`: an own rule, asked when those of the entity are content."""


Deletion = Literal["soft", "hard"]
"""What a deletion leaves: the whole row, or its key and version alone."""


@dataclass(frozen=True)
class UniqueFields:
    """Fields whose values together only one row in force may have.

    `ignore_case`: texts that differ in case are equal.
    """

    fields: tuple[str, ...]
    code: str
    ignore_case: bool


def unique(*fields: str, code: str = "", ignore_case: bool = False) -> UniqueFields:
    """Declare that only one row in force may have these values; a null value is nobody's.

    `code`: what a command that would take a held value is rejected with; by default `FIELD_TAKEN`, of the last field.
    """
    return UniqueFields(fields, code or f"{fields[-1].upper()}_TAKEN", ignore_case)


@dataclass(frozen=True)
class Refers:
    """A field that holds the key of a row of another entity."""

    field: str
    to: str
    code: str
    restrict: bool


def refers(field: str, *, to: str, code: str, restrict: bool = False) -> Refers:
    """Declare that `field` refers to a row of the collection `to`, which must be in force when the command commits.

    `code`: what a command is rejected with if it is not. `restrict`: the other row cannot be deleted while this one is
    in force; otherwise it may be, and the reference is left as it is.
    """
    return Refers(field, to, code, restrict)


@dataclass(frozen=True)
class Step:
    """A step in the life of an entity; see `step`."""

    verb: str
    participle: str
    before: tuple[str, ...]
    to: str
    sets: tuple[str, ...]
    at: str


def step(
    verb: str, participle: str, *, before: tuple[str, ...], to: str, sets: tuple[str, ...] = (), at: str = ""
) -> Step:
    """Declare a step of a life: command `Submit...`, event `...Submitted`.

    `before`: the states from which it may be taken; `to`: the state after it. `sets`: fields whose values the command
    brings. `at`: a field that gets the time of the event.
    """
    return Step(verb, participle, before, to, sets, at)


@dataclass(frozen=True)
class Life:
    """The states of an entity, kept in the field `status`, and the steps between them.

    `updates`: the states in which other fields may be updated; none given: all. `code`: of what comes out of turn.
    """

    start: str
    steps: tuple[Step, ...]
    code: str = "WRONG_STATUS"
    updates: tuple[str, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """Return all states, the first one first."""
        return tuple(dict.fromkeys((self.start, *(each.to for each in self.steps))))

    @property
    def brought(self) -> frozenset[str]:
        """Return the fields that steps fill."""
        return frozenset(name for each in self.steps for name in (*each.sets, *filter(None, [each.at])))


@dataclass(frozen=True)
class Extra:
    """Own commands of an entity. `evolve(row, event, at)` gets the `events` that the entity does not know.

    `fields`: those of the class that only `evolve` fills; each has a default, with which a row begins. `lapse`: what
    the service itself decides about a row once a time of it is over, while the row stays in force.
    """

    commands: tuple[DecideSpec, ...] = ()
    events: tuple[type[EventBase], ...] = ()
    evolve: Callable[[Any, Any, datetime], Any] | None = None
    codes: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    lapse: Expiry | None = None


@dataclass(frozen=True)
class Options:
    """All that one entity declares beside its fields."""

    unique: Sequence[UniqueFields]
    refers: Sequence[Refers]
    index: Sequence[DeclaredIndex]
    life: Life | None
    rules: Sequence[Rule]
    more: Extra
    hidden: Sequence[str] = ()
    sign_in: SignInColumns | None = None
    delete: Deletion = "soft"
    expires: str = ""

    @property
    def brought(self) -> frozenset[str]:
        """Return the fields that the steps of a life fill."""
        return self.life.brought if self.life else frozenset()

    @property
    def kept_from_commands(self) -> frozenset[str]:
        """Return the fields that neither a creation nor an update brings."""
        status = frozenset({"status"}) if self.life else frozenset()
        return self.brought | status | frozenset(self.more.fields)

    @property
    def ignoring_case(self) -> tuple[str, ...]:
        """Return the fields that are unique without regard to case."""
        return tuple(name for each in self.unique if each.ignore_case for name in each.fields)
