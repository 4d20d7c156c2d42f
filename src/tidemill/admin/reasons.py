"""Why an operator decided something: a text that is kept."""

from __future__ import annotations

from typing import Final

from tidemill.domain.errors import UsageError

_MAX_REASON: Final = 500


def reason_of(text: str) -> str:
    """Return a reason as it is kept. Raises `UsageError` for one that says nothing, or too much."""
    reason = " ".join(text.split())
    if not reason or len(reason) > _MAX_REASON:
        raise UsageError(f"--reason: say in at most {_MAX_REASON} characters why; it is kept")
    return reason
