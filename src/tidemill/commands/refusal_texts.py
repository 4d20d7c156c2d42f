"""What the sender of a command is told that does not fit the rows of others."""

from __future__ import annotations

from typing import Any

from tidemill.domain.state import Reference, State, Unique


def taken(unique: Unique, value: tuple[Any, ...]) -> str:
    """Return the message for a command that would take a value of another aggregate."""
    names = unique.shown or unique.columns
    pairs = ", ".join(f"{name} {part!r}" for name, part in zip(names, value, strict=True))
    return f"{pairs} is taken: choose a different one, or free it first"


def not_in_force(reference: Reference, key: str) -> str:
    """Return what the sender of a reference to a missing or deleted row is told."""
    return f"{reference.column} {key!r}: {reference.to} has no such row in force; create it first"


def referred_to(child: State, reference: Reference, key: str) -> str:
    """Return what is said where a row cannot be deleted."""
    return f"rows of {child.name} refer to {key!r} by {reference.column}: delete those first"
