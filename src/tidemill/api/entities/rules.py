"""The rules that follow from the declaration of an entity."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from tidemill.api.entities.messages import EntityMessages, Naming
from tidemill.api.entities.options import Options, Step
from tidemill.domain.decision import Decision, Rejected, accepted
from tidemill.domain.messages import EventBase

ALREADY_EXISTS: Final = "ALREADY_EXISTS"
NOT_FOUND: Final = "NOT_FOUND"
VERSION_CONFLICT: Final = "VERSION_CONFLICT"
EXPIRED: Final = "EXPIRED"

Decide = Callable[[Any, Any, datetime], Decision]


class EntityRules:
    """What may happen to a row, before own rules are asked."""

    def __init__(self, naming: Naming, messages: EntityMessages, options: Options) -> None:
        self._naming = naming
        self._messages = messages
        self._life = options.life
        self._own = options.rules
        self._hard = options.delete == "hard"
        self._expires = options.expires

    def create(self, row: Any, command: Any, at: datetime) -> Decision:
        """Accept a key that was never used; also a deleted row keeps it, unless its deletion is for good.

        A row whose time is over is as if it were deleted, whether it was removed yet or not.
        """
        if row is not None and not (self._hard and (row.deleted or self._is_over(row, at))):
            since = f"exists since {row.created_at.isoformat(timespec='seconds')}"
            return Rejected(ALREADY_EXISTS, f"{self._named(command)} {since}")
        return self._already_over(command, at) or self._unless_refused(
            self._messages.created, row, command, at
        )

    def update(self, row: Any, command: Any, at: datetime) -> Decision:
        """Accept a change of a row in force that is still the one its sender saw."""
        return (
            self._absent(row, command, at)
            or self._fixed(row, command)
            or self._already_over(command, at)
            or self._unless_refused(self._messages.updated, row, command, at)
        )

    def delete(self, row: Any, command: Any, at: datetime) -> Decision:
        """Accept the end of a row in force that is still the one its sender saw."""
        return self._absent(row, command, at) or self._unless_refused(
            self._messages.deleted, row, command, at
        )

    def expire(self, row: Any, command: Any, at: datetime) -> Decision:
        """Accept the end of a row whose time is over; one that was renewed or replaced meanwhile stays."""
        if row is None or row.deleted or not self._is_over(row, at):
            return Rejected(NOT_FOUND, f"there is no {self._named(command)} whose time is over")
        return accepted(self._messages.deleted.of(command))

    def step(self, step: Step, event: type[EventBase]) -> Decide:
        """Return the rule of a step of the entity's life."""

        def take(row: Any, command: Any, at: datetime) -> Decision:
            return (
                self._absent(row, command, at)
                or self._out_of_turn(step, row, command)
                or self._unless_refused(event, row, command, at)
            )

        return take

    def _unless_refused(self, event: type[EventBase], row: Any, command: Any, at: datetime) -> Decision:
        for rule in self._own:
            refusal = rule(row, command, at)
            if refusal is not None:
                return refusal
        return accepted(event.of(command))

    def _is_over(self, row: Any, at: datetime) -> bool:
        ends = getattr(row, self._expires) if self._expires else None
        return ends is not None and ends <= at

    def _already_over(self, command: Any, at: datetime) -> Rejected | None:
        """Refuse a time that is over already: nobody would ever see the row."""
        if not (self._expires and self._is_over(command, at)):
            return None
        over, now = (time.isoformat() for time in (getattr(command, self._expires), at))
        return Rejected(
            EXPIRED, f"{self._expires} of {self._named(command)} is {over}, which is over at {now}"
        )

    def _absent(self, row: Any, command: Any, at: datetime) -> Rejected | None:
        """Refuse a command for a row that is not in force, belongs elsewhere, or changed since its sender saw it."""
        parent = self._naming.parent
        if row is None or (parent and getattr(row, parent) != getattr(command, parent)):
            return Rejected(NOT_FOUND, f"there is no {self._named(command)}")
        if row.deleted:
            since = row.updated_at.isoformat(timespec="seconds")
            return Rejected(NOT_FOUND, f"{self._named(command)} was deleted at {since}")
        if self._is_over(row, at):
            return Rejected(
                NOT_FOUND, f"{self._named(command)} expired at {getattr(row, self._expires).isoformat()}"
            )
        if command.expected_version not in (None, row.version):
            return Rejected(
                VERSION_CONFLICT,
                f"{self._named(command)} has version {row.version}, not {command.expected_version}",
            )
        return None

    def _fixed(self, row: Any, command: Any) -> Rejected | None:
        """Refuse an update in a status in which the fields no longer change."""
        updates = self._life.updates if self._life else ()
        return self._unless_status(row, command, updates, "update") if updates else None

    def _out_of_turn(self, step: Step, row: Any, command: Any) -> Rejected | None:
        return self._unless_status(row, command, step.before, step.verb.lower())

    def _unless_status(self, row: Any, command: Any, expected: tuple[str, ...], verb: str) -> Rejected | None:
        if row.status in expected:
            return None
        assert self._life is not None
        return Rejected(
            self._life.code,
            f"{self._named(command)} is {row.status}; {verb} takes one that is {' or '.join(expected)}",
        )

    def _named(self, command: Any) -> str:
        return f"{self._naming.noun} {getattr(command, self._naming.key)!r}"
