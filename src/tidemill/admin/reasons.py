"""The reason of an operator's decision, which is stored."""

from __future__ import annotations

from typing import Final

from tidemill.domain.errors import UsageError

_MAX_REASON: Final = 500


def reason_of(text: str) -> str:
    """Return a reason as it is stored. Raises `UsageError` for one that is empty or too long."""
    reason = " ".join(text.split())
    if not reason or len(reason) > _MAX_REASON:
        raise UsageError(f"--reason: give a reason of at most {_MAX_REASON} characters; it is stored")
    return reason
