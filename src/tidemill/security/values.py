"""Encrypted values of fields: whole texts, and members of JSON objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from tidemill.domain.secrets import SealedText, Secret
from tidemill.security.data_keys import DataKey, Place
from tidemill.security.json_members import Member, exchange

OpenText = Callable[[SealedText, Place], str]
"""Returns the clear text of an encrypted one at its place."""

NOT_THE_STORED: Final = "is an encrypted text that is not the stored one: send the value itself"
"""What is said of a value that was read from an event and changed or moved before it was sent."""


class SealedElsewhere(Exception):
    """What was sent is an encrypted text, and not the one that is stored at its place. `field`: that place."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def sealed(secret: Secret, data_key: DataKey, place: Place, text: str, stored: str | None) -> str:
    """Return a value in its encrypted form. `stored`: what the row holds now.

    What is stored already is kept: a sender may have read it in an event, and sent it back with its changes.

    Raises:
        SealedElsewhere: the value, or a member of it, is an encrypted text that is not stored there.
    """
    if not secret.names:
        return _sealed(data_key, place, text, stored)
    kept = _members(stored)

    def seal(member: Member) -> str | None:
        if member.is_null or not secret.covers(member.path):
            return None
        inner = place.within(member.path)
        if member.string is not None and SealedText.of(member.string):
            return json.dumps(_sealed(data_key, inner, member.string, kept.get(member.path)))
        return json.dumps(data_key.seal(member.text, inner))

    return exchange(text, seal)


def _sealed(data_key: DataKey, place: Place, text: str, stored: str | None) -> str:
    if SealedText.of(text) is None:
        return data_key.seal(text, place)
    if text != stored:
        raise SealedElsewhere(place.field)
    return text


def _members(stored: str | None) -> dict[tuple[str, ...], str]:
    """Return path -> encrypted text of the members of a stored JSON object that are encrypted."""
    members: dict[tuple[str, ...], str] = {}

    def note(member: Member) -> None:
        if member.string is not None and SealedText.of(member.string):
            members[member.path] = member.string

    if stored is not None:
        exchange(stored, note)
    return members


def generations(text: str) -> frozenset[int]:
    """Return the generations of the keys that a value needs: of a text, or of all members of a JSON object."""
    if whole := SealedText.of(text):
        return frozenset({whole.generation})
    parts = [SealedText.of(part) for part in _members(text).values()] if text.startswith("{") else []
    return frozenset(part.generation for part in parts if part is not None)


def opened_members(text: str, place: Place, open_text: OpenText) -> str:
    """Return a JSON object whose encrypted members are clear again."""

    def reveal(member: Member) -> str | None:
        part = SealedText.of(member.string) if member.string is not None else None
        return None if part is None else open_text(part, place.within(member.path))

    return exchange(text, reveal)
