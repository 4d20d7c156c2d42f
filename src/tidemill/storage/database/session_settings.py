"""Settings of every session, from its first statement on, whatever a database, a login or the environment sets.

They decide how statements are read and how names are written. They are sent as the session begins, because a driver
asks for names of types and functions as soon as it is connected. What the text of a value depends on is pinned in the
transactions of the archive, by `storage.retention.digest_sql`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SPELLING: Final[Mapping[str, str]] = {
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
}


def libpq_options(settings: Mapping[str, str], given: str = "") -> str:
    """Return libpq's `options` that set these, behind those that an address has: the last one counts."""
    return " ".join([*given.split(), *(f"-c {name}={value}" for name, value in settings.items())])
