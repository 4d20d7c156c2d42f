"""Decisions: a rule's answers to a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.domain.errors import ContractError
from tidemill.domain.messages import EventBase


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command is applied; its events happened, in this order. No event at all is valid: nothing changed.

    `rows`: what is appended to the table that the command was declared with, in the order of its columns.
    """

    events: tuple[EventBase, ...]
    rows: tuple[tuple[Any, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The command is refused; nothing changed. `message` is for the sender."""

    code: str
    message: str


Decision = Accepted | Rejected


def accepted(*events: EventBase, rows: Sequence[tuple[Any, ...]] = ()) -> Accepted:
    """Accept a command with the events it caused, and the rows that it appends to the table of `decide(into=...)`.

    Each has a value for every column but `command_id`, in the order of the table.

    Raises:
        ContractError: rows without an event, of which no subscriber would learn.
    """
    if rows and not events:
        raise ContractError("accepted(rows=...) needs an event: rows are told to nobody without one")
    return Accepted(events, tuple(rows))


def rejected(code: str, message: str) -> Rejected:
    """Refuse a command with a code from `rejections.REJECTED` or from the context's own `codes`."""
    return Rejected(code, message)
