"""Decisions: a rule's answers to a command."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.domain.messages import EventBase


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command is applied; its events happened, in this order. No event at all is valid: nothing changed."""

    events: tuple[EventBase, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The command is refused; nothing changed. `message` is for the sender."""

    code: str
    message: str


Decision = Accepted | Rejected


def accepted(*events: EventBase) -> Accepted:
    """Accept a command with the events it caused."""
    return Accepted(events)


def rejected(code: str, message: str) -> Rejected:
    """Refuse a command with a code from `rejections.REJECTED` or from the context's own `codes`."""
    return Rejected(code, message)
