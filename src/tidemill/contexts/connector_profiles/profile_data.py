"""Which JSON a profile may hold: an object whose `type`, which is indexed, is a short text."""

from __future__ import annotations

import json
from typing import Final

from tidemill.api import json_object

MAX_TYPE_CHARACTERS: Final = 200


def checked(text: str) -> str:
    """Return `text` unchanged if it is a JSON object that can be stored.

    Raises:
        ValueError: it is not; the message says why.
    """
    kind = json_object(text, "profile_data").get("type")
    if kind is not None and not (isinstance(kind, str) and len(kind) <= MAX_TYPE_CHARACTERS):
        raise ValueError(f"profile_data's type is not a text of at most {MAX_TYPE_CHARACTERS} characters")
    return text


def type_of(text: str) -> str | None:
    """Return the member `type` of profile data that was checked."""
    value = json.loads(text).get("type")
    return value if isinstance(value, str) else None
